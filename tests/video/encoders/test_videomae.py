import json
from pathlib import Path

import pytest
import torch

from clep.errors import InputError
from clep.video.encoders import VideoMAE
from tests.video.encoders import tiny_models


def test_a_tuned_model_gives_what_its_classifier_sees(tmp_path: Path) -> None:
    model = tiny_models.videomae(tmp_path / "tuned", tuned=True)
    encoder = VideoMAE(str(tmp_path / "tuned"))
    assert (encoder.name, encoder.dim, encoder.clip.frames, encoder.clip.crop_px) == ("tuned", 16, 4, 16)
    assert encoder.clip.mean == (0.485, 0.456, 0.406)
    clips = torch.randn(2, 4, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(model.classifier(encoder(clips)), model(clips).logits, atol=1e-6, rtol=1e-5)
    assert not encoder(clips).requires_grad
    with pytest.raises(InputError, match="takes clips of"):
        encoder(torch.randn(2, 8, 3, 16, 16))


def test_a_model_that_was_only_pre_trained_gives_the_mean_of_its_tokens(tmp_path: Path) -> None:
    model = tiny_models.videomae(tmp_path, tuned=False)
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 0.5, 0.25]})
    )
    encoder = VideoMAE(str(tmp_path), name="mine")
    assert (encoder.name, encoder.clip.mean, encoder.clip.std) == ("mine", (0.1, 0.2, 0.3), (1.0, 0.5, 0.25))
    clips = torch.randn(2, 4, 3, 16, 16)
    with torch.no_grad():
        expected = model.videomae(clips).last_hidden_state.mean(1)
    torch.testing.assert_close(encoder(clips), expected, atol=1e-6, rtol=1e-5)


def test_models_that_do_not_fit(tmp_path: Path) -> None:
    tiny_models.timesformer(tmp_path / "other")
    with pytest.raises(InputError, match="of type 'timesformer'"):
        VideoMAE(str(tmp_path / "other"))
    tiny_models.videomae(tmp_path / "m", tuned=True)
    (tmp_path / "m/preprocessor_config.json").write_text('{"image_mean": [0.5], "image_std": [0.5, 0.5, 0.5]}')
    with pytest.raises(InputError, match="three numbers"):
        VideoMAE(str(tmp_path / "m"))
    config = json.loads((tmp_path / "m/config.json").read_text()) | {"num_hidden_layers": 4}
    (tmp_path / "m/config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="missing"):
        VideoMAE(str(tmp_path / "m"))
