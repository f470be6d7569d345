"""Examples per second of training on a GPU, a part of `benchmarks.gpu`: `python -m benchmarks.gpu_training`.

The tutorial's model in bf16 on Ego4D's features: from a bank on the device, from mapped disk without and with loader
workers, from batches that were gathered before, and with compiled steps. Beside each step stands what its matrix
products and its memory traffic take at the chip's peak.
"""

import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf

from benchmarks.device import bound_s, flops_of, peaks
from benchmarks.ego4d_data import data_module, prepare
from benchmarks.our_training import GatheredBefore, examples_per_second, experiment
from benchmarks.report import DATA, RESULTS, Report, quiet, read_settings, table
from benchmarks.timing import medians, take_turns
from benchmarks.training import TUTORIAL_PUBLISHED
from clep.data import MomentDataModule
from clep.training.tasks import Contrastive

ON_DEVICE, ON_DISK, GATHERED, COMPILED = "bank on the device", "mapped disk", "gathered before", "compiled"
ADAMW_BYTES = 28
"""Bytes a parameter that a step moves: weight, gradient and two moments are read, weight and moments written."""


@dataclass
class Settings:
    """Settings: `steps` are timed for each of `batches`, after `warm_steps`; `compiled` are batch sizes too."""

    data: str = DATA
    results: str = str(RESULTS)
    device: str = "cuda"
    fraction: float = 0.01
    dim: int = 1536
    text_dim: int = 768
    width: int = 1536
    batches: list[int] = field(default_factory=lambda: [1024, 4096, 128, 16384])
    steps: list[int] = field(default_factory=lambda: [200, 100, 300, 40])
    warm_steps: int = 10
    turns: int = 2
    workers: int = 8
    compiled: list[int] = field(default_factory=lambda: [1024, 4096, 128, 16384])


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, write the result and return it. What was measured is kept after each batch size."""
    settings = read_settings(Settings, words)
    quiet()
    folder = prepare(Path(settings.data), settings.fraction, settings.dim, settings.text_dim)
    report = Report("gpu_training", settings, settings.results)
    peak = peaks(settings.device)
    report.add("peaks", peak)
    report.add("tutorial_published", TUTORIAL_PUBLISHED)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        sizes = list(zip(settings.batches, settings.steps, strict=True))
        for batch, steps in sizes:
            raw = take_turns(_sides(settings, folder, batch, steps, Path(scratch)), settings.turns, warm=0)
            found[f"batch {batch}"] = _described(raw, batch, _bound(settings, folder, batch, peak))
            report.add("examples_per_second", found)
            report.save()
        if settings.device != "cpu":
            report.add("synchronisations", _synchronisations(settings, folder, Path(scratch)))
            report.save()
        for batch, steps in (size for size in sizes if size[0] in settings.compiled):
            data = data_module(folder, settings.device, batch, steps + settings.warm_steps)
            speed = examples_per_second(
                _config(settings, Path(scratch)), data, Path(scratch), steps, settings.warm_steps, compile_steps=True
            )
            found[f"batch {batch}"]["examples_per_second"][COMPILED] = [speed]
            found[f"batch {batch}"]["median"][COMPILED] = speed
            report.save()
    _targets(report, found)
    rows = [(name, *(one["median"].get(side) for side in _SIDES), 1e3 * one["bound_s"]) for name, one in found.items()]
    table("training, examples/s", ("batch", *_SIDES, "bound, ms a step"), rows)
    return report.write()


_SIDES = (ON_DEVICE, ON_DISK, f"{ON_DISK}, workers", GATHERED, COMPILED)


def _sides(settings: Settings, folder: Path, batch: int, steps: int, scratch: Path) -> dict[str, Callable[[], float]]:
    warm, cfg = settings.warm_steps, _config(settings, scratch)
    on_device = data_module(folder, settings.device, batch, steps + warm)
    few = min(steps, max(3, 2**30 // (4 * batch * (settings.dim + settings.text_dim))))
    sources: dict[str, tuple[MomentDataModule | GatheredBefore, int]] = {
        ON_DEVICE: (on_device, steps),
        ON_DISK: (data_module(folder, "disk", batch, steps + warm), steps),
        f"{ON_DISK}, workers": (data_module(folder, "disk", batch, steps + warm, settings.workers), steps),
        GATHERED: (GatheredBefore(on_device, few + warm, torch.device(settings.device)), few),
    }
    return {
        name: partial(examples_per_second, cfg, data, scratch, count, warm) for name, (data, count) in sources.items()
    }


def _config(settings: Settings, scratch: Path) -> DictConfig:
    width = [
        f"model.{side}.{what}={settings.width}" for side in ("video", "text") for what in ("hidden_dim", "out_dim")
    ]
    words = [f"paths.run='{scratch}'", "precision=bf16-mixed", "video_encoder=synthetic-ego4d", *width]
    return experiment(
        ["experiment=ego4d_tutorial", f"trainer.accelerator={'cpu' if settings.device == 'cpu' else 'gpu'}", *words]
    )


def _bound(settings: Settings, folder: Path, batch: int, peak: dict[str, Any]) -> dict[str, float]:
    """Return the operations and bytes of a step, and the seconds that they take at the chip's peak."""
    data = data_module(folder, settings.device, batch, 1)
    settings_of_run: Any = OmegaConf.to_container(_config(settings, folder), resolve=True)
    module = Contrastive().build(settings_of_run, data).to(settings.device)
    moments = GatheredBefore(data, 1, torch.device(settings.device)).batches
    example = next(iter(moments))

    def step() -> None:
        with torch.autocast(settings.device, torch.bfloat16):
            module.compute_loss(example).backward()

    flops = flops_of(step)
    parameters = sum(parameter.numel() for parameter in module.model.parameters())
    windows = data.parts[0].indices(torch.arange(len(data.parts[0])))
    rows = float((windows["last"] - windows["first"]).double().mean())
    gathered = batch * (2 * rows * settings.dim + 4 * settings.text_dim)
    moved = ADAMW_BYTES * parameters + gathered
    return {"flops": flops, "parameters": parameters, "bytes": moved, "seconds": bound_s(flops, moved, peak)}


