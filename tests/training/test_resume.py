"""A run that stopped and continued equals one that did not, to the last bit on a CPU."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from clep.errors import InputError
from tests.training.tiny_run import tiny_data, tiny_module, tiny_trainer


class Seen(pl.Callback):
    """Note which moments each step saw and what the loss was; optionally stop after a step."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.steps: list[tuple[list[int], float]] = []
        self.stop_after = stop_after

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.steps.append((batch["moment"].tolist(), float(outputs["loss"])))
        if trainer.global_step == self.stop_after:
            trainer.save_checkpoint(Path(trainer.default_root_dir) / "stop.ckpt", weights_only=False)
            raise KeyboardInterrupt


def checkpoint_every(folder: Path, **options: Any) -> pl.callbacks.ModelCheckpoint:
    return pl.callbacks.ModelCheckpoint(dirpath=folder, filename="{step}", save_top_k=-1, **options)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Seen, pl.LightningModule]:
    """A run of 24 steps with a checkpoint of each, in its folder."""
    folder, whole, module = tmp_path_factory.mktemp("whole"), Seen(), tiny_module()
    every = checkpoint_every(folder, every_n_train_steps=1)
    trainer = tiny_trainer(folder, callbacks=[whole, every])
    trainer.fit(module, datamodule=tiny_data(folder / "files"))
    assert trainer.global_step == 24
    return folder, whole, module


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("steps_before", [4, 8, 13])
def test_resumed_equals_uninterrupted(
    uninterrupted: tuple[Path, Seen, pl.LightningModule], tmp_path: Path, steps_before: int, workers: int
) -> None:
    folder, whole, module = uninterrupted
    rest, resumed = Seen(), tiny_module()
    resumer = tiny_trainer(tmp_path, callbacks=[rest])
    data = tiny_data(folder / "files", num_workers=workers)
    resumer.fit(resumed, datamodule=data, ckpt_path=folder / f"step={steps_before}.ckpt", weights_only=True)
    assert rest.steps == whole.steps[steps_before:]
    for name, value in module.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


@pytest.mark.parametrize("checkpoints", ["two", pytest.param("all", marks=pytest.mark.slow)])
@pytest.mark.parametrize("when", ["epoch end", "validation end"])
def test_resuming_from_other_hooks(tmp_path: Path, when: str, checkpoints: str) -> None:
    whole, module = Seen(), tiny_module()
    options = {"val_check_interval": 4} if when == "validation end" else {"check_val_every_n_epoch": 1}
    saver = checkpoint_every(tmp_path, **({"every_n_epochs": 1, "save_on_train_epoch_end": when == "epoch end"}))
    tiny_trainer(tmp_path, callbacks=[whole, saver], **options).fit(module, datamodule=tiny_data(tmp_path / "files"))
    saved = sorted(tmp_path.glob("step=*.ckpt"), key=lambda p: int(p.stem.split("=")[1].split("-")[0]))
    assert len(saved) >= 3
    for path in saved[:-1] if checkpoints == "all" else (saved[0], saved[-2]):
        before = int(path.stem.split("=")[1].split("-")[0])
        rest, resumed = Seen(), tiny_module()
        resumer = tiny_trainer(tmp_path, callbacks=[rest], **options)
        resumer.fit(resumed, datamodule=tiny_data(tmp_path / "files"), ckpt_path=path, weights_only=True)
        assert rest.steps == whole.steps[before:], path
        assert all(torch.equal(v, resumed.state_dict()[k]) for k, v in module.state_dict().items())


class Validated(pl.callbacks.Callback):
    """Note the step and the loss of each validation."""

    def __init__(self) -> None:
        self.losses: list[tuple[int, float]] = []

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.losses.append((trainer.global_step, float(trainer.callback_metrics["val/loss"])))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"val_check_interval": 4},
        {"val_check_interval": 5, "check_val_every_n_epoch": None},
        {"val_check_interval": 4, "accumulate_grad_batches": 2},
    ],
)
def test_a_checkpoint_before_a_validation_is_resumed_with_it(tmp_path: Path, options: dict[str, Any]) -> None:
    whole, module = Validated(), tiny_module()
    saver = checkpoint_every(tmp_path, every_n_train_steps=1, save_on_train_epoch_end=True)
    tiny_trainer(tmp_path, callbacks=[whole, saver], **options).fit(module, datamodule=tiny_data(tmp_path / "files"))
    assert whole.losses
    first, second = (step for step, _ in whole.losses[:2])
    for step in (first, second):
        path = tmp_path / f"step={step}.ckpt"
        rest, resumed = Validated(), tiny_module()
        trainer = tiny_trainer(tmp_path, callbacks=[rest], **options)
        trainer.fit(resumed, datamodule=tiny_data(tmp_path / "files"), ckpt_path=path, weights_only=True)
        assert rest.losses == [one for one in whole.losses if one[0] >= step], path
        assert all(torch.equal(v, resumed.state_dict()[k]) for k, v in module.state_dict().items())


def test_changed_data_cannot_be_continued(tmp_path: Path) -> None:
    saver = checkpoint_every(tmp_path, every_n_train_steps=4)
    tiny_trainer(tmp_path, callbacks=[saver], max_epochs=1).fit(tiny_module(), datamodule=tiny_data(tmp_path / "files"))
    with pytest.raises(InputError, match=r"global_batch: 20 in the checkpoint, 10 now.*init_from"):
        tiny_trainer(tmp_path).fit(
            tiny_module(), datamodule=tiny_data(tmp_path / "files", batch_size=10), ckpt_path=tmp_path / "step=4.ckpt"
        )
