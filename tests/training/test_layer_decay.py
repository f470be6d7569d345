"""Learning rates that fall towards the pixels."""

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from clep.errors import InputError
from clep.models import VideoClassifier
from clep.training import adamw
from tests.colour_films import tiny_timesformer


def rates(folder: Path, frozen: int | str = 0, **options: Any) -> dict[str, float]:
    model = VideoClassifier.from_config({"encoder": tiny_timesformer(folder), "classes": ["a", "b"], "frozen": frozen})
    by_id = {id(p): group["lr"] for group in adamw(model, lr=2.0, **options).param_groups for p in group["params"]}
    return {name: by_id[id(parameter)] for name, parameter in model.named_parameters() if id(parameter) in by_id}


def test_each_stage_has_the_rate_of_the_next_times_the_decay(tmp_path: Path) -> None:
    found = rates(tmp_path, layer_decay=0.5)
    for name, rate in found.items():
        blocks = {"encoder.model.embeddings": 3, "encoder.model.encoder.layer.0": 2, "encoder.model": 1, "head": 0}
        power = next(blocks[start] for start in blocks if name.startswith(start))
        assert rate == pytest.approx(2.0 * 0.5**power), name
    assert len(set(found.values())) == 4


def test_the_factor_of_a_part_multiplies_that_of_its_stages_and_frozen_stages_have_none(tmp_path: Path) -> None:
    found = rates(tmp_path, frozen=1, layer_decay=0.5, lr_factors={"encoder": 0.1})
    assert {round(rate, 6) for rate in found.values()} == {2.0, 0.1, 0.05}
    assert not any("embeddings" in name for name in found)


@pytest.mark.parametrize("options", [{}, {"layer_decay": 0.5}])
def test_a_frozen_encoder_leaves_the_rate_of_the_linear_layer(tmp_path: Path, options: dict[str, Any]) -> None:
    found = rates(tmp_path, frozen="all", lr_factors={"encoder": 0.1, "encoder.model.encoder": 0.2}, **options)
    assert found == {"head.weight": 2.0, "head.bias": 2.0}


@pytest.mark.parametrize("decay", [0.0, -1.0, 1.5])
def test_a_decay_out_of_range(tmp_path: Path, decay: float) -> None:
    with pytest.raises(InputError, match=r"layer_decay=.* must be above 0"):
        rates(tmp_path, layer_decay=decay)


def test_a_model_without_stages_has_no_layers_to_decay() -> None:
    with pytest.raises(InputError, match=r"this Linear has none"):
        adamw(nn.Linear(2, 2), layer_decay=0.5)
