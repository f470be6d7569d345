"""What a run of action detection begins with."""

from pathlib import Path
from typing import Any

import pytest

from clep.data import LongTerm, RegionDataModule, RegionSource
from clep.training import ActionDetection
from tests.data.tiny_regions import CLASSES, write_regions

SETTINGS: dict[str, Any] = {
    "model": {"in_dim": None, "operator": {"_target_": "clep.models.FBOAvg", "in_dim": None}, "classes": []},
    "loss": {"_target_": "torch.nn.BCEWithLogitsLoss"},
    "optim": {
        "optimizer": {"_target_": "clep.training.adamw", "_partial_": True},
        "schedule": {"_target_": "clep.training.steady"},
    },
    "init_from": None,
}


@pytest.mark.parametrize("ema", [None, 0.9])
def test_ema_keeps_an_average_of_the_weights(tmp_path: Path, ema: float | None) -> None:
    write_regions(tmp_path, "train", 2, seed=0)
    data = RegionDataModule(
        RegionSource(tmp_path / "train.h5"), label_map=str(tmp_path / "map.txt"), context=LongTerm()
    )
    module = ActionDetection().build(SETTINGS | {"ema": ema}, data)
    assert (module.ema is None, module.ema_decay) == (ema is None, ema)
    assert module.model.classes == list(CLASSES)
