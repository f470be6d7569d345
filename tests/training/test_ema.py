"""The average of the weights: its value, its figures beside the raw ones, checkpoints, and what a run saves."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from clep import load
from clep.errors import InputError
from clep.evaluation import Evaluator, EvaluatorCallback
from clep.models import DualEncoder
from clep.training.ema import averaged_copy, update_average
from tests.training.tiny_run import tiny_data, tiny_module, tiny_trainer


class Weights(pl.Callback):
    """Note the trained weights after each optimizer step, and write a checkpoint of it."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder, self.seen = folder, []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *arguments: Any) -> None:
        if len(self.seen) < trainer.global_step:
            self.seen.append({name: p.detach().clone() for name, p in pl_module.model.named_parameters()})
            if self.folder is not None:
                trainer.save_checkpoint(self.folder / f"{trainer.global_step}.ckpt")


class Scale(Evaluator):
    """Measure what differs between the weights and their average."""

    def measure(self, model: DualEncoder) -> dict[str, float]:
        return {"val/weight": float(model.text[0].weight.sum())}


class Written(Evaluator):
    """Leave a file of the model that was measured."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def measure(self, model: DualEncoder) -> dict[str, float]:
        self.path.write_text(str(float(model.text[0].weight.detach().sum())))
        return {}


class Constant(Evaluator):
    """Measure what no model changes."""

    depends_on_model = False

    def measure(self, model: DualEncoder) -> dict[str, float]:
        return {"reference/chance": 12.5}


def slow_average(start: dict[str, torch.Tensor], seen: list[dict[str, torch.Tensor]], decay: float) -> dict:
    average = {name: value.double() for name, value in start.items()}
    for step, weights in enumerate(seen):
        now = min(decay, (1 + step) / (10 + step))
        average = {name: now * value + (1 - now) * weights[name].double() for name, value in average.items()}
    return average


@pytest.mark.parametrize(("decay", "accumulate"), [(0.5, 1), (0.999, 1), (0.9, 3)])
def test_the_average_follows_the_formula(tmp_path: Path, decay: float, accumulate: int) -> None:
    module, weights = tiny_module(ema=decay), Weights()
    start = {name: p.detach().clone() for name, p in module.model.named_parameters()}
    trainer = tiny_trainer(tmp_path, callbacks=[weights], accumulate_grad_batches=accumulate)
    trainer.fit(module, datamodule=tiny_data(tmp_path / "files"))
    assert len(weights.seen) == trainer.global_step > 8
    expected = slow_average(start, weights.seen, decay)
    for name, value in module.ema.named_parameters():
        torch.testing.assert_close(value, expected[name].float(), rtol=1e-5, atol=1e-6)
        assert not value.requires_grad


def test_the_average_is_not_trained_and_does_not_change_training(tmp_path: Path) -> None:
    ends = []
    for ema in (None, 0.9):
        module = tiny_module(ema=ema)
        tiny_trainer(tmp_path).fit(module, datamodule=tiny_data(tmp_path / "files"))
        ends.append(module.model.state_dict())
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_the_average_is_evaluated_beside_the_weights(tmp_path: Path) -> None:
    module, file = tiny_module(ema=0.9), tmp_path / "weight.txt"
    evaluation = EvaluatorCallback({"scale": Scale(), "constant": Constant(), "written": Written(file)})
    trainer = tiny_trainer(tmp_path, callbacks=[evaluation])
    data = tiny_data(tmp_path / "files")
    trainer.validate(module, datamodule=data, verbose=False)
    before = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert before["ema/val/weight"] == before["val/weight"]
    assert before["ema/val/loss"] == before["val/loss"]
    assert [name for name in before if name.endswith("reference/chance")] == ["reference/chance"]
    trainer.fit(module, datamodule=data)
    after = {name: float(value) for name, value in trainer.callback_metrics.items()}
    for prefix, model in (("", module.model), ("ema/", module.ema)):
        assert after[f"{prefix}val/weight"] == pytest.approx(float(model.text[0].weight.detach().sum()), rel=1e-5)
    assert float(file.read_text()) == pytest.approx(after["val/weight"], rel=1e-5)  # of the weights that were trained
    assert after["ema/val/weight"] != after["val/weight"]
    assert after["ema/val/loss"] != after["val/loss"]
    assert module.model.training


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The folder and the module of a run with a checkpoint of each step."""
    folder, module = tmp_path_factory.mktemp("whole"), tiny_module(ema=0.9)
    tiny_trainer(folder, callbacks=[Weights(folder)]).fit(module, datamodule=tiny_data(folder / "files"))
    return folder, module


