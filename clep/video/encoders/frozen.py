"""Shared by pretrained encoders: names for banks, freezing, and the base class of encoders of single frames."""

import re
from collections.abc import Collection
from pathlib import Path

from jaxtyping import Float
from torch import Tensor, nn

from clep.errors import InputError
from clep.video.encoder import VideoEncoder


def encoder_name(weights: str, publishers: Collection[str] = ()) -> str:
    """Return the name of an encoder for banks: a folder's name, a file's stem, or a hub name.

    Args:
        weights: a folder, a file or a hub name such as "facebook/timesformer-base-finetuned-k400".
        publishers: organisations on the hub that published the family, which the name leaves out. The name of any
            other organisation stays ("someone--timesformer-base"), since its weights differ.
    """
    path = Path(weights).expanduser()
    if path.exists():
        name = path.resolve().name if path.is_dir() else path.stem
    else:
        organisation, _, model = weights.rpartition("/")
        name = model if not organisation or organisation in publishers else f"{organisation}--{model}"
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "model"


def with_size(name: str, frames: int, crop_px: int, usual: tuple[int, int]) -> str:
    """Add frames and pixels to a name, e.g. "-8x224", where they are not the usual ones of this encoder."""
    return name if (frames, crop_px) == usual else f"{name}-{frames}x{crop_px}"


def freeze(module: nn.Module) -> None:
    """Disable dropout and gradients; `encoder.requires_grad_(True).train()` enables them again for training."""
    module.requires_grad_(False).eval()


class FrameEncoder(VideoEncoder):
    """An encoder of single frames; the row of a clip is the mean of the rows of its frames."""

    frame_wise = True

    def encode_frames(self, images: Float[Tensor, "images 3 height width"]) -> Float[Tensor, "images dim"]:
        """Encode normalised frames, one row each."""
        raise NotImplementedError

    def forward(self, pixels: Float[Tensor, "clips frames 3 height width"]) -> Float[Tensor, "clips dim"]:
        """Encode normalised clips of any number of frames, one row each."""
        clips, frames = pixels.shape[:2]
        rows = self.encode_frames(pixels.flatten(0, 1))
        return rows.unflatten(0, (clips, frames)).mean(1)

    def feature_map(self, images: Float[Tensor, "images 3 height width"]) -> Float[Tensor, "images dim rows columns"]:
        """Return the feature map of normalised frames."""
        return super().spatial(images[:, None])[:, :, 0]  # refuses

    def spatial(
        self, pixels: Float[Tensor, "clips frames 3 height width"]
    ) -> Float[Tensor, "clips dim times rows columns"]:
        """Return the feature map of each frame."""
        found = self.feature_map(pixels.flatten(0, 1))
        return found.unflatten(0, pixels.shape[:2]).transpose(1, 2)


def check_pixels(pixels: Tensor, encoder: VideoEncoder) -> None:
    """Refuse a clip of another number of frames or pixels than the encoder was built for.

    Raises:
        InputError: the message names both sizes.
    """
    want = (encoder.clip.frames, 3, encoder.clip.crop_px, encoder.clip.crop_px)
    if tuple(pixels.shape[1:]) != want:
        raise InputError(
            f"{encoder.name} takes clips of {want} (frames, 3, height, width), not {tuple(pixels.shape[1:])}"
        )
