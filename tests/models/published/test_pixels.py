"""Pixels as each official evaluation prepares them: by hand where it is not antialiased, by Pillow where it is."""

import numpy as np
import pytest
import torch
from PIL import Image

from clep.models.published.pixels import (
    CLIP_MEAN,
    CLIP_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    LAVILA_MEAN,
    LAVILA_STD,
    PublishedClip,
    _resize,
    _resize_bytes,
    transform,
)

HALF = (0.5, 0.5, 0.5)


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize as torchvision of 2021 did tensors: four neighbours of each point, whatever the scale."""
    out = np.zeros((height, width, image.shape[2]))
    for row in range(height):
        for column in range(width):
            y = max((row + 0.5) * image.shape[0] / height - 0.5, 0)
            x = max((column + 0.5) * image.shape[1] / width - 0.5, 0)
            top, left = int(y), int(x)
            below, right = min(top + 1, image.shape[0] - 1), min(left + 1, image.shape[1] - 1)
            down, across = y - top, x - left
            out[row, column] = (
                image[top, left] * (1 - down) * (1 - across)
                + image[below, left] * down * (1 - across)
                + image[top, right] * (1 - down) * across
                + image[below, right] * down * across
            )
    return out


def prepared(image: np.ndarray, clip: PublishedClip) -> np.ndarray:
    frame = torch.from_numpy(image).permute(2, 0, 1)
    return transform(frame, clip)[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize(("height", "width"), [(90, 121), (121, 90)])
def test_lavila_resizes_the_short_side_without_antialiasing_and_crops_the_centre(height: int, width: int) -> None:
    image = picture(height, width)
    small = bilinear(image.astype(float), 32 * height // min(height, width), 32 * width // min(height, width))
    top, left = (round((side - 32) / 2) for side in small.shape[:2])
    expected = (small[top : top + 32, left : left + 32] - np.array(LAVILA_MEAN) * 255) / (np.array(LAVILA_STD) * 255)
    found = prepared(image, PublishedClip(4, "lavila", 32, 32, LAVILA_MEAN, LAVILA_STD))
    np.testing.assert_allclose(found * LAVILA_STD, expected * LAVILA_STD, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(32, 45), (45, 32), (32, 43), (32, 32)])
def test_three_crops_lie_along_the_long_side_and_the_middle_one_is_rounded_up(height: int, width: int) -> None:
    """As in LaViLa's multi-view evaluation; its centre crop rounds half to even: 6 of 6.5, where this takes 7."""
    image = picture(height, width)
    spare = max(height, width) - 32
    starts = (0, spare // 2 + spare % 2, spare)
    clip = PublishedClip(4, "lavila", 32, 32, LAVILA_MEAN, LAVILA_STD)
    found = transform(torch.from_numpy(image).permute(2, 0, 1), clip, "three")
    for crop, start in zip(found, starts, strict=True):
        part = image[start : start + 32] if height > width else image[:, start : start + 32]
        expected = (part - np.array(LAVILA_MEAN) * 255) / (np.array(LAVILA_STD) * 255)
        np.testing.assert_allclose(crop.permute(1, 2, 0).numpy(), expected, atol=1e-5)


def test_egovlp_crops_at_the_larger_size_and_resizes_again() -> None:
    image = picture(90, 121)
    clip = PublishedClip(4, "egovlp", 28, 32, IMAGENET_MEAN, IMAGENET_STD, crop_first_px=32)
    small = bilinear(image.astype(float), 32, 32 * 121 // 90)
    left = round((small.shape[1] - 32) / 2)
    again = bilinear(small[:, left : left + 32], 28, 28)
    expected = (again / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    np.testing.assert_allclose(prepared(image, clip) * IMAGENET_STD, expected * IMAGENET_STD, atol=1e-5)
    at_once = PublishedClip(4, "egovlp", 28, 32, IMAGENET_MEAN, IMAGENET_STD)
    assert np.abs(prepared(image, at_once) - expected).max() > 0.1


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_pe_and_siglip_squash_the_frame_as_pillow_does(interpolation: str) -> None:
    image = picture(90, 121)
    clip = PublishedClip(8, "pe", 32, None, HALF, HALF, interpolation=interpolation, antialias=True)
    method = Image.Resampling.BILINEAR if interpolation == "bilinear" else Image.Resampling.BICUBIC
    expected = np.asarray(Image.fromarray(image).resize((32, 32), method), dtype=float) / 127.5 - 1
    np.testing.assert_allclose(prepared(image, clip), expected, atol=1.01 / 127.5)  # Pillow rounds each direction
    assert np.abs(prepared(image, clip) - expected).mean() < 0.1 / 127.5


def test_clip_resizes_the_short_side_as_pillow_does() -> None:
    image = picture(90, 121)
    clip = PublishedClip(8, "middle", 32, 32, CLIP_MEAN, CLIP_STD, interpolation="bicubic", antialias=True)
    small = np.asarray(Image.fromarray(image).resize((32 * 121 // 90, 32), Image.Resampling.BICUBIC), dtype=float)
    left = round((small.shape[1] - 32) / 2)
    expected = (small[:, left : left + 32] / 255 - np.array(CLIP_MEAN)) / np.array(CLIP_STD)
    np.testing.assert_allclose(prepared(image, clip), expected, atol=1.01 / 255 / min(CLIP_STD))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_bytes_that_a_gpu_antialiases_differ_by_one_at_most_from_those_of_the_cpu(interpolation: str) -> None:
    clip = PublishedClip(1, "middle", 40, 40, (0.0,) * 3, (1 / 255,) * 3, None, interpolation, antialias=True)
    frames = torch.randint(256, (4, 3, 90, 130), dtype=torch.uint8)
    on_cpu, on_gpu = (resize(frames, 40, 57, clip).int() for resize in (_resize, _resize_bytes))
    difference = (on_gpu - on_cpu).abs()
    assert difference.max() <= 1
    assert difference.float().mean() < 0.01
    # The meta device takes the GPU's way.
    assert transform(frames.to("meta"), clip).shape == (1, 4, 3, 40, 40)
