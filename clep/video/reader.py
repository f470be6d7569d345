"""Read clips from a video file; each frame of a clip is decoded and resized once."""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Shaped, UInt8
from torch import Tensor

from clep.errors import InputError
from clep.video.clips import dense_clips, key_frame_clips, segment_clips
from clep.video.decoding import VideoFile
from clep.video.sampling import DenseWindows, KeyFrames, SampledClip, Segments
from clep.video.spans import FrameRule

if TYPE_CHECKING:
    import av

# Frames with a more extreme aspect ratio are squeezed, so that a picture of one row of pixels cannot fill the memory.
_LONGEST = 16


class SmallPictures:
    """Converts decoded frames to uint8 RGB tensors of one size for a whole video.

    Colour and size are converted in one pass, to planes: swscale writes these two to three times as fast as interleaved
    RGB, and a tensor `[3, height, width]` is made of planes. Pictures are scaled as stored; the small ones are then
    oriented by the display matrix (rotated, mirrored or both), as ffmpeg and players show them.

    Args:
        short_side_px: short side of the result; None: full size, or `height_px`.
        left_eye: keep the left half of a stereo picture, whose halves lie side by side.
        pixel_aspect: width of a pixel over its height.
    """

    def __init__(
        self,
        short_side_px: int | None,
        left_eye: bool = False,
        pixel_aspect: float = 1.0,
        height_px: int | None = None,
    ) -> None:
        from av.video.reformatter import VideoReformatter

        self._short, self._height = short_side_px, height_px
        self._left_eye = left_eye
        self._aspect = pixel_aspect
        self._reformatter = VideoReformatter()
        self._stored: tuple[int, int] | None = None
        self._orientation = Orientation()

    def __call__(self, picture: "av.VideoFrame") -> UInt8[Tensor, "3 height width"]:
        """Convert one frame."""
        if self._stored is None:
            self._stored = self._plan(picture)
        width, height = self._stored
        small = self._reformatter.reformat(picture, width, height, "gbrp", interpolation="BILINEAR", threads=1)
        stored = [np.frombuffer(memoryview(plane), np.uint8).reshape(height, plane.line_size) for plane in small.planes]
        green, blue, red = (self._orientation.apply(plane[:, :width]) for plane in stored)
        rows, columns = red.shape
        pixels = np.empty((3, rows, columns // 2 if self._left_eye else columns), np.uint8)
        for out, plane in zip(pixels, (red, green, blue), strict=True):
            out[:] = plane[:, : out.shape[1]]
        return torch.from_numpy(pixels)

    def _plan(self, picture: "av.VideoFrame") -> tuple[int, int]:
        """Read the orientation, and return the size before it is applied."""
        self._orientation = Orientation.of(picture)
        width, height = picture.width * self._aspect, float(picture.height)
        if self._orientation.transpose:
            width, height = height, width
        if self._left_eye:
            width /= 2
        if self._height is not None:
            short = max(1, round(self._height * min(1.0, width / height)))
        else:
            short = max(1, round(min(width, height))) if self._short is None else self._short
        scale = 1.0 if self._short is None and self._height is None else short / min(width, height)
        longest = _LONGEST * short
        upright = [min(max(short, round(side * scale)), longest) for side in (width, height)]
        if self._left_eye:
            upright[0] *= 2
        return (upright[1], upright[0]) if self._orientation.transpose else (upright[0], upright[1])


@dataclass(frozen=True)
class Orientation:
    """One of the eight orientations of a picture: transposed first, then mirrored.

    Attributes:
        transpose: exchange rows and columns.
        mirror: reverse the columns, left to right.
        flip: reverse the rows, top to bottom.
    """

    transpose: bool = False
    mirror: bool = False
    flip: bool = False

    @classmethod
    def of(cls, picture: "av.VideoFrame") -> "Orientation":
        """Read the display matrix of a frame: the nearest multiple of 90 degrees, with its mirroring."""
        matrix: Any = picture.side_data.get("DISPLAYMATRIX")
        if matrix is None:
            return cls()
        # ISO 14496-12: a picture's point (x, y) is shown at (a x + c y, b x + d y).
        a, b, _, c, d, *_ = struct.unpack("=9i", bytes(matrix))
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(True, c < 0, b < 0)
        return cls(False, a < 0, d < 0)

    def apply(self, plane: UInt8[np.ndarray, "height width"]) -> UInt8[np.ndarray, "rows columns"]:
        """Return a view of the plane in this orientation."""
        shown = plane.T if self.transpose else plane
        return shown[:: -1 if self.flip else 1, :: -1 if self.mirror else 1]


class VideoReader:
    """A video file from which clips can be sampled, once.

    Args:
        path: the file.
        short_side_px: the short side of frames after resizing; None: frames stay in full size.
        left_eye: the video is stereo, halves side by side; keep the left one.
        threads: of the decoder; 0: as many as there are processors.
        transform: applied to each frame after that; a clip holds its results.
        height_px: height of the frames instead of their short side.
        t0: where second 0 is: "container", the start of the file's clock, as in players and annotations (with sound
            before the first picture, that picture is shown from second 0 on), or "first_frame".

    Attributes:
        duration_s: end of the last frame in seconds; 0 until the clips are exhausted.

    Raises:
        InputError: the file does not exist, is empty, not a video, or cut off before its index; `t0` is unknown.

    Examples:
        >>> from clep.video import Segments, VideoReader
        >>> reader = VideoReader("kitchen.mp4", short_side_px=32)
        >>> for clip in reader.clips(Segments(rows=2), frames=4):
        ...     print(clip.second, clip.frames[0].shape)
        1.0 torch.Size([3, 32, 48])
        3.0 torch.Size([3, 32, 48])
        >>> reader.duration_s
        4.0
    """

    def __init__(
        self,
        path: str | Path,
        short_side_px: int | None,
        left_eye: bool = False,
        threads: int = 0,
        t0: str = "container",
        transform: Callable[[Tensor], Tensor] | None = None,
        height_px: int | None = None,
    ) -> None:
        if short_side_px is not None and short_side_px < 1:
            raise InputError(f"short_side_px={short_side_px} must be at least 1")
        if t0 not in ("container", "first_frame"):
            raise InputError(f"t0={t0!r} is unknown: choose container or first_frame")
        self._file = VideoFile(path, threads)
        self._transform = transform
        self._resize = SmallPictures(short_side_px, left_eye, self._file.pixel_aspect, height_px)
        self._timeline = self._file.timeline(t0)
        self.duration_s = 0.0
        self.resized_frames = 0

    def clips(
        self, sampling: DenseWindows | Segments | KeyFrames, frames: int, rule: FrameRule = "middle"
    ) -> Iterator[SampledClip]:
        """Yield the clip of each row in order of time, `frames` frames each, and close the file at the end.

        The rule chooses the frames of a dense window; segments and key frames show the middles of equal parts.

        At most the frames of one window are in memory, besides those that the caller keeps.

        Raises:
            InputError: no frame of the file can be decoded.
        """
        if frames < 1:
            raise InputError(f"a clip needs at least one frame, not {frames}")
        empty = True
        try:
            for clip in self._clips(sampling, frames, rule):
                empty = False
                yield clip
        finally:
            self._file.close()
        if empty:
            raise InputError(
                f"{self._file.path}: no frame can be decoded ({self.corrupt_packets} corrupt packets): fetch it again"
            )
        self.duration_s = self._timeline.end_s

    def close(self) -> None:
        """Close the file if no clips are read."""
        self._file.close()

    @property
    def decoded_frames(self) -> int:
        """Frames decoded so far."""
        return self._file.decoded_frames

    @property
    def corrupt_packets(self) -> int:
        """Packets so far that could not be decoded completely, and frames with impossible timestamps."""
        return self._file.corrupt_packets + self._timeline.dropped

    @property
    def note(self) -> str:
        """Remarks about the file's clock; "" if it is regular."""
        notes = []
        if (count := self._file.discontinuities) > 0:
            notes.append(f"the clock jumps {count} times (joined recordings?) and was continued at each jump")
        if self._timeline.lead_s >= 0.5:
            notes.append(f"the first picture comes {self._timeline.lead_s:.1f} s after the start of the file's clock")
        return "; ".join(notes)

    def _clips(
        self, sampling: DenseWindows | Segments | KeyFrames, frames: int, rule: FrameRule
    ) -> Iterator[SampledClip]:
        if isinstance(sampling, KeyFrames):
            return key_frame_clips(self._file, self._timeline, sampling, frames, self._small)
        if isinstance(sampling, Segments):
            return segment_clips(self._file, self._timeline, sampling, frames, self._small)
        return dense_clips(self._file.frames(), self._timeline, sampling, frames, self._small, rule)

    def _small(self, picture: "av.VideoFrame") -> Shaped[Tensor, "*crops 3 height width"]:
        self.resized_frames += 1
        pixels = self._resize(picture)
        return pixels if self._transform is None else self._transform(pixels)
