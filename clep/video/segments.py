"""Segments of a video: a few instants, each reached by decoding on, or by a seek where that saves work."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from clep.video.sampling import SampledClip, Segments
from clep.video.timestamps import TOLERANCE_S, DecodedFrame, Timeline
from clep.video.video_file import VideoFile

if TYPE_CHECKING:
    import av

# A seek throws the decoder's frames away and starts at a key frame: it must skip more than this.
_SEEK_SAVES_S = 1.0
# Where a file does not list its key frames, one may be this far before the instant that is sought.
_KEY_FRAMES_WITHIN_S = 10.0


class Walk:
    """Moves forward through a file and tells which frame is on screen; made by `walk_through`."""

    def __init__(self, file: VideoFile, timeline: Timeline) -> None:
        self._file = file
        self._timeline = timeline
        self._frames = timeline.in_order(file.frames())
        self._now = self._next = next(self._frames, None)
        self._seekable = self._now is not None and self._now[1].second is not None
        self._seekable = self._seekable and not file.stamps_are_of_packets

    def at(self, second: float) -> DecodedFrame | None:
        """The frame on screen at a second, which must not be earlier than the last one asked for."""
        if self._next is not None and self._seek_pays(second):
            self._seek(second)
        self._forward(second)
        return None if self._now is None else self._now[1]

    def rest(self) -> Iterator[object]:
        """All frames that follow."""
        return self._frames

    def _forward(self, second: float) -> None:
        while self._next is not None and self._next[0] <= second + TOLERANCE_S:
            self._now, self._next = self._next, next(self._frames, None)

    def _seek_pays(self, second: float) -> bool:
        assert self._next is not None
        here = self._next[0]
        if not self._seekable or second < here + _SEEK_SAVES_S or self._timeline.first_s is None:
            return False
        key = self._file.key_frame_before(second + self._timeline.first_s)
        if key is None:
            return second > here + 2 * _KEY_FRAMES_WITHIN_S
        return key - self._timeline.first_s > here + _SEEK_SAVES_S

    def _seek(self, second: float) -> None:
        """Go to a key frame before a second; from a file that cannot, decode on from its beginning."""
        first_s = self._timeline.first_s
        assert first_s is not None
        for back in (0.0, _KEY_FRAMES_WITHIN_S):
            if not self._file.seek(max(0.0, second - back) + first_s):
                break
            self._frames = self._timeline.in_order(_from_key_frame(self._file.frames()))
            self._next = next(self._frames, None)
            if self._next is not None and self._next[0] <= second + TOLERANCE_S:
                return
        self._seekable = False
        self._file.rewind()
        self._timeline.restart()
        self._frames = self._timeline.in_order(self._file.frames())
        self._next = next(self._frames, None)


def _from_key_frame(frames: Iterator[DecodedFrame]) -> Iterator[DecodedFrame]:
    """Leave out what a decoder gives before the first key frame's own second: it lacks what it was predicted from."""
    key: DecodedFrame | None = None
    for frame in frames:
        if key is None and frame.picture.key_frame and frame.second is not None:
            key = frame
        if key is not None and (frame.second is None or frame.second >= (key.second or 0.0)):
            yield frame


def walk_through(file: VideoFile, timeline: Timeline, enough_s: float | None = None) -> tuple[Walk, float] | None:
    """Return a walk from the first frame on, and when the video ends; None where nothing decodes.

    The end is learnt from the timestamps of the packets, or by decoding the video where they have none. A file that
    says that it lasts longer than `enough_s` seconds is taken at its word, which spares reading its packets.
    """
    if (
        enough_s is not None
        and file.stated_s is not None
        and file.stated_s > enough_s
        and not file.stamps_are_of_packets
    ):
        walk = Walk(file, timeline)
        return None if walk.at(0.0) is None else (walk, file.stated_s)
    span = file.packet_span()
    file.rewind()
    walk = Walk(file, timeline)
    first = walk.at(0.0)
    if first is None:
        return None
    if span is None or first.second is None or timeline.first_s is None:
        for _ in walk.rest():
            pass
        duration_s = timeline.end_s
        file.rewind()
        timeline.restart()
        walk = Walk(file, timeline)
    else:
        start_s = span[0] if file.stamps_are_of_packets else timeline.first_s
        duration_s = max(span[1] - start_s, timeline.interval_s)
    return walk, duration_s


def segment_clips(
    file: VideoFile,
    timeline: Timeline,
    sampling: Segments,
    frames: int,
    resize: "Callable[[av.VideoFrame], Tensor]",
) -> Iterator[SampledClip]:
    """Yield the clip of each segment, of `frames` frames each; nothing where nothing decodes."""
    begun = walk_through(file, timeline)
    if begun is None:
        return
    walk, duration_s = begun
    number, last, pixels = -1, None, None
    for row in range(sampling.rows):
        clip = []
        for second in sampling.instants(row, frames, duration_s):
            frame = walk.at(second)
            assert frame is not None
            if pixels is None or frame is not last:
                number, last, pixels = number + 1, frame, resize(frame.picture)
            clip.append((number, pixels))
        yield SampledClip(
            row * duration_s / sampling.rows,
            (row + 0.5) * duration_s / sampling.rows,
            tuple(shown for shown, _ in clip),
            tuple(tensor for _, tensor in clip),
        )
    timeline.end_s = duration_s
