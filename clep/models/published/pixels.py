"""Pixels as the official evaluation code of each published model makes them."""

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor
from torch.nn import functional

from clep.models.published.model import PublishedClip


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
        small = _resize(flat, *(int(clip.resize_px * side / short) for side in (height, width)), clip)
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
