"""The history of a run: rows, the log file, resuming, and which weights were chosen."""

import logging
from pathlib import Path
from typing import Any

import pytest

from clep.checksums import read_checked_json
from clep.training import Checkpoint, Chosen, History
from clep.training import history as history_module
from tests.training.tiny_run import tiny_data, tiny_module, tiny_trainer


def fit(folder: Path, history: History, ckpt_path: str | None = None, **options: Any) -> Checkpoint:
    best = Checkpoint(dirpath=folder / "checkpoints", filename="best", monitor="val/loss", save_top_k=1)
    last = Checkpoint(dirpath=folder / "checkpoints", filename="last", save_top_k=1, enable_version_counter=False)
    trainer = tiny_trainer(folder, callbacks=[history, best, last], **options)
    trainer.fit(tiny_module(), datamodule=tiny_data(folder.parent / "files"), ckpt_path=ckpt_path, weights_only=True)
    return best


def test_rows_of_a_run_and_of_its_continuation(tmp_path: Path) -> None:
    files = logging.FileHandler(tmp_path / "train.log")
    logging.getLogger().addHandler(files)
    try:
        whole = History(tmp_path)
        best = fit(tmp_path / "whole", whole, max_epochs=3)
    finally:
        logging.getLogger().removeHandler(files)
    assert [row["epoch"] for row in whole.rows] == [1, 2, 3]
    steps = [row["step"] for row in whole.rows]
    assert steps == [steps[0], 2 * steps[0], 3 * steps[0]]
    assert all({"train/loss", "val/loss"} <= row.keys() for row in whole.rows)
    lines = [line for line in (tmp_path / "train.log").read_text().splitlines() if line.startswith("epoch ")]
    assert [line.partition(":")[0] for line in lines] == [f"epoch {i} of 3, step {i * steps[0]}" for i in (1, 2, 3)]
    assert f"val/loss {whole.rows[1]['val/loss']:.5g}" in lines[1]

    lowest = min(whole.rows, key=lambda row: row["val/loss"])
    chosen = whole.chosen(best, True, steps[-1])
    assert (chosen.epoch, chosen.step, chosen.monitor) == (lowest["epoch"], lowest["step"], "val/loss")
    assert "the lowest val/loss" in str(chosen)
    assert whole.chosen(best, False, steps[-1]) == Chosen(3, steps[-1])
    whole.write(chosen)
    assert read_checked_json(tmp_path / "history.json") == {"rows": whole.rows, "chosen": chosen._asdict()}

    part, continued = History(), History()
    fit(tmp_path / "part", part, max_epochs=2)
    fit(tmp_path / "part", continued, str(tmp_path / "part" / "checkpoints" / "last.ckpt"), max_epochs=3)
    assert [row["step"] for row in continued.rows] == steps
    assert continued.rows[0]["val/loss"] == part.rows[0]["val/loss"]


def test_an_epoch_without_a_validation_has_its_training_loss(tmp_path: Path) -> None:
    history = History()
    fit(tmp_path / "run", history, max_epochs=4, check_val_every_n_epoch=2)
    assert ["val/loss" in row for row in history.rows] == [False, True, False, True]
    assert all("train/loss" in row for row in history.rows)


def test_long_histories_are_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    class Trainer:
        is_global_zero, max_epochs, current_epoch, global_step = True, 9, 0, 0

    monkeypatch.setattr(history_module, "MAX_ROWS", 6)
    history, trainer = History(), Trainer()
    for step in range(30):
        trainer.global_step = step
        history._add(trainer, {"a": float(step)})
    assert len(history.rows) <= 6
    assert history.rows[-1]["step"] == 29
    assert [row["step"] for row in history.rows] == sorted(row["step"] for row in history.rows)
