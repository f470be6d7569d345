"""The clips of a video: dense windows in one pass, segments and key frames by seeking."""

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from jaxtyping import Shaped
from torch import Tensor

from clep.errors import InputError
from clep.video.decoding import TOLERANCE_S, DecodedFrame, Timeline, VideoFile
from clep.video.sampling import DenseWindows, KeyFrames, SampledClip, Segments
from clep.video.spans import FrameRule

if TYPE_CHECKING:
    import av

# Decoded frames are resized only when a clip shows them. Where those of a window would take more bytes, they are
# resized at once.
_WAITING_BYTES = 256 << 20


class _Shown:
    """A frame that is on screen from canonical frame `first` on, resized when a clip first shows it."""

    def __init__(self, first: int, number: int, picture: "av.VideoFrame") -> None:
        self.first = first
        self.number = number
        self._picture: av.VideoFrame | None = picture
        self._pixels: Tensor | None = None

    def pixels(self, resize: "Callable[[av.VideoFrame], Tensor]") -> Shaped[Tensor, "*crops 3 height width"]:
        if self._pixels is None:
            assert self._picture is not None
            self._pixels, self._picture = resize(self._picture), None
        return self._pixels


def dense_clips(
    decoded: Iterator[DecodedFrame],
    timeline: Timeline,
    sampling: DenseWindows,
    frames: int,
    resize: "Callable[[av.VideoFrame], Tensor]",
    rule: FrameRule = "middle",
) -> Iterator[SampledClip]:
    """Yield the clip of each window, of `frames` frames by a rule; none if no frame can be decoded."""
    positions = sampling.positions(frames, rule)
    shown: deque[_Shown] = deque()
    rows = 0

    def clip(start: int, last: int) -> SampledClip:
        firsts = [frame.first for frame in shown]
        chosen = [shown[bisect_right(firsts, min(start + at, last)) - 1] for at in positions]
        second = start / sampling.rate
        return SampledClip(
            second, second, tuple(frame.number for frame in chosen), tuple(frame.pixels(resize) for frame in chosen)
        )

    for number, (second, frame) in enumerate(timeline.in_order(decoded)):
        # The first frame is on screen from second 0, even if the file's clock starts before it.
        first = max(0, math.ceil((second - TOLERANCE_S) * sampling.rate)) if number else 0
        if shown and shown[-1].first == first:
            shown.pop()  # no canonical frame shows it
        elif shown and _bytes(frame) * sampling.window > _WAITING_BYTES:
            shown[-1].pixels(resize)
        shown.append(_Shown(first, number, frame.picture))
        # Canonical frames before `known` are on screen before this frame, so the video has them.
        known = min(first, round(second * sampling.rate))
        while rows * sampling.stride + sampling.window <= known:
            yield clip(rows * sampling.stride, known - 1)
            rows += 1
        # Neither the next window nor the last one, which ends with the video, starts earlier.
        while len(shown) > 1 and shown[1].first <= known - sampling.window:
            shown.popleft()
    if shown:
        total = sampling.canonical_frames(timeline.end_s)
        for start in sampling.starts(total)[rows:]:
            yield clip(start, total - 1)


def _bytes(frame: DecodedFrame) -> int:
    return sum(plane.buffer_size for plane in frame.picture.planes)


# A seek discards the decoder's frames and starts at a key frame, so it must skip more than this.
_SEEK_SAVES_S = 1.0
# Where a file does not list its key frames, the nearest may be this far before the target of a seek.
_KEY_FRAMES_WITHIN_S = 10.0


