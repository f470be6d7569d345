"""Pixels as the official evaluation code of each published model makes them."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor
from torch.nn import functional

from clep.video.spans import FrameRule

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
# LaViLa and AVION use 108.327 for red where CLIP has 122.771: their files are trained with it.
LAVILA_MEAN = (108.3272985 / 255, 116.7460125 / 255, 104.09373615 / 255)
LAVILA_STD = (68.5005327 / 255, 66.6321579 / 255, 70.32316305 / 255)
IMAGENET_MEAN, IMAGENET_STD = (123.675 / 255, 116.28 / 255, 103.53 / 255), (58.395 / 255, 57.12 / 255, 57.375 / 255)


@dataclass(frozen=True)
class PublishedClip:
    """The clip that a published model takes, and how its official code cuts it out of a video.

    Attributes:
        frames: frames of a clip.
        frame_rule: which frames of a span, one of `FrameRule`.
        crop_px: side of the square.
        resize_px: short side before the centre crop; None: the frame is squashed to the square.
        crop_first_px: side of a first centre crop, which is resized to `crop_px` (EgoVLP); None: none.
        mean, std: of red, green and blue in [0, 1].
        interpolation: of the resizing.
        antialias: whether the official code antialiases; torchvision did not, on tensors, in 2021–22.
    """

    frames: int
    frame_rule: FrameRule
    crop_px: int
    resize_px: int | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_first_px: int | None = None
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    antialias: bool = False


def transform(
    frames: UInt8[Tensor, "*batch 3 height width"], clip: PublishedClip
) -> Float[Tensor, "*batch 3 crop_px crop_px"]:
    """Resize, crop and normalise uint8 RGB frames; computed in float32 without rounding in between."""
    flat = frames.reshape(-1, *frames.shape[-3:]).float()
    if clip.resize_px is None:
        small = _resize(flat, clip.crop_px, clip.crop_px, clip)
    else:
        height, width = flat.shape[-2:]
        short = min(height, width)
        # torchvision truncates the long side.
        small = _resize(flat, clip.resize_px * height // short, clip.resize_px * width // short, clip)
        small = _centre(small, clip.crop_first_px or clip.crop_px)
        if clip.crop_first_px is not None:
            small = _resize(small, clip.crop_px, clip.crop_px, clip)
    if clip.interpolation == "bicubic":
        small = small.clamp(0, 255)
    mean, std = (torch.tensor(values, device=flat.device)[:, None, None] for values in (clip.mean, clip.std))
    return ((small / 255 - mean) / std).reshape(*frames.shape[:-2], clip.crop_px, clip.crop_px)


def _resize(
    pixels: Float[Tensor, "frames 3 height width"], height: int, width: int, clip: PublishedClip
) -> Float[Tensor, "frames 3 new_height new_width"]:
    if pixels.shape[-2:] == (height, width):
        return pixels
    return functional.interpolate(
        pixels, (height, width), mode=clip.interpolation, antialias=clip.antialias, align_corners=False
    )


def _centre(pixels: Shaped[Tensor, "frames 3 height width"], side: int) -> Shaped[Tensor, "frames 3 side side"]:
    # torchvision rounds half to even.
    top, left = (round((size - side) / 2) for size in pixels.shape[-2:])
    return pixels[..., top : top + side, left : left + side]
