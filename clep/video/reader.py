"""The clips of a video file: each frame that one of them shows is decoded once and resized once."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from clep.errors import InputError
from clep.video.clips import dense_clips, key_frame_clips, segment_clips
from clep.video.decoding import Timeline, VideoFile
from clep.video.sampling import DenseWindows, KeyFrames, SampledClip, Segments

if TYPE_CHECKING:
    import av

# A picture that is longer than that many times its short side is squeezed: one row of pixels must not fill the memory.
_LONGEST = 16


class SmallPictures:
    """Turns decoded frames into uint8 RGB tensors whose short side is `short_side_px`; all of a video get one size.

    Colour and size are converted in one pass, to planes: swscale writes these two to three times as fast as interleaved
    RGB, and they are what a tensor `[3, height, width]` holds. A picture is scaled as it is stored and turned upright
    when it is small.

    Args:
        short_side_px: of the result.
        left_eye: keep the left half of a stereo picture, whose halves lie side by side.
        pixel_aspect: width of a pixel over its height.
    """

    def __init__(self, short_side_px: int, left_eye: bool = False, pixel_aspect: float = 1.0) -> None:
        from av.video.reformatter import VideoReformatter

        self._short = short_side_px
        self._left_eye = left_eye
        self._aspect = pixel_aspect
        self._reformatter = VideoReformatter()
        self._stored: tuple[int, int] | None = None
        self._turns = 0

    def __call__(self, picture: "av.VideoFrame") -> UInt8[Tensor, "3 height width"]:
        """Convert one frame."""
        if self._stored is None:
            self._stored = self._plan(picture)
        width, height = self._stored
        small = self._reformatter.reformat(picture, width, height, "gbrp", interpolation="BILINEAR", threads=1)
        stored = [np.frombuffer(memoryview(plane), np.uint8).reshape(height, plane.line_size) for plane in small.planes]
        green, blue, red = (np.rot90(plane[:, :width], self._turns) for plane in stored)
        rows, columns = red.shape
        pixels = np.empty((3, rows, columns // 2 if self._left_eye else columns), np.uint8)
        for out, plane in zip(pixels, (red, green, blue), strict=True):
            out[:] = plane[:, : out.shape[1]]
        return torch.from_numpy(pixels)

    def _plan(self, picture: "av.VideoFrame") -> tuple[int, int]:
        """Size before it is turned, and how often that is by a quarter counter-clockwise."""
        self._turns = round(picture.rotation / 90) % 4
        width, height = picture.width * self._aspect, float(picture.height)
        if self._turns % 2:
            width, height = height, width
        if self._left_eye:
            width /= 2
        scale = self._short / min(width, height)
        longest = _LONGEST * self._short
        upright = [min(max(self._short, round(side * scale)), longest) for side in (width, height)]
        if self._left_eye:
            upright[0] *= 2
        return (upright[1], upright[0]) if self._turns % 2 else (upright[0], upright[1])


class VideoReader:
    """A video file from which clips can be sampled, once.

    Args:
        path: of the file.
        short_side_px: what the short side of a frame is resized to.
        left_eye: the video is stereo, halves side by side; keep the left one.
        threads: that decode; 0: as many as there are processors.

    Attributes:
        duration_s: end of the last frame, in seconds after the first one; 0 until the clips are exhausted.

    Raises:
        InputError: the file does not exist, is empty, not a video, or cut off before its index.
    """

    def __init__(self, path: str | Path, short_side_px: int, left_eye: bool = False, threads: int = 0) -> None:
        if short_side_px < 1:
            raise InputError(f"short_side_px={short_side_px} must be at least 1")
        self._file = VideoFile(path, threads)
        self._resize = SmallPictures(short_side_px, left_eye, self._file.pixel_aspect)
        self._timeline = Timeline(self._file.usual_interval_s, self._file.longest_s)
        self.duration_s = 0.0
        self.resized_frames = 0

    def clips(self, sampling: DenseWindows | Segments | KeyFrames, frames: int) -> Iterator[SampledClip]:
        """Yield the clip of each row in order of time, `frames` frames each, and close the file at the end.

        Memory holds the frames of one window at a time, besides those that the caller keeps.

        Raises:
            InputError: not one frame of the file can be decoded.
        """
        if frames < 1:
            raise InputError(f"a clip needs at least one frame, not {frames}")
        empty = True
        try:
            for clip in self._clips(sampling, frames):
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
        """Close the file, for who asks for no clips."""
        self._file.close()

    @property
    def decoded_frames(self) -> int:
        """Frames decoded so far."""
        return self._file.decoded_frames

    @property
    def corrupt_packets(self) -> int:
        """Packets so far that could not be decoded whole, and frames whose timestamp cannot be true."""
        return self._file.corrupt_packets + self._timeline.dropped

    def _clips(self, sampling: DenseWindows | Segments | KeyFrames, frames: int) -> Iterator[SampledClip]:
        if isinstance(sampling, KeyFrames):
            return key_frame_clips(self._file, self._timeline, sampling, frames, self._small)
        if isinstance(sampling, Segments):
            return segment_clips(self._file, self._timeline, sampling, frames, self._small)
        return dense_clips(self._file.frames(), self._timeline, sampling, frames, self._small)

    def _small(self, picture: "av.VideoFrame") -> UInt8[Tensor, "3 height width"]:
        self.resized_frames += 1
        return self._resize(picture)
