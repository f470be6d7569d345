"""Time of the samplers: `python -m benchmarks.samplers [key=value …]`.

Overhead: the seconds in which each sampler makes an epoch's batches of a million narrations, a batch's share of them,
beside the step that trains on such a batch (`experiment=ego4d_clip`). Search: the memory and time in which
`HardNegativeSearch` finds the near neighbours of all training videos.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from threading import Event, Thread
from time import perf_counter
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from benchmarks.machine import process_memory_mb
from benchmarks.our_training import examples_per_second, experiment
from benchmarks.report import DATA, RESULTS, Report, quiet, read_settings, table
from benchmarks.timing import medians, take_turns
from benchmarks.tutorial_data import Size, tutorial_data
from clep.bank import BankWriter, Clock
from clep.data import (
    HardNegatives,
    MomentBatchSampler,
    MomentDataModule,
    MomentKeys,
    NarrationSource,
    SamplingStrategy,
    SceneAware,
    UniqueTexts,
)
from clep.text import Narrations
from clep.text.narration_table import assemble
from clep.training import HardNegativeSearch

MEGABYTE = 1e6


@dataclass
class Settings:
    """Settings of this benchmark: a step on `size`, samplers over `narrations`, a search among `search_videos`.

    Each of the latter has `rows` rows and `search_moments` moments, all of which are embedded. `threads` are torch's,
    0 for as many as it takes by itself.
    """

    data: str = DATA
    results: str = str(RESULTS)
    repeats: int = 3
    narrations: int = 1_000_000
    videos: int = 2_500
    distinct_texts: int = 300_000
    batch_size: int = 1024
    steps: int = 8
    warm_steps: int = 2
    search_videos: int = 10_000
    search_moments: int = 16
    rows: int = 8
    width: int = 1536
    threads: int = 0
    size: Size = field(default_factory=Size)


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, write the result and return it."""
    settings = read_settings(Settings, words)
    quiet()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    report = Report("samplers", settings, settings.results)
    with tempfile.TemporaryDirectory() as scratch:
        _search(settings, report, Path(scratch))
        _overhead(settings, report, Path(scratch))
    return report.write()


def made_up_keys(settings: Settings) -> MomentKeys:
    """Return a million moments: texts as often as in real narrations, a few very often, videos of different lengths."""
    random = np.random.default_rng(0)
    n = settings.narrations
    text = np.minimum(random.zipf(1.3, n), settings.distinct_texts) + random.integers(0, 3, n)
    often = random.random(n) < 0.5
    text = np.where(often, text, random.integers(0, settings.distinct_texts, n))
    video = random.choice(settings.videos, n, p=random.dirichlet(np.full(settings.videos, 2.0)))
    second = random.random(n) * 1500
    order = np.lexsort((second, video))
    video = np.unique(video[order], return_inverse=True)[1]
    arrays = (text[order].astype(np.int64), video.astype(np.int64), second[order])
    return MomentKeys(*(torch.from_numpy(array) for array in arrays), [n])


def _overhead(settings: Settings, report: Report, scratch: Path) -> None:
    keys, size = made_up_keys(settings), settings.batch_size
    hard = HardNegatives()
    n_videos = int(keys.video.max()) + 1
    near = min(2 * hard.videos, n_videos)
    others = torch.randint(0, n_videos, (n_videos, near), dtype=torch.int32)
    others[:, 0] = torch.arange(n_videos)
    hard.neighbours = others
    strategies: dict[str, SamplingStrategy | None] = {
        "shuffled": None,
        "unique_texts": UniqueTexts(),
        "scene_aware": SceneAware(),
        "hard_negatives": hard,
    }
    data = tutorial_data(settings.data, settings.size).module("float16", "disk", size)
    hidden = [f"model.{side}.hidden_dim={settings.width}" for side in ("video", "text")]
    cfg = experiment(["experiment=ego4d_clip", f"paths.run='{scratch}'", "trainer.accelerator=cpu", *hidden])
    sides: dict[str, Any] = {
        "step": lambda: size / examples_per_second(cfg, data, scratch, settings.steps, settings.warm_steps)
    }
    opened: dict[str, float] = {}
    for name, strategy in strategies.items():
        started = perf_counter()
        if strategy is not None:
            strategy.open(keys, size, size)
        sampler = MomentBatchSampler(keys.sizes, size, strategy=strategy)
        opened[name] = perf_counter() - started
        sides[name] = _epoch(sampler)
    raw = take_turns(sides, settings.repeats)
    middle = medians(raw)
    report.add("seconds_a_batch", raw)
    report.add("median_seconds_a_batch", middle)
    report.add("opening_seconds", opened)
    shares = {name: 100 * middle[name] / middle["step"] for name in strategies}
    report.add("percent_of_the_step", shares)
    rows = [(name, 1000 * middle[name], shares[name], opened[name]) for name in strategies]
    title = f"samplers, {len(keys):,} narrations, batch {size}, step {1000 * middle['step']:.0f} ms"
    table(title, ("sampler", "ms a batch", "% of the step", "s to open"), rows)
    for name in strategies:
        report.target(f"{name}, % of the step", shares[name], at_most=5)


