"""Continuing a training that was stopped early trains no step, and says so."""

import logging
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping
from torch import Tensor, nn
from torch.utils.data import DataLoader

from clep.errors import InputError
from clep.training import Checkpoint
from clep.training.checkpoint import AtomicCheckpointIO
from clep.training.early_stopping import TrainNothing, stopped_early

STOP = {"_target_": "pytorch_lightning.callbacks.EarlyStopping", "monitor": "score", "mode": "max", "patience": 2}


class Learner(pl.LightningModule):
    """Its validation score is one of a list, an entry an epoch."""

    def __init__(self, scores: list[float]) -> None:
        super().__init__()
        self.layer, self.scores = nn.Linear(1, 1), scores

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.layer(batch).square().mean()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("score", self.scores[min(self.current_epoch, len(self.scores) - 1)])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def fit(run: Path, *more: pl.Callback, scores: list[float], ckpt_path: str | None = None, **options: Any) -> pl.Trainer:
    """Train with a checkpoint after every epoch, three steps each."""
    trainer = pl.Trainer(
        accelerator="cpu",
        callbacks=[Checkpoint(run / "checkpoints", filename="last", enable_version_counter=False), *more],
        plugins=[AtomicCheckpointIO()],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"max_epochs": 9, **options},
    )
    data = DataLoader(torch.ones(3, 1), batch_size=1)
    trainer.fit(Learner(scores), data, data, ckpt_path=ckpt_path, weights_only=True)
    return trainer


def stopping() -> EarlyStopping:
    return EarlyStopping("score", mode="max", patience=2)


@pytest.mark.parametrize("options", [{}, {"check_val_every_n_epoch": 2, "num_sanity_val_steps": 0}])
def test_a_training_that_was_stopped_is_continued_by_no_step(tmp_path: Path, options: dict[str, int], caplog) -> None:
    caplog.set_level(logging.INFO, "clep")
    first = fit(tmp_path / "a", stopping(), scores=[0.5] * 9, **options)
    assert first.global_step == 3 * 3 * options.get("check_val_every_n_epoch", 1)
    last = str(tmp_path / "a" / "checkpoints" / "last.ckpt")
    assert stopped_early(last, "last", {"stop": STOP, "none": None, "other": {"_target_": "clep.training.Checkpoint"}})
    assert "callbacks.stop had stopped" in caplog.text
    again = fit(tmp_path / "b", stopping(), TrainNothing(), scores=[0.5] * 9, ckpt_path=last, **options)
    assert again.global_step == first.global_step
    more = fit(tmp_path / "c", scores=[0.5] * 9, ckpt_path=last, **options)  # without early stopping
    assert more.global_step == 3 * 9


def test_a_finished_run_that_was_stopped_is_refused(tmp_path: Path) -> None:
    fit(tmp_path / "a", stopping(), scores=[0.5, 0.5, 0.4, 0.3])
    last = str(tmp_path / "a" / "checkpoints" / "last.ckpt")
    (tmp_path / "a" / "metrics.json").write_text("{}")
    with pytest.raises(InputError, match=r"ckpt_path=last: .*a is finished, so nothing is left.*callbacks\.es stop"):
        stopped_early(last, "last", {"es": STOP})
    with pytest.raises(InputError, match="ckpt_path=null: .*another CLEP_RUN_ID starts a new run"):
        stopped_early(last, None, {"es": STOP})
    assert stopped_early(last, last, {"es": STOP})  # a file that was named is measured again
    for other in ({}, {"es": STOP | {"monitor": "loss"}}, {"es": None}):
        assert not stopped_early(last, "last", other)
    assert not stopped_early(None, "last", {"es": STOP})


def test_a_run_that_was_interrupted_before_it_was_stopped_goes_on(tmp_path: Path) -> None:
    fit(tmp_path / "a", stopping(), scores=[0.5, 0.4, 0.6, 0.7], max_epochs=4)
    assert not stopped_early(str(tmp_path / "a" / "checkpoints" / "last.ckpt"), "last", {"es": STOP})
