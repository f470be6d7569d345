import json
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

from clep.data import MomentDataModule
from clep.evaluation import Evaluator, EvaluatorCallback, KineticsZeroShot
from clep.models import DualEncoder
from tests.evaluation.tiny_clips import WORDS, write_kinetics
from tests.tiny_source import tiny_source
from tests.training.tiny_run import tiny_data, tiny_module, tiny_trainer


class Scripted(Evaluator):
    """Give the values of a list, one after the other; note the mode that the model was in."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.values, self.calls, self.modes = list(values), 0, []

    def measure(self, model: DualEncoder) -> dict[str, float]:
        self.modes.append(model.training)
        self.calls += 1
        self.coverage = {"call": self.calls}
        return {"scripted/score": self.values[self.calls - 1]}


class Noted(pl.Callback):
    """Note the step and what had been logged at each end of a validation."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, dict[str, float]]] = []

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.seen.append((trainer.global_step, {k: float(v) for k, v in trainer.callback_metrics.items()}))


def fit(folder: Path, evaluators: dict[str, Evaluator], *others: pl.Callback, **options: Any) -> pl.Trainer:
    callbacks = [EvaluatorCallback(evaluators, options.pop("prompts_path", None)), *others]
    trainer = tiny_trainer(folder, callbacks=callbacks, **options)
    trainer.fit(tiny_module(), datamodule=tiny_data(folder / "files"))
    return trainer


def best_by(folder: Path) -> pl.callbacks.ModelCheckpoint:
    return pl.callbacks.ModelCheckpoint(
        dirpath=folder / "checkpoints", filename="{step}", monitor="scripted/score", mode="max", save_top_k=1
    )


def test_a_metric_drives_the_choice_of_a_checkpoint(tmp_path: Path) -> None:
    scripted, best, noted = Scripted(3.0, 9.0, 5.0), best_by(tmp_path), Noted()
    trainer = fit(tmp_path, {"scripted": scripted}, best, noted)
    assert [values["scripted/score"] for _, values in noted.seen] == [3.0, 9.0, 5.0]
    second_epoch = noted.seen[1][0]
    assert Path(best.best_model_path).name == f"step={second_epoch}.ckpt"
    assert float(best.best_model_score) == 9.0
    assert second_epoch == 2 * trainer.global_step // 3
    assert all("val/loss" in values for _, values in noted.seen)
    assert scripted.modes == [False] * 3


def test_every_n_steps(tmp_path: Path) -> None:
    scripted, noted = Scripted(*map(float, range(30))), Noted()
    trainer = fit(tmp_path, {"scripted": scripted}, noted, val_check_interval=3, check_val_every_n_epoch=None)
    assert [step for step, _ in noted.seen] == list(range(3, trainer.global_step + 1, 3))
    assert len(noted.seen) > 3


def test_the_trainers_sanity_check_is_not_an_evaluation(tmp_path: Path) -> None:
    scripted = Scripted(1.0, 2.0, 3.0)
    fit(tmp_path, {"scripted": scripted}, num_sanity_val_steps=1)
    assert scripted.calls == 3


def test_the_same_callback_runs_before_and_after_the_fit(tmp_path: Path) -> None:
    scripted = Scripted(7.0)
    trainer = tiny_trainer(tmp_path, callbacks=[EvaluatorCallback({"scripted": scripted})])
    (found,) = trainer.validate(tiny_module(), datamodule=tiny_data(tmp_path / "files"), verbose=False)
    assert found["scripted/score"] == 7.0


def test_it_runs_where_nothing_is_held_out(tmp_path: Path) -> None:
    scripted = Scripted(7.0)
    trainer = tiny_trainer(tmp_path, callbacks=[EvaluatorCallback({"scripted": scripted})])
    data = MomentDataModule({"tiny": tiny_source(tmp_path / "files", val_fraction=0.0)}, batch_size=20)
    (found,) = trainer.validate(tiny_module(), datamodule=data, verbose=False)
    assert found == {"scripted/score": 7.0}


def test_the_prompts_in_use_are_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_kinetics(tmp_path / "kinetics")
    written = []
    monkeypatch.setattr("clep.evaluation.callback.write_json", lambda path, value: written.append((path, value)))
    evaluators = {"kinetics": KineticsZeroShot(str(tmp_path / "kinetics"), WORDS), "scripted": Scripted(1.0, 2.0, 3.0)}
    fit(tmp_path, evaluators, prompts_path=tmp_path / "prompts.json")
    listed = json.loads((tmp_path / "kinetics" / "prompts.json").read_text())["sets"]
    assert written == [(tmp_path / "prompts.json", {"kinetics": listed})]


def test_coverage_is_kept_by_evaluator(tmp_path: Path) -> None:
    write_kinetics(tmp_path / "kinetics")
    callback = EvaluatorCallback({"kinetics": KineticsZeroShot(str(tmp_path / "kinetics"), WORDS), "s": Scripted(1.0)})
    trainer = tiny_trainer(tmp_path, callbacks=[callback])
    (found,) = trainer.validate(tiny_module(), datamodule=tiny_data(tmp_path / "files"), verbose=False)
    assert callback.coverage["kinetics"]["clips with features"] == 34
    assert callback.coverage["s"] == {"call": 1}
    assert {"zeroshot/kinetics/top1", "zeroshot/kinetics/top5", "scripted/score"} <= set(found)
