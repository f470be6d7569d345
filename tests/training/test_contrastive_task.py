"""What a pre-training run begins with."""

from pathlib import Path

import pytest
import torch

from clep.training.tasks import make_model
from tests.training.tiny_run import tiny_data, tiny_model


@pytest.mark.parametrize("before", [None, -7.5])
@pytest.mark.parametrize("now", [None, -10.0])
def test_a_run_with_another_objective_takes_the_towers(tmp_path: Path, before: float | None, now: float | None) -> None:
    data = tiny_data(tmp_path / "f")
    other = tiny_model(seed=1, init_bias=before)
    other.metadata = data.metadata("a sentence encoder")
    other.save_pretrained(tmp_path / "other")
    config = {**(tiny_model().config or {}), "init_bias": now}
    settings = {"model": config, "text_encoder": "a sentence encoder", "init_from": str(tmp_path / "other")}
    model = make_model(settings, data)
    for name, value in other.state_dict().items():
        assert name == "logit_bias" or torch.equal(model.state_dict()[name], value), name
    if now is None:
        assert model.logit_bias is None
    else:
        assert model.logit_bias.item() == (now if before is None else before)
