"""Features of places: which place of the picture each belongs to, and what they are to the encoder's own row."""

from pathlib import Path

import pytest
import torch

from clep.video import VideoEncoder
from clep.video.encoders import EfficientNetLite0, ImageText, TimeSformer, VideoMAE
from tests.video.encoders import tiny_models


def made(kind: str, folder: Path) -> VideoEncoder:
    if kind == "timesformer":
        tiny_models.timesformer(folder, image_size=24)
        return TimeSformer(str(folder), width=None, depth=None, heads=None)
    if kind == "videomae":
        tiny_models.videomae(folder, tuned=True)
        return VideoMAE(str(folder))
    (tiny_models.clip if kind == "clip" else tiny_models.siglip)(folder)
    return ImageText(str(folder), frames=2)


@pytest.mark.parametrize("kind", ["timesformer", "videomae", "clip", "siglip"])
def test_each_token_is_that_of_its_own_patch(tmp_path: Path, kind: str) -> None:
    encoder = made(kind, tmp_path).double()
    for name, module in encoder.named_modules():  # without attention a token sees nothing but its patch
        if name.endswith(("attention.output.dense", "attention.dense", "temporal_dense", "out_proj")):
            torch.nn.init.zeros_(module.weight)
            torch.nn.init.zeros_(module.bias)
    frames, side, patch = encoder.clip.frames, encoder.clip.crop_px, 8
    pixels = torch.randn(1, frames, 3, side, side, dtype=torch.float64)
    before = encoder.spatial(pixels)
    times = frames // 2 if kind == "videomae" else frames
    assert before.shape == (1, encoder.dim, times, side // patch, side // patch)
    for frame, row, column in ((0, 0, 1), (frames - 1, side // patch - 1, 0)):
        changed = pixels.clone()
        changed[0, frame, :, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch] += 1.0
        moved = (encoder.spatial(changed) - before).abs().sum(1)[0] > 1e-9
        assert moved.nonzero().tolist() == [[frame * times // frames, row, column]]


def test_efficientnet_s_row_is_the_mean_of_its_places_and_any_size_is_taken() -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    encoder = EfficientNetLite0(frames=2, crop_px=64)
    pixels = torch.randn(1, 2, 3, 64, 64)
    places = encoder.spatial(pixels)
    assert places.shape == (1, 1280, 2, 2, 2)
    torch.testing.assert_close(places.mean((2, 3, 4)), encoder(pixels))
    assert encoder.any_size
    assert encoder.spatial(torch.randn(1, 2, 3, 64, 128)).shape == (1, 1280, 2, 2, 4)


def test_videomae_s_places_without_a_norm_after_the_mean_average_to_its_row(tmp_path: Path) -> None:
    tiny_models.videomae(tmp_path, tuned=False)
    encoder = VideoMAE(str(tmp_path))
    pixels = torch.randn(2, 4, 3, 16, 16)
    torch.testing.assert_close(encoder.spatial(pixels).mean((2, 3, 4)), encoder(pixels))