def _described(raw: dict[str, list[float]], batch: int, bound: dict[str, float]) -> dict[str, Any]:
    middle = medians(raw)
    return {
        "examples_per_second": dict(raw),
        "median": middle,
        "step_s": batch / middle[ON_DEVICE],
        "of_a_step": bound,
        "bound_s": bound["seconds"],
        "bound_over_step": bound["seconds"] * middle[ON_DEVICE] / batch,
        "times_tutorial": middle[ON_DEVICE] / TUTORIAL_PUBLISHED,
    }


class _CountSynchronisations(pl.Callback):
    """Notes the lines at which steps after `warm` wait for the GPU."""

    def __init__(self, warm: int) -> None:
        self.warm, self.steps, self.lines = warm, 0, Counter[str]()
        self._caught: Any = None

    def on_train_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
        """Start to note after the last warm step."""
        self.steps += 1
        if self.steps == self.warm:
            self._catcher = warnings.catch_warnings(record=True)
            self._caught = self._catcher.__enter__()
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count them."""
        torch.cuda.set_sync_debug_mode("default")
        for one in self._caught or ():
            if "synchroniz" in str(one.message):
                self.lines[f"{'/'.join(Path(one.filename).parts[-3:])}:{one.lineno}"] += 1
        if self._caught is not None:
            self._catcher.__exit__(None, None, None)


def _synchronisations(settings: Settings, folder: Path, scratch: Path) -> dict[str, Any]:
    """Count, in 20 steps between two log entries, the calls that wait for the GPU, by line."""
    steps, warm = 20, settings.warm_steps
    data = data_module(folder, settings.device, settings.batches[0], steps + warm)
    counter = _CountSynchronisations(warm)
    cfg = _config(settings, scratch)
    cfg.trainer.log_every_n_steps = steps + warm + 1
    examples_per_second(cfg, data, scratch, steps, warm, more_callbacks=[counter])
    return {"steps": steps, "lines": dict(counter.lines), "a_step": sum(counter.lines.values()) / steps}


def _targets(report: Report, found: dict[str, Any]) -> None:
    one = found.get("batch 4096")
    if one is None:
        return
    report.target("examples/s at batch 4,096, bank on the device", one["median"][ON_DEVICE], at_least=1_000_000)
    from_disk = max(one["median"][ON_DISK], one["median"][f"{ON_DISK}, workers"])
    report.target("mapped disk ÷ bank on the device, batch 4,096", from_disk / one["median"][ON_DEVICE], at_least=0.9)


if __name__ == "__main__":
    main()
