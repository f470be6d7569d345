"""Child process of `benchmarks.opening`: train from a bank on disk, and print the memory used.

The bank is mapped, so its pages are the system's cache and not the process's own; `Anonymous` of
/proc/self/smaps_rollup is what the process has to itself (Linux).
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pytorch_lightning as pl

from benchmarks.our_training import examples_per_second, experiment
from benchmarks.report import quiet, read_settings
from clep.data import MomentDataModule, NarrationSource

KEPT = ("Rss", "Anonymous", "Private_Dirty", "Private_Clean", "Shared_Clean")


@dataclass
class Settings:
    """Of the child: where its files lie, and how long it trains."""

    folder: str = "."
    batch_size: int = 2048
    steps: int = 38


class Watched(pl.Callback):
    """Keeps what the process's memory was after each step."""

    def __init__(self) -> None:
        self.seen: dict[str, list[float]] = {name: [] for name in KEPT}

    def on_train_batch_end(self, *arguments: Any) -> None:
        """Measure the process's memory."""
        for name, value in memory_mb().items():
            self.seen[name].append(value)


def memory_mb() -> dict[str, float]:
    """Read this process's memory by kind, in MB."""
    lines = (line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
    kilobytes = {words[0].rstrip(":"): int(words[1]) for words in lines}
    return {name: round(kilobytes[name] * 1024 / 1e6, 1) for name in KEPT}


def main(words: Sequence[str] | None = None) -> None:
    """Train, then print the figures as one line of JSON."""
    settings = read_settings(Settings, words)
    quiet()
    folder = Path(settings.folder)
    narrations, texts, bank = (str(folder / name) for name in ("narrations.arrow", "texts.h5", "bank.h5"))
    data = MomentDataModule(
        {"made": NarrationSource(narrations, texts, bank, val_fraction=0.0, duplicate_s=0.0)},
        batch_size=settings.batch_size,
        device="disk",
        text_device="disk",
    )
    small = [f"model.{side}.hidden_dim=64" for side in ("video", "text")]
    with tempfile.TemporaryDirectory() as scratch:
        cfg = experiment(["experiment=ego4d_clip", f"paths.run='{scratch}'", "trainer.accelerator=cpu", *small])
        before, watched = memory_mb(), Watched()
        speed = examples_per_second(cfg, data, Path(scratch), settings.steps - 1, 1, [watched])
    usual = {name: median(values) for name, values in watched.seen.items()}
    largest = {name: max(values) for name, values in watched.seen.items()}
    print(json.dumps({"before": before, "usual": usual, "largest": largest, "examples_per_second": speed}))


if __name__ == "__main__":
    main()
