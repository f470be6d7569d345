"""Examples per second of the loaders, no training: `python -m benchmarks.loader [key=value …]`.

The baseline reads a file and an HDF5 slice for every sample in two workers; ours is `MomentDataModule` with
`num_workers=0`. Both give shuffled batches of the same moments: mean of the rows within ± 2 s, and the text embedding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from benchmarks.report import DATA, RESULTS, Report, quiet, read_settings, table
from benchmarks.timing import medians, paired_ratio, take_turns
from benchmarks.tutorial_data import Size, tutorial_data
from benchmarks.tutorial_style import NarrationFiles, narration_loader
from clep.data import MomentDataModule

BASELINE = "baseline"


@dataclass
class Settings:
    """Settings of this benchmark; `batches` is the timed part of the baseline's epoch, after `warm_batches`.

    `threads` are torch's, 0 for as many as it takes by itself.
    """

    data: str = DATA
    results: str = str(RESULTS)
    repeats: int = 7
    batch_size: int = 128
    workers: int = 2
    batches: int = 40
    warm_batches: int = 8
    larger_batch: int = 1024
    threads: int = 0
    size: Size = field(default_factory=Size)


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, write the result and return it."""
    settings = read_settings(Settings, words)
    quiet()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    data = tutorial_data(settings.data, settings.size)
    report = Report("loader", settings, settings.results)
    files = NarrationFiles(data.per_video, data.narration_files)
    part = settings.batches + 2 * settings.warm_batches
    baseline = narration_loader(files, settings.batch_size, part, settings.workers)
    ours = {
        f"{device}, {dtype}": data.module(dtype, device, settings.batch_size)
        for device in ("cpu", "disk")
        for dtype in ("float16", "float32")
    }
    larger = {
        f"{device}, float16, batch {settings.larger_batch}": data.module("float16", device, settings.larger_batch)
        for device in ("cpu", "disk")
    }
    report.add("same_batches", _largest_difference(files, ours, settings.batch_size))

    sides: dict[str, Callable[[], float]] = {BASELINE: lambda: _part_of_an_epoch(baseline, settings.warm_batches)}
    sides |= {name: _epoch(module) for name, module in {**ours, **larger}.items()}
    raw = take_turns(sides, settings.repeats)
    middle = medians(raw)
    ratios = {name: paired_ratio(raw, name, BASELINE) for name in raw if name != BASELINE}
    report.add("examples_per_second", raw)
    report.add("median_examples_per_second", middle)
    report.add("ratio_to_baseline", ratios)
    table(
        f"loader, batch {settings.batch_size}",
        ("loader", "examples/s", "× baseline", "lowest", "highest"),
        [
            (name, middle[name], *ratios.get(name, {"ratio": 1.0, "lowest": None, "highest": None}).values())
            for name in raw
        ],
    )
    report.target("bank in RAM (float16) ÷ baseline", ratios["cpu, float16"]["ratio"], 60)
    report.target("bank in RAM (float32) ÷ baseline", ratios["cpu, float32"]["ratio"], 60)
    report.target("bank on a warm disk (float16) ÷ baseline", ratios["disk, float16"]["ratio"], 40)
    report.target("bank on a warm disk (float32) ÷ baseline", ratios["disk, float32"]["ratio"], 40)
    return report.write()


def _epoch(module: MomentDataModule) -> Callable[[], float]:
    loader, epochs = module.train_dataloader(), count()

    def examples_per_second() -> float:
        assert module.train_sampler is not None
        module.train_sampler.set_epoch(next(epochs))
        started, examples = perf_counter(), 0
        for batch in loader:
            examples += len(batch["text"])
        return examples / (perf_counter() - started)

    return examples_per_second


def _part_of_an_epoch(loader: DataLoader, warm: int) -> float:
    """Time the middle of the part: the workers are busy when the clock starts and still are when it stops."""
    started, stopped, examples = perf_counter(), 0.0, 0
    for number, batch in enumerate(loader):
        if number == warm:
            started, examples = perf_counter(), 0
        elif number <= len(loader) - warm:
            stopped, examples = perf_counter(), examples + len(batch["text"])
    return examples / (stopped - started)


def _largest_difference(files: NarrationFiles, ours: dict[str, MomentDataModule], moments: int) -> dict[str, Any]:
    """Compare the numbers of both sides for the same moments, so that both are known to do the same work."""
    chosen = np.random.default_rng(1).permutation(len(files))[:moments].tolist()
    expected = [files[index] for index in chosen]
    found: dict[str, Any] = {"moments": len(chosen)}
    for name, module in ours.items():
        batch = module.parts[0].__getitems__(chosen)
        assert torch.equal(batch["text_id"], torch.stack([item["text_id"] for item in expected]))
        found[name] = {
            key: float((batch[key] - torch.stack([item[key] for item in expected])).abs().max())
            for key in ("video", "text")
        }
    files._opened = None
    return found


if __name__ == "__main__":
    main()
