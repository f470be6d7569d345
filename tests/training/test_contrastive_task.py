"""The model that a contrastive run starts with."""

from pathlib import Path

import pytest
import torch

from clep.errors import InputError
from clep.models import ActionClassifier
from clep.training.tasks import check_video_encoder, make_dual_encoder
from tests.training.tiny_run import tiny_data, tiny_model


@pytest.mark.parametrize("before", [None, -7.5])
@pytest.mark.parametrize("now", [None, -10.0])
def test_a_warm_start_with_another_objective_loads_the_towers(
    tmp_path: Path, before: float | None, now: float | None
) -> None:
    data = tiny_data(tmp_path / "f")
    other = tiny_model(seed=1, init_bias=before)
    other.metadata = data.metadata("a sentence encoder")
    other.save_pretrained(tmp_path / "other")
    config = {**(tiny_model().config or {}), "init_bias": now}
    settings = {"model": config, "text_encoder": "a sentence encoder", "init_from": str(tmp_path / "other")}
    settings["video_encoder"] = "tiny"
    model = make_dual_encoder(settings, data)
    for name, value in other.state_dict().items():
        assert name == "logit_bias" or torch.equal(model.state_dict()[name], value), name
    if now is None:
        assert model.logit_bias is None
    else:
        assert model.logit_bias.item() == (now if before is None else before)


def test_a_bank_of_another_encoder_is_refused(tmp_path: Path) -> None:
    settings = {"model": tiny_model().config, "text_encoder": "x", "video_encoder": "omnivore", "init_from": None}
    with pytest.raises(InputError, match="the bank holds features of 'tiny'.*video_encoder='tiny'"):
        make_dual_encoder(settings, tiny_data(tmp_path / "f"))
    check_video_encoder("omnivore", "")


@pytest.mark.parametrize("job", ["ego4d_features", "ego4d_videos"])
def test_a_bank_that_the_run_made_is_checked_too(tmp_path: Path, job: str) -> None:
    settings = {"model": tiny_model().config, "text_encoder": "x", "video_encoder": "omnivore", "init_from": None}
    with pytest.raises(InputError, match="the bank holds features of 'tiny'.*video_encoder='tiny'"):
        make_dual_encoder(settings | {"prepare": {job: {}}}, tiny_data(tmp_path / "f"))


def test_a_warm_start_from_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    config = {"in_dim": 4, "operator": {"_target_": "clep.models.FBONone", "in_dim": 4}, "classes": [1, 2]}
    ActionClassifier.from_config(config).save_pretrained(tmp_path / "other")
    settings = {"model": tiny_model().config, "text_encoder": "x", "video_encoder": "tiny"}
    with pytest.raises(InputError, match="init_from=.*other holds a ActionClassifier.*DualEncoder"):
        make_dual_encoder(settings | {"init_from": str(tmp_path / "other")}, tiny_data(tmp_path / "f"))
