"""Our trainer at a fixed number of steps: the configured recipe, module and trainer, timed from the inside."""

import contextlib
import io
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf

from clep.config.build import build_typed
from clep.config.compose import compose_config
from clep.data import MomentDataModule
from clep.training.tasks import Contrastive


def experiment(overrides: Sequence[str]) -> DictConfig:
    """Compose the configuration that `python train.py` would have with these words."""
    return compose_config("train", ["video_encoder='made up'", *overrides])


class Batches:
    """Batches that are there already; not a list, which the trainer would read as several loaders."""

    def __init__(self, batches: list[dict[str, torch.Tensor]]) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        return iter(self._batches)


class GatheredBefore(pl.LightningDataModule):
    """The first batches of a data module, gathered before the clock starts, on the device that trains."""

    def __init__(self, data: MomentDataModule, batches: int, device: torch.device) -> None:
        super().__init__()
        self.data = data
        loader = islice(data.train_dataloader(), batches)
        self.batches = Batches([data.transfer_batch_to_device(batch, device, 0) for batch in loader])

    def train_dataloader(self) -> Batches:
        """Return the batches themselves."""
        return self.batches


class Stopwatch(pl.Callback):
    """Measures examples per second after the first `warm` steps."""

    def __init__(self, warm: int) -> None:
        self.warm, self.steps, self.examples, self.seconds = warm, 0, 0, 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
        """Start the clock after the last warm step, read it at the last step."""
        self.steps += 1
        if self.steps > self.warm:
            self.examples += len(arguments[2]["text"])
        if self.steps in (self.warm, trainer.max_steps):
            if trainer.strategy.root_device.type == "cuda":
                torch.cuda.synchronize()
            self.seconds = perf_counter() - self.seconds

    @property
    def examples_per_second(self) -> float:
        """The measured speed."""
        return self.examples / self.seconds


def examples_per_second(
    cfg: DictConfig,
    data: MomentDataModule | GatheredBefore,
    run: Path,
    steps: int,
    warm: int,
    more_callbacks: Sequence[pl.Callback] = (),
    compile_steps: bool = False,
) -> float:
    """Train `warm + steps` steps with the trainer, logger and callbacks of `cfg`; return the speed of the last `steps`.

    No checkpoint is written and nothing is evaluated, since neither belongs to a step.
    """
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    made_for = data.data if isinstance(data, GatheredBefore) else data
    module = Contrastive().build(plain, made_for)
    if compile_steps:
        module.compile_steps()
    watch = Stopwatch(warm)
    with contextlib.redirect_stdout(io.StringIO()):  # where the progress bar goes
        trainer = build_typed(
            cfg.trainer,
            callbacks=[watch, build_typed(cfg.callbacks.progress), *more_callbacks],
            logger=[build_typed(logger) for logger in cfg.logger.values()],
            max_steps=warm + steps,
            max_epochs=-1,
            limit_val_batches=0,
            enable_checkpointing=False,
            default_root_dir=str(run),
        )
        trainer.fit(module, datamodule=data)
    if watch.steps != warm + steps:
        raise RuntimeError(f"{watch.steps} steps were taken instead of {warm + steps}")
    return watch.examples_per_second
