"""Pixels as rows, for training an encoder end to end."""

from jaxtyping import Float
from torch import Tensor

from clep.errors import InputError
from clep.video.encoder import ClipSpec
from clep.video.encoders.frozen import FrameEncoder


class Pixels(FrameEncoder):
    """No encoder: a row holds the pixels of a small frame, `[3, side, side]` flattened (red, green, blue).

    A bank of such rows (`dtype=uint8`) is a cache of decoded frames with a clock. A moment's window of it is a clip,
    which `clep.models.PixelTower` encodes in training.

    Args:
        side_px: side of the centre crop; the short side of the frame is resized to it first.
        name: name for the bank; None derives one.

    Raises:
        InputError: a side below 1 pixel.

    Examples:
        >>> import torch
        >>> from clep.video.encoders import Pixels
        >>> encoder = Pixels(side_px=32)
        >>> encoder(torch.zeros(2, 1, 3, 32, 32)).shape, encoder.name
        (torch.Size([2, 3072]), 'pixels-32')
    """

    def __init__(self, side_px: int = 64, name: str | None = None):
        super().__init__()
        if side_px < 1:
            raise InputError(f"encoder.side_px={side_px} must be at least 1")
        # Mean 0 and deviation 1/255: "normalised" values are the bytes.
        self.clip = ClipSpec(1, side_px, side_px, (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255))
        self.dim = 3 * side_px**2
        self.name = name or f"pixels-{side_px}"

    def encode_frames(self, images: Float[Tensor, "images 3 height width"]) -> Float[Tensor, "images dim"]:
        """Flatten each frame to a row."""
        return images.flatten(1)
