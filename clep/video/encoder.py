"""What a video encoder is to the rest of the framework: the clip it wants, rows out, how it is trained and saved."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from clep.errors import InputError


@dataclass(frozen=True)
class ClipSpec:
    """The pixels that an encoder wants.

    Attributes:
        frames: frames of a window, or of a segment, that it looks at.
        crop_px: side of the square it takes.
        short_side_px: what the short side of a frame is resized to before the square is cut out of it.
        mean, std: of the red, green and blue values in [0, 1], for normalisation.

    Raises:
        InputError: a number is not positive, or the crop is larger than the resized frame.
    """

    frames: int
    crop_px: int
    short_side_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        if self.frames < 1 or self.crop_px < 1:
            raise InputError(f"an encoder needs frames and crop_px of at least 1, not {self.frames} and {self.crop_px}")
        if self.short_side_px < self.crop_px:
            raise InputError(f"crop_px={self.crop_px} does not fit into short_side_px={self.short_side_px}")
        if min(self.std) <= 0:
            raise InputError(f"std must be positive, not {self.std}")


class VideoEncoder(nn.Module):
    """A model that turns a clip into one row. A subclass sets the attributes and `forward`.

    It comes frozen. To train it, `encoder.requires_grad_(True).train()`; a family that can be trained in parts, with
    less memory, or saved, defines the other methods too.

    Attributes:
        name: what a bank remembers it by, e.g. "timesformer-base-k400"; two that give different rows differ in it.
        clip: the pixels it wants.
        dim: numbers in a row.
        frame_wise: it looks at each frame alone, and the row of a clip is the mean of the rows of its frames. A frame
            that several windows share is then encoded once.
        any_size: it takes pictures of any height and width, not only the square of `clip`.
    """

    name: str
    clip: ClipSpec
    dim: int
    frame_wise: bool = False
    any_size: bool = False

    def forward(self, pixels: Float[Tensor, "clips frames 3 height width"]) -> Float[Tensor, "clips dim"]:
        """Encode normalised clips, one row each; a frame-wise encoder takes any number of frames."""
        raise NotImplementedError

    def spatial(
        self, pixels: Float[Tensor, "clips frames 3 height width"]
    ) -> Float[Tensor, "clips dim times rows columns"]:
        """Return what the encoder sees at each place of normalised clips, over a grid that covers the whole picture.

        Raises:
            InputError: this encoder does not tell places apart.
        """
        raise InputError(f"{type(self).__name__} has no features of places, so it has none of regions; choose another")

    def unwrapped(self) -> "VideoEncoder":
        """Return the encoder itself, to be trained, where this one holds another."""
        return self

    def stages(self) -> list[tuple[str, ...]]:
        """Return the parts from the pixels to the row, each as beginnings of its parameters' names; none if unknown."""
        return []

    def checkpoint_activations(self) -> None:
        """Keep only what enters each block while training, and compute the rest again for the gradient.

        Raises:
            InputError: this encoder has no blocks.
        """
        raise InputError(f"{type(self).__name__} has no blocks to recompute; leave activation checkpointing off")

    def architecture(self) -> dict[str, Any]:
        """Return the plain config that `clep.config.build.build_module` makes this encoder of, its weights apart.

        Raises:
            InputError: an encoder of this kind cannot be saved.
        """
        raise InputError(f"{type(self).__name__} does not say how it is built again, so it cannot be saved")
