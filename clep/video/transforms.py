"""Pixel transforms on tensors `[..., 3, height, width]`, uint8 or float: images, clips or batches of clips."""

from collections.abc import Sequence

import torch
from jaxtyping import Float32, Shaped, UInt8
from torch import Tensor
from torch.nn import functional

from clep.errors import InputError

CROPS = {"centre": 1, "three": 3, "ten": 10}


def resize(
    pixels: Shaped[Tensor, "*batch 3 height width"], height: int, width: int
) -> Shaped[Tensor, "*batch 3 new_height new_width"]:
    """Resize to a height and width, bilinear with antialiasing; uint8 stays uint8, rounded."""
    if pixels.shape[-2:] == (height, width):
        return pixels
    flat = pixels.reshape(-1, *pixels.shape[-3:])
    values = flat if flat.is_floating_point() else flat.float()
    small = functional.interpolate(values, size=(height, width), mode="bilinear", antialias=True)
    if not pixels.is_floating_point():
        small = small.round().clamp(0, 255).to(pixels.dtype)
    return small.reshape(*pixels.shape[:-2], height, width)


def resize_short_side(
    pixels: Shaped[Tensor, "*batch 3 height width"], short_side_px: int
) -> Shaped[Tensor, "*batch 3 new_height new_width"]:
    """Resize the short side to `short_side_px`, keeping the aspect ratio."""
    height, width = pixels.shape[-2:]
    short = min(height, width)
    return resize(pixels, *(max(short_side_px, round(side * short_side_px / short)) for side in (height, width)))


def crop(
    pixels: Shaped[Tensor, "*batch 3 height width"], top: int, left: int, height: int, width: int
) -> Shaped[Tensor, "*batch 3 new_height new_width"]:
    """Crop a rectangle, as a view.

    Raises:
        InputError: it exceeds the image.
    """
    rows, columns = pixels.shape[-2:]
    if top < 0 or left < 0 or top + height > rows or left + width > columns:
        raise InputError(f"a crop of {height}x{width} at ({top}, {left}) does not fit into {rows}x{columns} pixels")
    return pixels[..., top : top + height, left : left + width]


def centre_crop(pixels: Shaped[Tensor, "*batch 3 height width"], side_px: int) -> Shaped[Tensor, "*batch 3 side side"]:
    """Crop the central square, as a view."""
    rows, columns = pixels.shape[-2:]
    return crop(pixels, (rows - side_px) // 2, (columns - side_px) // 2, side_px, side_px)


def three_crop(pixels: Shaped[Tensor, "*batch 3 height width"], side_px: int) -> Shaped[Tensor, "3 *batch 3 side side"]:
    """Return squares at the start, middle and end of the long side (left or top first), centred along the short one."""
    rows, columns = pixels.shape[-2:]
    down, across = rows - side_px, columns - side_px
    if columns >= rows:
        corners = [(down // 2, left) for left in (0, across // 2, across)]
    else:
        corners = [(top, across // 2) for top in (0, down // 2, down)]
    return torch.stack([crop(pixels, *corner, side_px, side_px) for corner in corners])


def ten_crop(pixels: Shaped[Tensor, "*batch 3 height width"], side_px: int) -> Shaped[Tensor, "10 *batch 3 side side"]:
    """Return the corners (top left, top right, bottom left, bottom right), the centre, and their mirror images."""
    down, across = pixels.shape[-2] - side_px, pixels.shape[-1] - side_px
    corners = [(0, 0), (0, across), (down, 0), (down, across), (down // 2, across // 2)]
    five = torch.stack([crop(pixels, *corner, side_px, side_px) for corner in corners])
    return torch.cat([five, flip(five)])


def crops_of(
    pixels: Shaped[Tensor, "*batch 3 height width"], crops: str, side_px: int
) -> Shaped[Tensor, "crops *batch 3 side side"]:
    """Return the stacked crops of a name: "centre" (1), "three" or "ten".

    Raises:
        InputError: an unknown name, or crops larger than the image.
    """
    if crops == "centre":
        return centre_crop(pixels, side_px)[None]
    if crops == "three":
        return three_crop(pixels, side_px)
    if crops == "ten":
        return ten_crop(pixels, side_px)
    raise InputError(f"crops={crops!r} is unknown: choose one of {', '.join(CROPS)}")


def flip(pixels: Shaped[Tensor, "*batch 3 height width"]) -> Shaped[Tensor, "*batch 3 height width"]:
    """Mirror left and right."""
    return pixels.flip(-1)


def random_flip(
    clips: Shaped[Tensor, "clips frames 3 height width"], generator: torch.Generator, chance: float | int = 0.5
) -> Shaped[Tensor, "clips frames 3 height width"]:
    """Mirror each clip (all of its frames) with a probability, for training.

    Do not use it with labels that distinguish left and right.
    """
    mirrored = torch.rand(len(clips), generator=generator, device=generator.device) < chance
    return torch.where(mirrored.to(clips.device)[:, None, None, None, None], flip(clips), clips)


def multi_scale_crop(
    clips: Shaped[Tensor, "clips frames 3 height width"],
    side_px: int,
    generator: torch.Generator,
    scales: Sequence[float | int] = (1.0, 0.875, 0.75, 0.66),
) -> Shaped[Tensor, "clips frames 3 side side"]:
    """Crop a random rectangle of each clip and resize it to a square, for training.

    Height and width are each one of `scales` times the short side, at most one step apart in that list; the
    position is one of the four corners or the centre. All frames of a clip get the same crop. After Wang et al.,
    "Towards Good Practices for Very Deep Two-Stream ConvNets" (arXiv 1507.02159, section 3).

    Raises:
        InputError: a scale is not in (0, 1].
    """
    if not scales or not all(0 < scale <= 1 for scale in scales):
        raise InputError(f"scales must lie in (0, 1], not {tuple(scales)}")
    rows, columns = clips.shape[-2:]
    sizes = [max(1, round(min(rows, columns) * scale)) for scale in scales]
    pairs = [(sizes[i], sizes[j]) for i in range(len(sizes)) for j in range(len(sizes)) if abs(i - j) <= 1]
    out = []
    for clip in clips:
        height, width = pairs[_draw(len(pairs), generator)]
        down, across = rows - height, columns - width
        corners = [(0, 0), (0, across), (down, 0), (down, across), (down // 2, across // 2)]
        top, left = corners[_draw(5, generator)]
        out.append(resize(crop(clip, top, left, height, width), side_px, side_px))
    return torch.stack(out) if out else clips.new_zeros(*clips.shape[:-2], side_px, side_px)


def normalize(
    pixels: UInt8[Tensor, "*batch 3 height width"], mean: Sequence[float], std: Sequence[float]
) -> Float32[Tensor, "*batch 3 height width"]:
    """Scale uint8 pixels to [0, 1], then subtract the mean and divide by the standard deviation of each channel.

    In place after the conversion, since allocating memory is the main cost.
    """
    scale, shift = (
        torch.tensor(values, device=pixels.device)[:, None, None]
        for values in ([1 / (255 * s) for s in std], [-m / s for m, s in zip(mean, std, strict=True)])
    )
    return pixels.to(torch.float32).mul_(scale).add_(shift)


def _draw(choices: int, generator: torch.Generator) -> int:
    return int(torch.randint(choices, (), generator=generator, device=generator.device))
