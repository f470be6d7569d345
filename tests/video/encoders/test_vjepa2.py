from pathlib import Path

import pytest
import torch

from clep.errors import InputError
from clep.video.encoders import VJEPA2
from tests.video.encoders import tiny_models


def test_a_row_is_the_mean_of_the_encoders_tokens(tmp_path: Path) -> None:
    model = tiny_models.vjepa2(tmp_path / "vjepa2", tuned=False)
    encoder = VJEPA2(str(tmp_path / "vjepa2"))
    assert (encoder.name, encoder.dim, encoder.clip.frames) == ("vjepa2", 24, 4)
    assert (encoder.clip.crop_px, encoder.clip.short_side_px) == (32, 36)  # 32 * 256 / 224, cut off
    clips = torch.randn(2, 4, 3, 32, 32)
    with torch.no_grad():
        tokens = model.get_vision_features(clips)
    torch.testing.assert_close(encoder(clips), tokens.mean(1), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(encoder.spatial(clips).mean((2, 3, 4)), tokens.mean(1), atol=1e-6, rtol=1e-5)
    assert not any("predictor" in name for name, _ in encoder.named_parameters())


def test_the_attentive_pooler_is_what_the_classifier_sees(tmp_path: Path) -> None:
    model = tiny_models.vjepa2(tmp_path / "tuned", tuned=True)
    encoder = VJEPA2(str(tmp_path / "tuned"), pool="attentive", frames=6)
    assert encoder.name == "tuned-6x32-attentive"
    clips = torch.randn(2, 6, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model.classifier(encoder(clips)), model(clips).logits, atol=1e-6, rtol=1e-5)
        tokens = model.vjepa2.get_vision_features(clips)
    torch.testing.assert_close(VJEPA2(str(tmp_path / "tuned"), frames=6)(clips), tokens.mean(1), atol=1e-6, rtol=1e-5)


def test_models_that_do_not_fit(tmp_path: Path) -> None:
    tiny_models.vjepa2(tmp_path / "vjepa2", tuned=False)
    with pytest.raises(InputError, match="has no attentive pooler; use pool=mean"):
        VJEPA2(str(tmp_path / "vjepa2"), pool="attentive")
    with pytest.raises(InputError, match="frames=5 must be a multiple of 2"):
        VJEPA2(str(tmp_path / "vjepa2"), frames=5)
    tiny_models.timesformer(tmp_path / "other")
    with pytest.raises(InputError, match="of type 'timesformer'"):
        VJEPA2(str(tmp_path / "other"))