def _epoch(sampler: MomentBatchSampler) -> Any:
    epochs = count()

    def seconds_a_batch() -> float:
        sampler.set_epoch(next(epochs))
        started = perf_counter()
        batches = sum(1 for _ in sampler)
        return (perf_counter() - started) / batches

    return seconds_a_batch


class _Watched(HardNegativeSearch):
    """Keeps what one search took: seconds, and how far the process's own memory grew."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Search under watch; a first batch is fetched and encoded before, so that libraries are loaded."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        with torch.no_grad():
            batch = data.train_set.__getitems__(list(range(min(data.batch_size, len(data.train_set)))))
            data.training_sampler()
            model: Any = pl_module.model
            self.embed_dim = (model.encode_video(batch) + model.encode_text(batch)).shape[1]
        del batch
        with _OwnMemory() as memory:
            started = perf_counter()
            super().on_fit_start(trainer, pl_module)
            self.seconds = perf_counter() - started
        self.grown_mb = memory.grown_mb


class _OwnMemory:
    """Watches the anonymous memory of this process: mapped files, whose pages are the system's cache, do not count."""

    def __enter__(self) -> "_OwnMemory":
        self._before = self._largest = self._now()
        self._done = Event()
        self._thread = Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def grown_mb(self) -> float:
        """The largest growth since the start."""
        return self._largest - self._before

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self._largest = max(self._largest, self._now())

    @staticmethod
    def _now() -> float:
        return process_memory_mb("RssAnon")


def _search(settings: Settings, report: Report, scratch: Path) -> None:
    if not Path("/proc/self/status").exists():
        report.add("search", {"skipped": "a process's memory is read from /proc, which this system lacks"})
        return
    watched = _Watched(moments=settings.search_moments)
    data = MomentDataModule(
        {"made": _narrated_videos(settings, scratch)}, batch_size=settings.batch_size, sampler=HardNegatives()
    )
    hidden = [f"model.{side}.hidden_dim={settings.width}" for side in ("video", "text")]
    cfg = experiment(["experiment=ego4d_clip", f"paths.run='{scratch}'", "trainer.accelerator=cpu", *hidden])
    examples_per_second(cfg, data, scratch, 1, 1, [watched])
    videos, size = settings.search_videos, settings.size
    bound = {
        "embeddings": 8 * videos * watched.embed_dim / MEGABYTE,
        "neighbours": 8 * videos * HardNegatives().videos / MEGABYTE,
        "similarities": 2 * watched.at_once_mb * 2**20 / MEGABYTE,
        "one batch": 4 * settings.batch_size * (size.dim + size.text_dim + 4 * settings.width) * 2 / MEGABYTE,
    }
    report.add("search", {"grown_mb": watched.grown_mb, "bound_mb": bound, "seconds": watched.seconds})
    rows = [("grown, measured", watched.grown_mb), *((f"bound: {name}", value) for name, value in bound.items())]
    title = f"search among {videos:,} videos, {settings.search_moments} moments each, {watched.seconds:.1f} s"
    table(title, ("memory", "MB"), rows)
    ratio = watched.grown_mb / sum(bound.values())
    report.target(f"memory of a search among {videos:,} videos ÷ stated bound", ratio, at_most=1)


def _narrated_videos(settings: Settings, folder: Path) -> NarrationSource:
    """Write `search_videos` short videos with `search_moments` narrations each."""
    random, size = np.random.default_rng(1), settings.size
    videos = [f"v{number:06d}" for number in range(settings.search_videos)]
    clock = Clock()
    n, length_s = len(videos) * settings.search_moments, settings.rows / clock.rows_per_second
    texts = [f"#C C does thing number {number}" for number in range(size.distinct_texts)]
    made = assemble(
        videos=videos,
        redacted=np.zeros(len(videos), dtype=bool),
        about={},
        video=np.repeat(np.arange(len(videos), dtype=np.int32), settings.search_moments),
        second=random.random(n) * length_s,
        passes=np.ones(n, dtype=np.int8),
        written=texts,
        written_id=random.integers(0, len(texts), n).astype(np.int32),
        tag_style="clean",
    )
    made.write(folder / "narrations.arrow")
    narrations = Narrations.open(folder / "narrations.arrow")
    with BankWriter(folder / "texts.h5", size.text_dim, None, "float32", source=narrations.digest) as writer:
        writer.add("texts", random.standard_normal((len(narrations.texts), size.text_dim), dtype=np.float32))
    with BankWriter(folder / "bank.h5", size.dim, clock, "float16", encoder="made up") as writer:
        for video in videos:
            writer.add(video, random.standard_normal((settings.rows, size.dim), dtype=np.float32))
    paths = {"narrations": "narrations.arrow", "texts": "texts.h5", "bank": "bank.h5"}
    return NarrationSource(**{key: str(folder / name) for key, name in paths.items()}, val_fraction=0.0)


if __name__ == "__main__":
    main()
