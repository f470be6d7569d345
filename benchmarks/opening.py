"""Seconds to open a large dataset, and memory of training from disk: `python -m benchmarks.opening`.

Opening: a bank of 10,000 videos and a table of 1,000,000 narrations, texts lazy, beside listing the 10,000 keys of an
HDF5 file and unpickling a list of 1,000,000 dicts, which is how the tutorial's data set begins. Memory: a process of
its own trains from banks of growing size; what it has to itself must not grow with them.
"""

import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.report import RESULTS, Report, read_settings, table
from benchmarks.timing import medians, paired_ratio, seconds_of, take_turns
from clep.bank import BankWriter, Clock, FeatureBank
from clep.text import Narrations, NarrationTable, Texts

ROWS_OF_A_VIDEO = 2250
"""Of twenty minutes."""

STEADY_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "262144", "MALLOC_ARENA_MAX": "1"}
"""glibc keeps freed memory by rules of its own, so that runs differ; so it gives tensors back at once."""


@dataclass
class Settings:
    """Of this benchmark; `bank_gb` are the sizes of the banks that are trained from, in GB of 10^9 bytes."""

    results: str = str(RESULTS)
    repeats: int = 5
    videos: int = 10_000
    narrations: int = 1_000_000
    distinct_texts: int = 294_000
    dim: int = 1536
    text_dim: int = 768
    bank_gb: list[float] = field(default_factory=lambda: [0.25, 0.5, 1.0, 2.0])
    moments: int = 80_000
    batch_size: int = 2048


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, write the result and return it."""
    settings = read_settings(Settings, words)
    report = Report("opening", settings, settings.results)
    with tempfile.TemporaryDirectory() as scratch:
        _opening(settings, report, Path(scratch))
    if Path("/proc/self/smaps_rollup").exists():
        _memory(settings, report)
    else:
        report.add("memory", {"skipped": "this system has no /proc/self/smaps_rollup"})
    return report.write()


def _opening(settings: Settings, report: Report, folder: Path) -> None:
    rng = np.random.default_rng(0)
    uids = [f"{rng.integers(2**63):016x}-{number:05d}" for number in range(settings.videos)]
    table_of = narration_table(uids, settings.narrations, settings.distinct_texts, rng)
    table_of.write(folder / "narrations.arrow")
    with BankWriter(folder / "bank.h5", settings.dim, Clock(), n_rows=2 * settings.videos) as writer:
        for uid in uids:
            writer.add(uid, np.ones((2, settings.dim), np.float16))
    with h5py.File(folder / "per_video.hdf5", "w") as file:
        for uid in uids:
            file.create_dataset(uid, data=np.ones((2, 16), np.float32))
    with (folder / "narrations.pkl").open("wb") as file:
        pickle.dump(_as_dicts(table_of), file)
    del table_of

    def baseline() -> object:
        with h5py.File(folder / "per_video.hdf5", "r") as file:
            keys = list(file.keys())
        with (folder / "narrations.pkl").open("rb") as file:
            return keys, pickle.load(file)

    def opened() -> tuple[FeatureBank, Narrations]:
        bank, narrations = FeatureBank.open(folder / "bank.h5"), Narrations.open(folder / "narrations.arrow")
        assert len(bank.videos) == settings.videos
        assert len(narrations) == settings.narrations
        return bank, narrations

    def read() -> object:
        bank, narrations = opened()
        columns = (narrations.video, narrations.second, narrations.passes, narrations.text_id)
        return bank.index(narrations.videos).sum(), [column.sum() for column in columns], narrations.texts[0]

    sides = {"baseline": baseline, "ours, opened": opened, "ours, every column read": read}
    raw = take_turns({name: seconds_of(work) for name, work in sides.items()}, settings.repeats)
    ratios = {name: paired_ratio(raw, "baseline", name) for name in raw if name != "baseline"}
    middle = medians(raw)
    report.add("opening", {"seconds": raw, "median": middle, "baseline_over_ours": ratios})
    table(
        f"opening {settings.videos:,} videos and {settings.narrations:,} narrations",
        ("what", "ms", "× faster"),
        [(name, 1e3 * middle[name], ratios[name]["ratio"] if name in ratios else 1.0) for name in raw],
    )
    report.target("baseline ÷ opened, texts lazy", ratios["ours, opened"]["ratio"], at_least=50)


def _memory(settings: Settings, report: Report) -> None:
    found: dict[str, Any] = {}
    for size in settings.bank_gb:
        with tempfile.TemporaryDirectory() as folder:
            found[f"{size} GB"] = _train_from_disk(settings, size, Path(folder))
    report.add("memory_mb", found)
    table(
        "a process that trains from disk, MB",
        ("bank", "its own before", "its own, usual step", "its own, largest", "mapped pages it touched"),
        [
            (
                name,
                one["before"]["Anonymous"],
                one["usual"]["Anonymous"],
                one["largest"]["Anonymous"],
                one["largest"]["Rss"] - one["largest"]["Anonymous"],
            )
            for name, one in found.items()
        ],
    )
    if len(settings.bank_gb) > 1:
        own = [one["usual"]["Anonymous"] for one in found.values()]
        slope = float(np.polyfit(settings.bank_gb, own, 1)[0])
        report.add("own_mb_per_gb_of_bank", slope)
        report.target("own memory, MB for each GB of bank", slope, at_most=20)  # what a run differs from the next


def _train_from_disk(settings: Settings, size_gb: float, folder: Path) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    videos = max(2, round(size_gb * 1e9 / (2 * settings.dim * ROWS_OF_A_VIDEO)))
    uids = [f"video-{number:06d}" for number in range(videos)]
    narrations = narration_table(uids, settings.moments, settings.moments // 4, rng)
    narrations.write(folder / "narrations.arrow")
    with BankWriter(folder / "texts.h5", settings.text_dim, None, "float32", source=narrations.digest) as writer:
        writer.add("texts", rng.standard_normal((len(narrations.texts), settings.text_dim), dtype=np.float32))
    block = rng.standard_normal((4 * ROWS_OF_A_VIDEO, settings.dim), dtype=np.float32).astype(np.float16)
    with BankWriter(folder / "bank.h5", settings.dim, Clock(), n_rows=videos * ROWS_OF_A_VIDEO) as writer:
        for number, uid in enumerate(uids):
            writer.add(uid, block[number % 3 * 1000 :][:ROWS_OF_A_VIDEO])
    steps = settings.moments // settings.batch_size - 1
    words = [f"folder={folder}", f"batch_size={settings.batch_size}", f"steps={steps}"]
    child = subprocess.run(
        [sys.executable, "-m", "benchmarks.disk_memory", *words],
        cwd=Path(__file__).parent.parent,
        env={**os.environ, **STEADY_MALLOC},
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(child.stdout.splitlines()[-1])


def narration_table(
    uids: list[str], count: int, distinct: int, rng: np.random.Generator, end_s: float = ROWS_OF_A_VIDEO * 16 / 30
) -> NarrationTable:
    """Make narrations at random seconds of videos that all end at `end_s`."""
    texts = Texts.of(f"Camera wearer takes the thing number {number} from the shelf" for number in range(distinct))
    video = np.sort(rng.integers(0, len(uids), count)).astype(np.int32)
    second = rng.uniform(2, end_s - 2, count)
    order = np.lexsort((second, video))
    text = rng.permutation(np.arange(count) % distinct).astype(np.int32)
    return NarrationTable(
        videos=tuple(sorted(uids)),
        duration_s=np.full(len(uids), end_s),
        splits={name: np.full(len(uids), "train") for name in ("split_em", "split_fho", "split_av")},
        redacted=np.zeros(len(uids), bool),
        video=video,
        second=second[order],
        passes=rng.integers(1, 3, count).astype(np.int8),
        text_id=text,
        written_id=text,
        texts=texts,
        written=texts,
        words=np.full(count, 8, np.int16),
    )


def _as_dicts(narrations: NarrationTable) -> list[dict[str, Any]]:
    """Return the narrations as reading narration.json gives them: a text is a string of its own, an id is shared."""
    columns = (narrations.video.tolist(), narrations.second.tolist(), narrations.passes.tolist())
    return [
        {"uid": narrations.videos[video], "ts": second, "pass": number, "idx": index, "text": narrations.texts[text]}
        for index, (video, second, number, text) in enumerate(zip(*columns, narrations.text_id.tolist(), strict=True))
    ]


if __name__ == "__main__":
    main()
