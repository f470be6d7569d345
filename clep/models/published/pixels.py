"""Pixels as the official evaluation code of each published model prepares them."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor
from torch.nn import functional

from clep.errors import InputError
from clep.video.spans import FrameRule
from clep.video.transforms import CROPS, flip

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
# LaViLa and AVION were trained with 108.327 for red; CLIP's is 122.771.
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
        crop_first_px: side of a first centre crop, which is resized to `crop_px` (EgoVLP); None: no first crop.
        mean, std: of red, green and blue in [0, 1].
        interpolation: of the resizing.
        antialias: whether the official code antialiases, on bytes as Pillow does; torchvision did not antialias tensors
            in 2021–22.

    Examples:
        >>> from clep.models.published import load_published
        >>> clip = load_published("lavila", "lavila/tsf.pt").clip
        >>> clip.frames, clip.frame_rule, clip.crop_px
        (4, 'lavila', 32)
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
    frames: UInt8[Tensor, "*batch 3 height width"], clip: PublishedClip, crops: str = "centre"
) -> Float[Tensor, "crops *batch 3 crop_px crop_px"]:
    """Resize, crop and normalise uint8 RGB frames.

    Without antialiasing, in float32 without rounding in between; with it, on bytes, as Pillow resizes images.

    Args:
        frames: the frames in full size.
        clip: how to.
        crops: "centre"; "three" along the long side, or "ten" (corners, centre and their mirror images).

    Raises:
        InputError: the crops are unknown, or this model squashes frames to a square, which has one crop only.
    """
    if crops not in CROPS:
        raise InputError(f"crops={crops!r} is unknown: choose one of {', '.join(CROPS)}")
    flat = frames.reshape(-1, *frames.shape[-3:])
    if not clip.antialias:
        flat = flat.float()
    if clip.resize_px is None:
        if crops != "centre":
            raise InputError(f"crops={crops}: this model squashes whole frames to a square; use crops=centre")
        views = _resize(flat, clip.crop_px, clip.crop_px, clip)[None]
    else:
        height, width = flat.shape[-2:]
        short = min(height, width)
        # torchvision truncates the long side.
        small = _resize(flat, clip.resize_px * height // short, clip.resize_px * width // short, clip)
        views = _crops(small, clip.crop_first_px or clip.crop_px, crops)
        if clip.crop_first_px is not None:
            views = _resize(views.flatten(0, 1), clip.crop_px, clip.crop_px, clip).unflatten(0, (len(views), -1))
    mean, std = (torch.tensor(values, device=flat.device)[:, None, None] for values in (clip.mean, clip.std))
    return ((views.float() / 255 - mean) / std).reshape(len(views), *frames.shape[:-2], clip.crop_px, clip.crop_px)


def _resize(
    pixels: Shaped[Tensor, "frames 3 height width"], height: int, width: int, clip: PublishedClip
) -> Shaped[Tensor, "frames 3 new_height new_width"]:
    if pixels.shape[-2:] == (height, width):
        return pixels
    if pixels.dtype == torch.uint8 and pixels.device.type != "cpu":
        return _resize_bytes(pixels, height, width, clip)
    return functional.interpolate(
        pixels, (height, width), mode=clip.interpolation, antialias=clip.antialias, align_corners=False
    )


def _resize_bytes(
    pixels: UInt8[Tensor, "frames 3 height width"], height: int, width: int, clip: PublishedClip
) -> UInt8[Tensor, "frames 3 new_height new_width"]:
    """Resize bytes on a GPU, which antialiases floats only: rounded after each direction, as on the CPU.

    A byte differs by 1 at most from the CPU's, which computes with integers.
    """
    values = pixels.float()
    for size in ((pixels.shape[-2], width), (height, width)):
        values = _resize(values, *size, clip).round().clamp(0, 255)
    return values.byte()


def _crops(
    pixels: Shaped[Tensor, "frames 3 height width"], side: int, crops: str
) -> Shaped[Tensor, "crops frames 3 side side"]:
    down, across = pixels.shape[-2] - side, pixels.shape[-1] - side
    centre = (round(down / 2), round(across / 2))  # torchvision rounds half to even
    if crops == "centre":
        corners = [centre]
    elif crops == "three":
        long = max(down, across)
        ends = (0, -(-long // 2), long)  # LaViLa's three crops round half up, unlike its centre crop
        corners = [(end, centre[1]) if down > across else (centre[0], end) for end in ends]
    else:
        corners = [(0, 0), (0, across), (down, 0), (down, across), centre]
    views = torch.stack([pixels[..., top : top + side, left : left + side] for top, left in corners])
    return torch.cat([views, flip(views)]) if crops == "ten" else views
