"""Dense windows in one pass over the decoded frames, with no more of them in memory than a window shows."""

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from jaxtyping import UInt8
from torch import Tensor

from clep.video.sampling import DenseWindows, SampledClip
from clep.video.timestamps import TOLERANCE_S, DecodedFrame, Timeline

if TYPE_CHECKING:
    import av

# Decoded frames wait for being resized, which most of them never are where clips have few frames. Windows of frames so
# large that more than these bytes would wait are resized as they come.
_WAITING_BYTES = 256 << 20


class _Shown:
    """A frame that is on screen from canonical frame `first` on, resized when a clip first asks for it."""

    def __init__(self, first: int, number: int, picture: "av.VideoFrame") -> None:
        self.first = first
        self.number = number
        self._picture: av.VideoFrame | None = picture
        self._pixels: Tensor | None = None

    def pixels(self, resize: "Callable[[av.VideoFrame], Tensor]") -> UInt8[Tensor, "3 height width"]:
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
) -> Iterator[SampledClip]:
    """Yield the clip of each window, of `frames` frames each; nothing where nothing was decoded."""
    positions = sampling.positions(frames)
    shown: deque[_Shown] = deque()
    rows = 0

    def clip(start: int, last: int) -> SampledClip:
        firsts = [frame.first for frame in shown]
        asked = [shown[bisect_right(firsts, min(start + at, last)) - 1] for at in positions]
        second = start / sampling.rate
        return SampledClip(
            second, second, tuple(frame.number for frame in asked), tuple(frame.pixels(resize) for frame in asked)
        )

    for number, (second, frame) in enumerate(timeline.in_order(decoded)):
        first = max(0, math.ceil((second - TOLERANCE_S) * sampling.rate))
        if shown and shown[-1].first == first:
            shown.pop()  # no instant fell on it
        elif shown and _bytes(frame) * sampling.window > _WAITING_BYTES:
            shown[-1].pixels(resize)
        shown.append(_Shown(first, number, frame.picture))
        # Canonical frames before `known` are on screen before this frame, and the video surely has them.
        known = min(first, round(second * sampling.rate))
        while rows * sampling.stride + sampling.window <= known:
            yield clip(rows * sampling.stride, known - 1)
            rows += 1
        # Neither the next window nor one that ends with the video begins earlier.
        while len(shown) > 1 and shown[1].first <= known - sampling.window:
            shown.popleft()
    if shown:
        total = sampling.canonical_frames(timeline.end_s)
        for start in sampling.starts(total)[rows:]:
            yield clip(start, total - 1)


def _bytes(frame: DecodedFrame) -> int:
    return sum(plane.buffer_size for plane in frame.picture.planes)
