from pathlib import Path

import pytest
import torch
from torch import Tensor

from clep.config.build import build
from clep.errors import InputError
from clep.video.encoders import TimeSformer
from tests.video.encoders import tiny_models
from tests.video.encoders.divided_attention import class_token, random_weights

SMALL = {"width": 24, "depth": 2, "heads": 3}
LAYOUTS = {
    "official": lambda weights: {
        "epoch": 3,
        "cfg": "a: 1",
        "model_state": {f"model.{k}": v for k, v in weights.items()},
    },
    "official, no prefix": lambda weights: {"model_state": dict(weights)},
    "state_dict": lambda weights: {"state_dict": {f"module.model.{k}": v for k, v in weights.items()}},
    "model": lambda weights: {"model": dict(weights)},
    "bare": dict,
}


def checkpoint(path: Path, weights: dict[str, Tensor], layout: str = "official") -> str:
    torch.save(LAYOUTS[layout](weights), path)
    return str(path)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_official_checkpoint_gives_what_the_paper_says(tmp_path: Path, layout: str) -> None:
    weights = random_weights()
    encoder = TimeSformer(checkpoint(tmp_path / "small K400.pyth", weights, layout), **SMALL)
    assert (encoder.name, encoder.dim, encoder.frame_wise) == ("small-K400-heads3", 24, False)
    assert (encoder.clip.frames, encoder.clip.crop_px, encoder.clip.short_side_px) == (3, 12, 12)
    assert (encoder.clip.mean, encoder.clip.std) == ((0.45,) * 3, (0.225,) * 3)
    clips = torch.randn(2, 3, 3, 12, 12)
    expected = torch.stack([class_token(weights, clip, heads=3) for clip in clips])
    assert expected.std() > 0.1
    torch.testing.assert_close(encoder(clips).double(), expected, atol=2e-5, rtol=1e-4)
    backwards = class_token(weights, clips[0].flip(0), heads=3)
    assert (backwards - expected[0]).abs().max() > 2e-3  # a hundred times the tolerance


def test_both_layouts_and_a_folder_give_the_same_rows(tmp_path: Path) -> None:
    model = tiny_models.timesformer(tmp_path / "someone's model")
    clips = torch.randn(2, 4, 3, 16, 16)
    with torch.no_grad():
        expected = model.timesformer(clips).last_hidden_state[:, 0]
    folder = TimeSformer(str(tmp_path / "someone's model"), width=16, depth=2, heads=2)
    torch.save(model.state_dict(), tmp_path / "hf.bin")
    file = TimeSformer(str(tmp_path / "hf.bin"), width=16, depth=2, heads=2)
    assert (folder.name, file.name) == ("someone-s-model", "hf-heads2")
    torch.testing.assert_close(folder(clips), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(file(clips), folder(clips), atol=0, rtol=0)


def test_another_clip_size_takes_the_nearest_embeddings(tmp_path: Path) -> None:
    weights = random_weights(frames=6, pixels=24)  # 6x6 places of 4 pixels
    small = dict(weights)
    small["time_embed"] = weights["time_embed"][:, ::2]
    plane = weights["pos_embed"][0, 1:].view(6, 6, 24)[::2, ::2]
    small["pos_embed"] = torch.cat([weights["pos_embed"][:, :1], plane.reshape(1, 9, 24)], dim=1)
    path = checkpoint(tmp_path / "hr.pyth", weights)
    encoder = TimeSformer(path, frames=3, crop_px=12, **SMALL)
    assert encoder.name == "hr-3x12-heads3"
    assert (encoder.clip.frames, encoder.clip.crop_px) == (3, 12)
    clip = torch.randn(3, 3, 12, 12)
    torch.testing.assert_close(encoder(clip[None])[0].double(), class_token(small, clip, 3), atol=2e-5, rtol=1e-4)
    # As the original repository does when it loads: every fourth of all 36 places in a row.
    small["pos_embed"] = torch.cat([weights["pos_embed"][:, :1], weights["pos_embed"][:, 1::4]], dim=1)
    flat = TimeSformer(path, frames=3, crop_px=12, positions="flat", **SMALL)
    assert flat.name == "hr-3x12-heads3-flat"
    torch.testing.assert_close(flat(clip[None])[0].double(), class_token(small, clip, 3), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(("frames", "crop_px"), [(12, 24), (6, 36), (1, 4), (7, 40)])
def test_any_clip_size_works(tmp_path: Path, frames: int, crop_px: int) -> None:
    path = checkpoint(tmp_path / "m.pyth", random_weights(frames=6, pixels=24))
    rows = TimeSformer(path, frames=frames, crop_px=crop_px, **SMALL)(torch.randn(1, frames, 3, crop_px, crop_px))
    assert rows.shape == (1, 24)
    assert rows.isfinite().all()


def test_a_folder_is_resized_too(tmp_path: Path) -> None:
    tiny_models.timesformer(tmp_path / "m", image_size=32)
    encoder = TimeSformer(str(tmp_path / "m"), frames=2, crop_px=16, width=None, depth=None, heads=None)
    assert (encoder.name, encoder.model.config.num_frames, encoder.model.config.image_size) == ("m-2x16", 2, 16)
    assert encoder(torch.randn(1, 2, 3, 16, 16)).shape == (1, 16)


def test_names_differ_where_rows_do(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "m.pyth", random_weights(width=64))
    same = [TimeSformer(path, width=None, depth=None, heads=heads).name for heads in (None, 1)]
    others = [TimeSformer(path, width=None, depth=None, heads=heads).name for heads in (2, 4)]
    assert same + others == ["m", "m", "m-heads2", "m-heads4"]
    assert TimeSformer(path, width=64, heads=1, depth=2, name="mine").name == "mine"


def test_frozen_until_asked_otherwise(tmp_path: Path) -> None:
    encoder = TimeSformer(checkpoint(tmp_path / "m.pyth", random_weights()), **SMALL)
    clips = torch.randn(1, 3, 3, 12, 12)
    assert not encoder.training
    assert not encoder(clips).requires_grad
    encoder.requires_grad_(True).train()
    encoder(clips).square().sum().backward()
    grads = {name: parameter.grad for name, parameter in encoder.named_parameters()}
    assert all(grad is not None and grad.abs().sum() > 0 for grad in grads.values()), grads.keys()


def test_a_row_holds_no_other_tokens(tmp_path: Path) -> None:
    encoder = TimeSformer(checkpoint(tmp_path / "m.pyth", random_weights()), **SMALL)
    rows = encoder(torch.randn(2, 3, 3, 12, 12))
    assert rows.untyped_storage().nbytes() == 2 * 24 * 4


def test_the_file_may_go_once_it_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "m.pyth"
    encoder = TimeSformer(checkpoint(path, random_weights()), **SMALL)
    clips = torch.randn(1, 3, 3, 12, 12)
    before = encoder(clips)
    path.write_bytes(b"\0" * path.stat().st_size)
    torch.testing.assert_close(encoder(clips), before, atol=0, rtol=0)


def test_it_is_built_from_a_plain_config(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "m.pyth", random_weights())
    encoder = build({"_target_": "clep.video.encoders.TimeSformer", "weights": path, **SMALL})
    assert isinstance(encoder, TimeSformer)


def test_clips_of_another_size(tmp_path: Path) -> None:
    encoder = TimeSformer(checkpoint(tmp_path / "m.pyth", random_weights()), **SMALL)
    for shape in ((1, 4, 3, 12, 12), (1, 3, 3, 16, 16)):
        with pytest.raises(InputError, match=r"m-heads3 takes clips of \(3, 3, 12, 12\)"):
            encoder(torch.randn(shape))
