"""Encoders that are trained: built again without their weights, in stages, and with activations recomputed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from clep.config.build import build_module
from clep.errors import InputError
from clep.video import VideoEncoder
from clep.video.encoders import VJEPA2, EfficientNetLite0, ImageText, Pixels, TimeSformer, VideoMAE
from tests.video.encoders import tiny_models

FAMILIES = [
    "timesformer",
    "videomae",
    "videomae pre-trained",
    "clip",
    "siglip",
    "efficientnet",
    "vjepa2",
    "vjepa2 attentive",
]


def made(family: str, folder: Path) -> VideoEncoder:
    if family == "efficientnet":
        return EfficientNetLite0(frames=2, crop_px=32)
    if family == "timesformer":
        tiny_models.timesformer(folder)
        return TimeSformer(str(folder), width=None, depth=None, heads=None)
    if family.startswith("videomae"):
        tiny_models.videomae(folder, tuned=family == "videomae")
        return VideoMAE(str(folder))
    if family.startswith("vjepa2"):
        tiny_models.vjepa2(folder, tuned="attentive" in family)
        return VJEPA2(str(folder), pool="attentive" if "attentive" in family else "mean")
    getattr(tiny_models, family)(folder)
    return ImageText(str(folder), frames=3)


def clips(encoder: VideoEncoder) -> Tensor:
    return torch.randn(2, encoder.clip.frames, 3, encoder.clip.crop_px, encoder.clip.crop_px)


def gradients(encoder: VideoEncoder, pixels: Tensor) -> list[Tensor | None]:
    torch.manual_seed(1)
    encoder.zero_grad()
    encoder(pixels).square().sum().backward()
    return [parameter.grad for parameter in encoder.parameters()]


@pytest.mark.parametrize("family", FAMILIES)
def test_an_encoder_is_built_again_from_its_architecture_and_its_weights(tmp_path: Path, family: str) -> None:
    encoder = made(family, tmp_path / "model")
    if family != "efficientnet":
        (tmp_path / "model").rename(tmp_path / "gone")
    again: Any = build_module(encoder.architecture())
    again.load_state_dict(encoder.state_dict())
    pixels = clips(encoder)
    assert torch.equal(again(pixels), encoder(pixels))
    assert (again.name, again.clip, again.dim) == (encoder.name, encoder.clip, encoder.dim)


@pytest.mark.parametrize("family", FAMILIES)
def test_stages_hold_each_parameter_once(tmp_path: Path, family: str) -> None:
    encoder = made(family, tmp_path / "model")
    stages = encoder.stages()
    assert len(stages) == (8 if family == "efficientnet" else 3)
    for name, _ in encoder.named_parameters():
        homes = [stage for stage in stages if any(f"{name}.".startswith(f"{part}.") for part in stage)]
        assert len(homes) == 1, name


@pytest.mark.parametrize("family", FAMILIES)
def test_recomputed_activations_give_the_same_gradients(tmp_path: Path, family: str) -> None:
    encoder = made(family, tmp_path / "model").requires_grad_(True).train()
    pixels = clips(encoder)
    plain = gradients(encoder, pixels)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        encoder(pixels)
    before = sum(kept)
    encoder.checkpoint_activations()
    for with_it, without in zip(gradients(encoder, pixels), plain, strict=True):
        assert (with_it is None) == (without is None)
        if with_it is not None:
            torch.testing.assert_close(with_it, without, rtol=1e-5, atol=1e-6)
    kept.clear()
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        encoder(pixels)
    assert sum(kept) < 0.6 * before


def test_an_encoder_without_blocks_says_so() -> None:
    with pytest.raises(InputError, match=r"Pixels has no blocks to recompute"):
        Pixels(8).checkpoint_activations()
    with pytest.raises(InputError, match=r"Pixels defines no architecture"):
        Pixels(8).architecture()
    assert Pixels(8).stages() == []