class Walk:
    """Forward pass through a file that returns the frame on screen at each second; created by `walk_through`."""

    def __init__(self, file: VideoFile, timeline: Timeline) -> None:
        self._file = file
        self._timeline = timeline
        self._frames = timeline.in_order(file.frames())
        self._now = self._next = next(self._frames, None)
        self._seekable = self._now is not None and self._now[1].second is not None
        self._seekable = self._seekable and not file.stamps_are_of_packets

    def at(self, second: float) -> DecodedFrame | None:
        """Return the frame on screen at a second, which must not be before that of the last call."""
        if self._next is not None and self._seek_pays(second):
            self._seek(second)
        self._forward(second)
        return None if self._now is None else self._now[1]

    def reaches(self, second: float) -> bool:
        """Whether the video lasts beyond a visited second: a later frame exists, or the last one is still shown."""
        return self._next is not None or second < self._timeline.end_s - TOLERANCE_S

    def rest(self) -> Iterator[object]:
        """Return an iterator over all frames that follow."""
        return self._frames

    def _forward(self, second: float) -> None:
        while self._next is not None and self._next[0] <= second + TOLERANCE_S:
            self._now, self._next = self._next, next(self._frames, None)

    def _seek_pays(self, second: float) -> bool:
        assert self._next is not None
        here = self._next[0]
        if (
            not self._seekable
            or self._file.discontinuities
            or second < here + _SEEK_SAVES_S
            or self._timeline.zero_s is None
        ):
            return False
        key = self._file.key_frame_before(second + self._timeline.zero_s)
        if key is None:
            return second > here + 2 * _KEY_FRAMES_WITHIN_S
        return key - self._timeline.zero_s > here + _SEEK_SAVES_S

    def _seek(self, second: float) -> None:
        """Seek to a key frame before a second; decode from the beginning if the file cannot seek."""
        zero_s = self._timeline.zero_s
        assert zero_s is not None
        for back in (0.0, _KEY_FRAMES_WITHIN_S):
            if not self._file.seek(max(0.0, second - back) + zero_s):
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
    """Skip frames before the time of the first key frame, whose reference frames are missing."""
    key: DecodedFrame | None = None
    for frame in frames:
        if key is None and frame.picture.key_frame and frame.second is not None:
            key = frame
        if key is not None and (frame.second is None or frame.second >= (key.second or 0.0)):
            yield frame


def walk_through(file: VideoFile, timeline: Timeline, enough_s: float | None = None) -> tuple[Walk, float] | None:
    """Return a walk from the first frame, and the end of the video in seconds; None if no frame can be decoded.

    The end is found from the timestamps of the packets, or by decoding the video if they have none. If the header
    states a length above `enough_s` seconds, it is trusted, which avoids reading all packets.
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
    if span is None or first.second is None or timeline.zero_s is None:
        for _ in walk.rest():
            pass
        duration_s = timeline.end_s
        file.rewind()
        timeline.restart()
        walk = Walk(file, timeline)
    else:
        start_s = span[0] if file.stamps_are_of_packets else timeline.zero_s
        duration_s = max(span[1] - start_s, timeline.interval_s)
    return walk, duration_s


def segment_clips(
    file: VideoFile,
    timeline: Timeline,
    sampling: Segments,
    frames: int,
    resize: "Callable[[av.VideoFrame], Tensor]",
) -> Iterator[SampledClip]:
    """Yield the clip of each segment, of `frames` frames each; none if no frame can be decoded."""
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


def key_frame_clips(
    file: VideoFile,
    timeline: Timeline,
    sampling: KeyFrames,
    frames: int,
    resize: "Callable[[av.VideoFrame], Tensor]",
) -> Iterator[SampledClip]:
    """Yield the clip around each second, of `frames` frames each; none for seconds after the end of the video.

    Overlapping clips share frames: the instants of all clips are visited in order, and each frame is resized once.

    Raises:
        InputError: the video ends before the first second.
    """
    enough_s = max(sampling.seconds, default=0.0) + sampling.span_s if sampling.trusts_length else None
    begun = walk_through(file, timeline, enough_s)
    if begun is None:
        return
    walk, duration_s = begun
    seconds = [second for second in sampling.seconds if second < duration_s - TOLERANCE_S]
    if not seconds and sampling.seconds:
        raise _no_key_frame(file, duration_s, sampling.seconds[0])
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
        if sampling.trusts_length and not walk.reaches(second):
            duration_s = timeline.end_s  # the header stated a longer duration
            if second == seconds[0]:
                raise _no_key_frame(file, duration_s, second)
            break
        # Clips start in order of time: later ones show nothing from before the start of this one.
        shown = {instant: one for instant, one in shown.items() if instant >= clip[0]}
        yield SampledClip(
            max(0.0, second - sampling.span_s / 2),
            second,
            tuple(shown[instant][0] for instant in clip),
            tuple(shown[instant][1] for instant in clip),
        )
    timeline.end_s = duration_s


def _no_key_frame(file: VideoFile, duration_s: float, second: float) -> InputError:
    return InputError(
        f"{file.path} lasts {duration_s:.1f} s, but the first key frame is at {second:.1f} s; check that it is the "
        f"right video, and clip_start_s"
    )
