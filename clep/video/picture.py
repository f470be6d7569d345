"""A decoded frame as a small upright RGB picture."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

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
