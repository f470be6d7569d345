"""Video tower on rows of pixels."""

from pathlib import Path
from typing import Any

import pytest
import torch

from clep.config.build import build_module
from clep.errors import InputError
from clep.models import DualEncoder, PixelTower, TrainedEncoder
from clep.video.encoders import Pixels
from clep.video.transforms import normalize
from tests.colour_films import tiny_timesformer

SIDE = 32
FRAMES = {"_target_": "clep.video.encoders.EfficientNetLite0", "frames": 2, "crop_px": SIDE}


def tower(**options: Any) -> PixelTower:
    usual = {"in_dim": 3 * SIDE**2, "encoder": FRAMES, "out_dim": 16, "depth": 1, "heads": 2}
    built = build_module({"_target_": "clep.models.PixelTower", **usual, **options})
    assert isinstance(built, PixelTower)
    return built


def batch(rows: int = 3, side: int = SIDE) -> dict[str, torch.Tensor]:
    pixels = torch.randint(0, 256, (2, rows, 3 * side**2)).float()
    mask = torch.ones(2, rows, dtype=torch.bool)
    mask[1, 2:] = False
    return {"video": pixels, "video_mask": mask}


def test_it_is_the_encoder_and_attention_over_the_frames() -> None:
    built, given = tower().eval(), batch()
    frames = given["video"].to(torch.uint8).unflatten(2, (3, SIDE, SIDE))
    clips = normalize(frames, built.encoder.clip.mean, built.encoder.clip.std).flatten(0, 1)[:, None]
    rows = built.encoder(clips)
    expected = built.attention(rows.unflatten(0, (2, 3)), given["video_mask"])
    torch.testing.assert_close(built(given), expected, rtol=1e-4, atol=1e-4)
    padded = {**given, "video": given["video"].clone()}
    padded["video"][1, 2:] = torch.nan
    torch.testing.assert_close(built(padded), built(given))


def test_training_augments_all_frames_of_a_clip_alike_and_is_seeded() -> None:
    built = tower().train()
    still = batch()["video"][:, :1].expand(-1, 3, -1).unflatten(2, (3, SIDE, SIDE))
    torch.manual_seed(3)
    seen = built._augment(still)
    assert torch.equal(seen[:, 0], seen[:, 1])
    assert not torch.equal(seen[0], still[0])
    torch.manual_seed(3)
    assert torch.equal(built._augment(still), seen)
    assert torch.equal(built.eval()._augment(still), still)


def test_larger_frames_are_resized_and_smaller_ones_refused() -> None:
    built = tower(in_dim=3 * 40**2).eval()
    assert built(batch(side=40)).shape == (2, 16)
    with pytest.raises(InputError, match=r"takes frames of 32 pixels, but the bank has 16; .*side_px=32"):
        tower(in_dim=3 * 16**2)
    with pytest.raises(InputError, match=r"model\.video\.in_dim=100 is not the size of a square"):
        tower(in_dim=100)


def test_an_encoder_of_clips_sees_the_window_as_a_clip(tmp_path: Path) -> None:
    built = tower(in_dim=3 * 16**2, encoder=tiny_timesformer(tmp_path / "t")).eval()
    pixels = torch.randint(0, 256, (2, 4, 3 * 16**2), dtype=torch.uint8)
    clips = pixels.unflatten(2, (3, 16, 16))
    rows = built.encoder(normalize(clips, built.encoder.clip.mean, built.encoder.clip.std))
    torch.testing.assert_close(built({"video": pixels.float()}), built.attention(rows), rtol=1e-4, atol=1e-5)


def test_a_short_window_repeats_its_last_frame(tmp_path: Path) -> None:
    """Padding is not a frame, and a window may be shorter than a clip."""
    built = tower(in_dim=3 * 16**2, encoder=tiny_timesformer(tmp_path / "t")).eval()
    frames = built.encoder.clip.frames
    assert frames > 2
    pixels = torch.randint(0, 256, (2, frames, 3 * 16**2)).float()
    mask = torch.ones(2, frames, dtype=torch.bool)
    mask[0, 2:] = False
    still = pixels.clone()
    still[0, 2:] = pixels[0, 1]
    expected = built({"video": still})
    pixels[0, 2:] = torch.nan
    torch.testing.assert_close(built({"video": pixels, "video_mask": mask}), expected)
    torch.testing.assert_close(built({"video": pixels[:1, :2], "video_mask": mask[:1, :2]}), expected[:1])
    nothing = {"video": torch.zeros(1, 2, 3 * 16**2), "video_mask": torch.zeros(1, 2, dtype=torch.bool)}
    assert torch.equal(built(nothing), torch.zeros(1, 16))
    with pytest.raises(InputError, match=rf"exceed the {frames} frames .* set data\.window\.max_rows={frames}"):
        built({"video": torch.zeros(1, frames + 1, 3 * 16**2)})


def test_everything_has_a_gradient_with_and_without_recomputing() -> None:
    grads: list[dict[str, torch.Tensor | None]] = []
    given = batch()
    for checkpointing in (False, True):
        torch.manual_seed(0)
        built = tower(checkpointing=checkpointing, scales=[1.0], flip=0.0, frozen=2)
        torch.manual_seed(1)
        built.train()(given).square().sum().backward()
        grads.append({name: parameter.grad for name, parameter in built.named_parameters()})
    frozen = [name for name, grad in grads[0].items() if grad is None]
    assert frozen
    assert all(name.startswith("encoder.layers.") or name == "attention.token" for name in frozen)
    for name, grad in grads[0].items():
        if grad is not None:
            torch.testing.assert_close(grads[1][name], grad, rtol=1e-4, atol=1e-5)


def test_the_encoder_of_a_saved_model_makes_banks(tmp_path: Path) -> None:
    video = {"_target_": "clep.models.PixelTower", "in_dim": 3 * 16**2, "out_dim": 6}
    text = {"_target_": "clep.models.ProjectionHead", "in_dim": 5, "out_dim": 6}
    model = DualEncoder.from_config({"video": {**video, "encoder": tiny_timesformer(tmp_path / "t")}, "text": text})
    model.eval().save_pretrained(tmp_path / "run" / "model")
    (tmp_path / "t").rename(tmp_path / "gone")
    again = DualEncoder.from_pretrained(tmp_path / "run" / "model")
    given = {"video": torch.randint(0, 256, (2, 4, 3 * 16**2)).float()}
    assert torch.equal(again.encode_video(given), model.encode_video(given))
    clips = torch.randn(2, 4, 3, 16, 16)
    assert torch.equal(TrainedEncoder(str(tmp_path / "run"))(clips), model.video.encoder(clips))


def test_contradictory_options_are_refused() -> None:
    with pytest.raises(InputError, match=r"model\.video\.checkpointing=true .* model\.video\.frozen=all"):
        tower(frozen="all", checkpointing=True)
    with pytest.raises(InputError, match=r"Pixels has no blocks"):
        PixelTower(3 * 8**2, Pixels(8), checkpointing=True, heads=8)
    with pytest.raises(InputError, match=r"data\.window\.pool=rows"):
        tower()({"video": torch.zeros(2, 3 * SIDE**2)})
