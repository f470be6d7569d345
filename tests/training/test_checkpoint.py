from pathlib import Path
from typing import Any

import pytest
import torch

from clep.training import Checkpoint
from tests.training.tiny_run import tiny_data, tiny_module, tiny_trainer


def best_in(folder: Path) -> Checkpoint:
    """The learning rate falls after its warm-up, so that by it the first epoch is the best."""
    return Checkpoint(dirpath=folder, filename="best", monitor="train/lr", mode="max", enable_version_counter=False)


def last_in(folder: Path) -> Checkpoint:
    return Checkpoint(dirpath=folder, filename="last", enable_version_counter=False)


def fit(folder: Path, **options: Any) -> list[Checkpoint]:
    callbacks = [best_in(folder), last_in(folder)]
    ckpt_path = options.pop("ckpt_path", None)
    trainer = tiny_trainer(folder, callbacks=callbacks, **options)
    trainer.fit(tiny_module(), datamodule=tiny_data(folder.parent / "files"), ckpt_path=ckpt_path, weights_only=True)
    return callbacks


def step(path: str | Path) -> int:
    return torch.load(path, weights_only=True)["global_step"]


def test_last_is_written_whether_it_is_better_or_not(tmp_path: Path) -> None:
    best, last = fit(tmp_path / "a")
    assert 3 * step(best.best_model_path) == step(last.best_model_path) > 0
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"best.ckpt", "last.ckpt"}


@pytest.mark.filterwarnings("error:.*dirpath has changed.*")
def test_a_run_in_another_folder_knows_what_was_best_before_it(tmp_path: Path) -> None:
    before, _ = fit(tmp_path / "a")
    best, last = fit(tmp_path / "b", max_epochs=5, ckpt_path=tmp_path / "a" / "last.ckpt")
    assert best.best_model_path == before.best_model_path
    assert float(best.best_model_score) == float(before.best_model_score)
    assert step(last.best_model_path) == 5 * step(before.best_model_path)
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert {path.name for path in (tmp_path / "b").iterdir()} == {"last.ckpt"}


def test_a_best_checkpoint_that_is_gone_counts_no_more(tmp_path: Path) -> None:
    before, _ = fit(tmp_path / "a")
    per_epoch = step(before.best_model_path)
    (tmp_path / "a" / "best.ckpt").unlink()
    best, _ = fit(tmp_path / "b", max_epochs=5, ckpt_path=tmp_path / "a" / "last.ckpt")
    assert Path(best.best_model_path) == tmp_path / "b" / "best.ckpt"
    assert step(best.best_model_path) == 4 * per_epoch
