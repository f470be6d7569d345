"""Sampling rules: at which seconds of a video the frames of each row are."""

import math
import random
from dataclasses import dataclass

from jaxtyping import Shaped
from torch import Tensor

from clep.errors import InputError
from clep.video.spans import FrameRule, frame_indices


@dataclass(frozen=True)
class DenseWindows:
    """Sliding windows over frames at a canonical rate, Ego4D's rule: one row for each stride.

    Canonical frame k is the one on screen at k/rate seconds. Row i covers canonical frames
    `[i * stride, i * stride + window)`; where frames remain after the last complete window, one more row ends with the
    video (39 frames: rows at frames 0 and 7). A video shorter than a window has one row, in which the last frame
    repeats.

    Attributes:
        window: canonical frames covered by a row.
        stride: canonical frames from a row to the next.
        rate: canonical frames per second.

    Raises:
        InputError: a value is not positive.

    Examples:
        >>> from clep.video import DenseWindows
        >>> windows = DenseWindows(window=32, stride=16, rate=30)
        >>> windows.starts(windows.canonical_frames(duration_s=2.0))
        [0, 16, 28]
        >>> windows.positions(frames=4)
        (4, 12, 20, 28)
    """

    window: int = 32
    stride: int = 16
    rate: float | int = 30.0

    def __post_init__(self) -> None:
        if self.window < 1 or self.stride < 1:
            raise InputError(f"window and stride must be at least 1 frame, not {self.window} and {self.stride}")
        if not (self.rate > 0 and math.isfinite(self.rate)):
            raise InputError(f"rate must be a positive number of frames per second, not {self.rate}")

    @property
    def rows_per_second(self) -> float:
        """Rows per second."""
        return self.rate / self.stride

    @property
    def row_seconds(self) -> float:
        """Seconds covered by a row."""
        return self.window / self.rate

    def positions(self, frames: int, rule: FrameRule = "middle") -> tuple[int, ...]:
        """Return the positions of a clip's frames in its window by a rule, see `clep.video.spans`.

        The rule "middle" takes the middle of each of `frames` equal parts.
        """
        if rule != "middle":
            return tuple(int(index) for index in frame_indices(rule, 0, self.window, frames))
        return tuple((2 * part + 1) * self.window // (2 * frames) for part in range(frames))

    def canonical_frames(self, duration_s: float | int) -> int:
        """Return the number of canonical frames of a video of `duration_s` seconds, at least one."""
        return max(1, round(duration_s * self.rate))

    def starts(self, canonical_frames: int) -> list[int]:
        """Return the canonical frame at which each row of a video starts."""
        starts = list(range(0, canonical_frames - self.window + 1, self.stride))
        if not starts or starts[-1] + self.window < canonical_frames:
            starts.append(max(0, canonical_frames - self.window))
        return starts


@dataclass(frozen=True)
class Segments:
    """Equal segments of a video, TimeSformer's rule: a row shows the middles of equal pieces of its segment.

    Attributes:
        rows: segments of the video, one row each.

    Raises:
        InputError: fewer than one row.

    Examples:
        >>> from clep.video import Segments
        >>> Segments(rows=2).instants(row=1, frames=2, duration_s=8.0)
        (5.0, 7.0)
    """

    rows: int = 1

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise InputError(f"a video must be cut into at least one segment, not {self.rows}")

    @property
    def rows_per_second(self) -> None:
        """None: rows are not on a regular grid; a bank stores the second of each row."""
        return None

    @property
    def row_seconds(self) -> float:
        """0: the second of a row is the middle of its segment."""
        return 0.0

    def instants(self, row: int, frames: int, duration_s: float | int) -> tuple[float, ...]:
        """Return the seconds of a row's frames: the middle of each of `frames` equal pieces of its segment."""
        return tuple((row + (2 * piece + 1) / (2 * frames)) * duration_s / self.rows for piece in range(frames))


@dataclass(frozen=True)
class RandomSegment(Segments):
    """One random clip of a video, for training: a random part of it, with one random frame in each equal piece.

    Attributes:
        views: length of the part: 1/views of the video.
        seed: seed of the random choice.

    Raises:
        InputError: `views` is below 1, or there are several rows.

    Examples:
        >>> from clep.video import RandomSegment
        >>> seconds = RandomSegment(views=2, seed=3).instants(row=0, frames=4, duration_s=10.0)
        >>> [round(second, 2) for second in seconds]
        [1.87, 2.9, 4.44, 5.72]
    """

    views: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rows != 1 or self.views < 1:
            raise InputError(f"a random clip is one row of at least one view, not {self.rows} of {self.views}")

    def instants(self, row: int, frames: int, duration_s: float | int) -> tuple[float, ...]:
        """Return the seconds of the frames, ascending: one in each of `frames` equal pieces of the part."""
        draw = random.Random(self.seed).random
        length_s = duration_s / self.views
        start_s = draw() * (duration_s - length_s)
        return tuple(start_s + (piece + draw()) * length_s / frames for piece in range(frames))


@dataclass(frozen=True)
class KeyFrames:
    """Clips around given seconds, one row each: AVA's key frames.

    Attributes:
        seconds: ascending, without duplicates.
        span_s: seconds covered by a clip, half of them before the key frame. 0: only the key frame.
        trusts_length: do not read the file to its end if its header states a sufficient length; fastest for a few clips
            of a long file.

    Raises:
        InputError: seconds that do not ascend or are negative, or a negative span.

    Examples:
        >>> from clep.video import KeyFrames
        >>> KeyFrames(seconds=(902.0,), span_s=2.0).instants(902.0, frames=4, duration_s=1800.0)
        (901.25, 901.75, 902.25, 902.75)
    """

    seconds: tuple[float, ...]
    span_s: float | int = 2.0
    trusts_length: bool = False

    def __post_init__(self) -> None:
        before = (-math.inf, *self.seconds[:-1])
        if not all(0 <= now < math.inf and then < now for then, now in zip(before, self.seconds, strict=True)):
            raise InputError(f"key frames must be at ascending seconds from 0, not {self.seconds[:10]}")
        if not 0 <= self.span_s < math.inf:
            raise InputError(f"a clip around a key frame covers 0 s or more, not {self.span_s}")

    def instants(self, second: float | int, frames: int, duration_s: float | int) -> tuple[float, ...]:
        """Return the seconds of a clip's frames: the middle of each of `frames` equal pieces, within the video."""
        start_s = second - self.span_s / 2
        return tuple(
            min(max(0.0, start_s + (2 * piece + 1) * self.span_s / (2 * frames)), float(duration_s))
            for piece in range(frames)
        )


@dataclass(frozen=True)
class SampledClip:
    """The frames of one row.

    Attributes:
        start_s: second at which its window or segment starts.
        second: second that a bank stores for a row of an irregular clock: the middle of a segment, the start of a
            window.
        frame_indices: index of each frame, in order of time; equal indices in one video are the same frame.
        frames: upright uint8 RGB with the short side resized, or the result of a transform of the full-size frame;
            equal indices share one tensor.

    Examples:
        >>> from clep.video import Segments, VideoReader
        >>> clip = next(iter(VideoReader("kitchen.mp4", short_side_px=32).clips(Segments(rows=2), frames=4)))
        >>> clip.start_s, clip.second, clip.frame_indices
        (0.0, 1.0, (0, 1, 2, 3))
    """

    start_s: float
    second: float
    frame_indices: tuple[int, ...]
    frames: tuple[Shaped[Tensor, "*crops 3 height width"], ...]