@pytest.mark.parametrize("steps_before", [3, 8, 13])
def test_a_continued_run_continues_the_average_to_the_last_bit(
    uninterrupted: tuple[Path, Any], tmp_path: Path, steps_before: int
) -> None:
    folder, module = uninterrupted
    resumed = tiny_module(ema=0.9)
    tiny_trainer(tmp_path).fit(
        resumed, datamodule=tiny_data(folder / "files"), ckpt_path=folder / f"{steps_before}.ckpt", weights_only=True
    )
    for name, value in module.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_validating_a_checkpoint_restores_the_average_of_its_step(
    uninterrupted: tuple[Path, Any], tmp_path: Path
) -> None:
    folder, module = uninterrupted[0], tiny_module(ema=0.9)
    trainer = tiny_trainer(tmp_path)
    trainer.validate(module, ckpt_path=folder / "5.ckpt", datamodule=tiny_data(folder / "files"), verbose=False)
    saved = torch.load(folder / "5.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(value, saved[f"ema.{name}"]) for name, value in module.ema.state_dict().items())


@pytest.mark.parametrize(("first", "then"), [(0.9, None), (None, 0.9)])
def test_a_run_with_an_average_is_not_continued_without(tmp_path: Path, first: Any, then: Any) -> None:
    callback = Weights(tmp_path)
    tiny_trainer(tmp_path, callbacks=[callback], max_steps=2).fit(
        tiny_module(ema=first), datamodule=tiny_data(tmp_path / "files")
    )
    with pytest.raises(InputError, match=r"EMA weights; continue .* init_from=PATH"):
        tiny_trainer(tmp_path).fit(
            tiny_module(ema=then),
            datamodule=tiny_data(tmp_path / "files"),
            ckpt_path=tmp_path / "2.ckpt",
            weights_only=True,
        )


def test_both_are_saved_and_can_be_loaded(tmp_path: Path) -> None:
    module = tiny_module(ema=0.9)
    tiny_trainer(tmp_path, max_epochs=1).fit(module, datamodule=tiny_data(tmp_path / "files"))
    module.model.metadata["bank_encoder"] = "tiny"
    module.save(tmp_path / "run")
    for path, model in ((tmp_path / "run", module.model), (tmp_path / "run" / "model_ema", module.ema)):
        loaded = load(path, "cpu").encoder
        assert loaded.metadata["bank_encoder"] == "tiny"
        assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
    tiny_module().save(tmp_path / "other")
    assert sorted(path.name for path in (tmp_path / "other").iterdir()) == ["model"]


def test_buffers_are_copied() -> None:
    trained = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    average = averaged_copy(trained)
    trained(torch.randn(8, 3))
    update_average(average, trained, 0.9, 100)
    assert torch.equal(average[1].running_mean, trained[1].running_mean)
    assert average[1].num_batches_tracked == 1


@pytest.mark.parametrize("decay", [0.0, 1.0, 1.5, -0.1])
def test_a_decay_lies_between_0_and_1(decay: float) -> None:
    with pytest.raises(InputError, match="ema="):
        tiny_module(ema=decay)


def test_16_bit_weights_cannot_be_averaged() -> None:
    with pytest.raises(InputError, match="bf16-mixed"):
        averaged_copy(nn.Linear(2, 2).bfloat16())
