"""The interface of video encoders: input clip, rows, training and saving."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, UInt8
from torch import Tensor, nn

from clep.errors import InputError
from clep.video.spans import FrameRule


@dataclass(frozen=True)
class ClipSpec:
    """The input of an encoder.

    Attributes:
        frames: frames per window or segment.
        crop_px: side of the square crop.
        short_side_px: short side of a frame after resizing, before the crop.
        mean, std: of red, green and blue in [0, 1], for normalisation.
        frame_rule: which frames of a dense window or a span, see `clep.video.spans`.

    Raises:
        InputError: a value is not positive, or the crop is larger than the resized frame.

    Examples:
        >>> from clep.video import ClipSpec
        >>> spec = ClipSpec(frames=4, crop_px=224, short_side_px=256, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        >>> spec.frame_rule
        'middle'
    """

    frames: int
    crop_px: int
    short_side_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    frame_rule: FrameRule = "middle"

    def __post_init__(self) -> None:
        if self.frames < 1 or self.crop_px < 1:
            raise InputError(f"an encoder needs frames and crop_px of at least 1, not {self.frames} and {self.crop_px}")
        if self.short_side_px < self.crop_px:
            raise InputError(f"crop_px={self.crop_px} does not fit into short_side_px={self.short_side_px}")
        if min(self.std) <= 0:
            raise InputError(f"std must be positive, not {self.std}")


class VideoEncoder(nn.Module):
    """A model that encodes a clip as one row. Subclasses set the attributes and define `forward`.

    It is frozen when built. To train it: `encoder.requires_grad_(True).train()`. Families that can be trained in parts,
    with activation checkpointing, or saved define the other methods too.

    Attributes:
        name: recorded in banks, e.g. "timesformer-base-k400"; encoders with different rows have different names.
        clip: the input.
        dim: feature dimension.
        frame_wise: whether frames are encoded separately, and the row of a clip is the mean over its frames; a frame
            shared by several windows is then encoded once.
        any_size: whether it accepts frames of any height and width, not only the square of `clip`.
        own_transform: whether full-size frames are prepared by `transform` instead of the resizing, cropping and
            normalisation of `clip`.
        transform_on_device: whether `transform` gets frames on the encoder's device, where they arrive as bytes in full
            size; set by the option of that name.

    Examples:
        >>> import torch
        >>> from clep.video import ClipSpec, VideoEncoder
        >>> class MeanColour(VideoEncoder):
        ...     name, dim = "mean-colour", 3
        ...     clip = ClipSpec(4, 32, 32, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        ...
        ...     def forward(self, pixels):
        ...         return pixels.mean((1, 3, 4))
        >>> MeanColour()(torch.ones(2, 4, 3, 32, 32))
        tensor([[1., 1., 1.],
                [1., 1., 1.]])
    """

    name: str
    clip: ClipSpec
    dim: int
    frame_wise: bool = False
    any_size: bool = False
    own_transform: bool = False
    transform_on_device: bool = False

    def transform(self, frame: UInt8[Tensor, "3 height width"], crops: str) -> Float[Tensor, "crops 3 crop_px crop_px"]:
        """Resize, crop and normalise an RGB frame, for an encoder with `own_transform`.

        Args:
            frame: in full size.
            crops: "centre", "three" or "ten".

        Raises:
            InputError: this encoder has no such crops.
        """
        raise NotImplementedError(f"{type(self).__name__} with own_transform must define transform(frame, crops)")

    def forward(self, pixels: Float[Tensor, "clips frames 3 height width"]) -> Float[Tensor, "clips dim"]:
        """Encode normalised clips, one row each; a frame-wise encoder takes any number of frames."""
        raise NotImplementedError

    def spatial(
        self, pixels: Float[Tensor, "clips frames 3 height width"]
    ) -> Float[Tensor, "clips dim times rows columns"]:
        """Return the feature map of normalised clips, a grid over the whole picture.

        Raises:
            InputError: this encoder has no feature map.
        """
        raise InputError(
            f"{type(self).__name__} has no feature map, so it cannot encode regions; choose another encoder"
        )

    def unwrapped(self) -> "VideoEncoder":
        """Return the inner encoder, for training, where this one wraps another."""
        return self

    def stages(self) -> list[tuple[str, ...]]:
        """Return the stages from pixels to row, each as prefixes of its parameters' names; empty: unknown."""
        return []

    def checkpoint_activations(self) -> None:
        """Enable activation checkpointing: only block inputs are kept, the rest is recomputed in the backward pass.

        Raises:
            InputError: this encoder has no blocks.
        """
        raise InputError(f"{type(self).__name__} has no blocks to recompute; leave activation checkpointing off")

    def architecture(self) -> dict[str, Any]:
        """Return the config from which `clep.config.build.build_module` builds this encoder without its weights.

        Raises:
            InputError: an encoder of this kind cannot be saved.
        """
        raise InputError(f"{type(self).__name__} defines no architecture(), so it cannot be saved")
