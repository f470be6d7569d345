"""The pixels themselves as rows: what an encoder that is trained end to end starts from."""

from jaxtyping import Float
from torch import Tensor

from clep.errors import InputError
from clep.video.encoder import ClipSpec
from clep.video.encoders.frozen import FrameEncoder


class Pixels(FrameEncoder):
    """Frames as they are, small: a row is a square of red, then green, then blue bytes, row by row from the top.

    A bank of such rows (`dtype=uint8`) is a cache of decoded frames with a clock. A moment's window of it is a clip, so
    that training from pixels needs no data of its own: the tower (`clep.models.PixelTower`) is the encoder.

    Args:
        side_px: of the square that is cut out of the middle of a frame whose short side has as many pixels.
        name: for the bank, in place of the derived one.

    Raises:
        InputError: a side below 1 pixel.
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
        """Return the values of each frame in one row."""
        return images.flatten(1)
