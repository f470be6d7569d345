"""Which instants of a video make which row."""

import math
import random
from dataclasses import dataclass

from jaxtyping import UInt8
from torch import Tensor

from clep.errors import InputError


@dataclass(frozen=True)
class DenseWindows:
    """Sliding windows over the frames of a canonical rate, Ego4D's rule: a row a stride, each looks at a window.

    Canonical frame k is what is on screen k/rate seconds after the first frame. Row i looks at canonical frames
    `[i * stride, i * stride + window)`; where frames remain after the last whole window, one more row ends with the
    video (39 frames: rows at frames 0 and 7). A video shorter than a window has one row, whose frames beyond the end
    are the last one.

    Attributes:
        window: canonical frames that a row covers.
        stride: canonical frames from a row to the next.
        rate: canonical frames per second.

    Raises:
        InputError: a number is not positive.
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
        """Rows that start in a second."""
        return self.rate / self.stride

    @property
    def row_seconds(self) -> float:
        """Seconds that a row covers."""
        return self.window / self.rate

    def positions(self, frames: int) -> tuple[int, ...]:
        """Where in its window the frames of a clip are: the middle one of each of `frames` equal parts."""
        return tuple((2 * part + 1) * self.window // (2 * frames) for part in range(frames))

    def canonical_frames(self, duration_s: float | int) -> int:
        """Canonical frames of a video that lasts `duration_s` seconds, at least one."""
        return max(1, round(duration_s * self.rate))

    def starts(self, canonical_frames: int) -> list[int]:
        """The canonical frame at which each row of a whole video starts."""
        starts = list(range(0, canonical_frames - self.window + 1, self.stride))
        if not starts or starts[-1] + self.window < canonical_frames:
            starts.append(max(0, canonical_frames - self.window))
        return starts


@dataclass(frozen=True)
class Segments:
    """A video cut into equal parts, TimeSformer's rule: each part is cut again, and shows the middle of each piece.

    Attributes:
        rows: parts of the video, each of which makes a row.

    Raises:
        InputError: fewer than one row.
    """

    rows: int = 1

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise InputError(f"a video must be cut into at least one segment, not {self.rows}")

    @property
    def rows_per_second(self) -> None:
        """None: rows are not on a regular grid, a bank keeps the second of each."""
        return None

    @property
    def row_seconds(self) -> float:
        """0: a row stands for the instant in the middle of its segment."""
        return 0.0

    def instants(self, row: int, frames: int, duration_s: float | int) -> tuple[float, ...]:
        """Seconds of the frames of a row: the middle of each of `frames` equal pieces of the row's segment."""
        return tuple((row + (2 * piece + 1) / (2 * frames)) * duration_s / self.rows for piece in range(frames))


@dataclass(frozen=True)
class RandomSegment(Segments):
    """One clip a video at random, for training: part of it, wherever, and in each piece of that part any instant.

    Attributes:
        views: the part is as long as one of so many equal parts of the video; 1 takes all of it.
        seed: of the choice.

    Raises:
        InputError: fewer than one view, or several rows.
    """

    views: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rows != 1 or self.views < 1:
            raise InputError(f"a random clip is one row of at least one view, not {self.rows} of {self.views}")

    def instants(self, row: int, frames: int, duration_s: float | int) -> tuple[float, ...]:
        """Seconds of the frames, ascending: one in each of `frames` equal pieces of the part."""
        draw = random.Random(self.seed).random
        length_s = duration_s / self.views
        start_s = draw() * (duration_s - length_s)
        return tuple(start_s + (piece + draw()) * length_s / frames for piece in range(frames))


@dataclass(frozen=True)
class KeyFrames:
    """Clips around given seconds, each of which is a row: AVA's key frames.

    Attributes:
        seconds: after the first frame, ascending, each once.
        span_s: seconds that a clip covers, half of them before the key frame. 0 shows the key frame alone.
        trusts_length: take a file at its word that it reaches that far, which is fastest for a few clips of a long one.

    Raises:
        InputError: seconds that do not ascend or lie before the first frame, or a negative span.
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
        """Seconds of the frames of a clip: the middle of each of `frames` equal pieces, within the video."""
        start_s = second - self.span_s / 2
        return tuple(
            min(max(0.0, start_s + (2 * piece + 1) * self.span_s / (2 * frames)), float(duration_s))
            for piece in range(frames)
        )


@dataclass(frozen=True)
class SampledClip:
    """What a row is made from.

    Attributes:
        start_s: second, after the first frame, at which its window or segment starts.
        second: what a bank keeps of a row that lies on no grid: the middle of the segment; of a window, its start.
        frame_numbers: one for each frame, in order of time; equal numbers in one video are the same frame.
        frames: uint8 RGB, upright, the short side resized; equal numbers share one tensor.
    """

    start_s: float
    second: float
    frame_numbers: tuple[int, ...]
    frames: tuple[UInt8[Tensor, "3 height width"], ...]
