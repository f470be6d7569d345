"""Clips around given seconds of a video, in one walk through it: what lies between them is skipped by seeks."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from clep.errors import InputError
from clep.video.sampling import KeyFrames, SampledClip
from clep.video.segments import walk_through
from clep.video.timestamps import TOLERANCE_S, DecodedFrame, Timeline
from clep.video.video_file import VideoFile

if TYPE_CHECKING:
    import av


def key_frame_clips(
    file: VideoFile,
    timeline: Timeline,
    sampling: KeyFrames,
    frames: int,
    resize: "Callable[[av.VideoFrame], Tensor]",
) -> Iterator[SampledClip]:
    """Yield the clip around each second, of `frames` frames each; seconds at which the video is over have none.

    Clips that overlap share frames, so the instants of all are visited in one order, and each frame is resized once.

    Raises:
        InputError: the video is over before the first second.
    """
    enough_s = max(sampling.seconds, default=0.0) + sampling.span_s if sampling.trusts_length else None
    begun = walk_through(file, timeline, enough_s)
    if begun is None:
        return
    walk, duration_s = begun
    seconds = [second for second in sampling.seconds if second < duration_s - TOLERANCE_S]
    if not seconds and sampling.seconds:
        raise InputError(
            f"{file.path} lasts {duration_s:.1f} s, and the first key frame is at {sampling.seconds[0]:.1f} s: is it "
            f"this video, and where does its clock start?"
        )
    clips = [sampling.instants(second, frames, duration_s) for second in seconds]
    visits = iter(sorted({instant for clip in clips for instant in clip}))
    shown: dict[float, tuple[int, Tensor]] = {}
    number, last = -1, None
    pixels: Tensor | None = None
    for second, clip in zip(seconds, clips, strict=True):
        while clip[-1] not in shown:
            visit = next(visits)
            frame: DecodedFrame | None = walk.at(visit)
            assert frame is not None
            if pixels is None or frame is not last:
                number, last, pixels = number + 1, frame, resize(frame.picture)
            shown[visit] = (number, pixels)
        # Clips begin one after the other: what was shown before the beginning of this one is not asked for again.
        shown = {instant: one for instant, one in shown.items() if instant >= clip[0]}
        yield SampledClip(
            max(0.0, second - sampling.span_s / 2),
            second,
            tuple(shown[instant][0] for instant in clip),
            tuple(shown[instant][1] for instant in clip),
        )
    timeline.end_s = duration_s
