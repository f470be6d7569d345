"""Index of moments: building time, memory, milliseconds a query, recall: `python -m benchmarks.search_index`.

`moments=4000000` is the size of the targets; it needs 11 GB of disk in `data`. The synthetic bank has one row a second:
each video shows one of the concepts for some seconds, then another, in a place of its own. The queries are the concepts
as a text tower gives them: noisy, and moved by a gap that all texts share.
"""

import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize

from benchmarks.report import RESULTS, Report, read_settings, table
from benchmarks.timing import medians, paired_ratio, seconds_of, take_turns
from clep.bank import BankWriter, Clock, FeatureBank
from clep.index import MomentIndex, exact
from clep.index.moment_index import IndexSettings

VIDEO_S = 1200
GAP, NOISE, PLACE = 0.5, 1.0, 0.7


@dataclass
class Settings:
    """Of this benchmark; `data` is the folder of the bank and its index, removed at the end."""

    results: str = str(RESULTS)
    data: str = ""
    moments: int = 200_000
    dim: int = 512
    concepts: int = 4000
    queries: int = 1000
    repeats: int = 5
    approximate: bool = True


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, write the result and return it."""
    settings = read_settings(Settings, words)
    report = Report("search_index", settings, settings.results)
    with tempfile.TemporaryDirectory(dir=settings.data or None) as folder:
        concepts = _unit(np.random.default_rng(0), settings.concepts, settings.dim)
        bank = write_bank(Path(folder) / "bank.h5", settings, concepts)
        _measure(settings, report, bank, text_queries(settings, concepts))
    return report.write()


def write_bank(path: Path, settings: Settings, concepts: np.ndarray) -> FeatureBank:
    """Write a bank with as many rows as there are moments."""
    rng, left, number = np.random.default_rng(1), settings.moments, 0
    with BankWriter(path, settings.dim, Clock(1.0, 1.0), n_rows=settings.moments) as writer:
        while left:
            length = min(left, VIDEO_S)
            lasting = rng.integers(2, 20, length)
            shown = np.repeat(rng.integers(0, len(concepts), length), lasting)[:length]
            noise = rng.standard_normal((length, settings.dim), dtype=np.float32) / np.sqrt(settings.dim)
            rows = concepts[shown] + PLACE * _unit(rng, 1, settings.dim) + NOISE * noise
            # The last moment of a video may be half as long: as many moments as rows with windows of 2 seconds.
            writer.add(f"video-{number:06d}", rows.astype(np.float32), duration_s=float(length))
            left, number = left - length, number + 1
    return FeatureBank.open(path, verify=False)


def text_queries(settings: Settings, concepts: np.ndarray) -> torch.Tensor:
    """Return unit-length queries, each of one concept."""
    rng = np.random.default_rng(2)
    chosen = concepts[rng.integers(0, len(concepts), settings.queries)]
    noise = rng.standard_normal(chosen.shape, dtype=np.float32) / np.sqrt(settings.dim)
    shown = chosen + GAP * _unit(rng, 1, settings.dim) + 0.5 * NOISE * noise
    return normalize(torch.from_numpy(shown).float(), dim=-1)


def _measure(settings: Settings, report: Report, bank: FeatureBank, queries: torch.Tensor) -> None:
    def embed(video: torch.Tensor, start_s: torch.Tensor, end_s: torch.Tensor) -> torch.Tensor:
        return bank.mean(*bank.window(video, start_s, end_s))

    probes, asked = queries[: len(queries) // 5], queries[len(queries) // 5 :]
    about, above = IndexSettings("benchmark", 2.0, 1.0), 0 if settings.approximate else None
    seconds: dict[str, float] = {}
    with own_memory() as peak:
        for name, limit in (("embeddings", None), ("inverted lists", above)):
            began = perf_counter()
            index = MomentIndex.open(bank, about, embed, lambda: probes, limit)
            seconds[name] = perf_counter() - began
    rows = index.rows
    report.add("build", {"seconds": seconds, "peak_anonymous_gb": peak[0], "moments": len(index)})
    files = [rows.path, rows.path.with_name(rows.path.name + ".ivf")]
    report.add("file_gb", {path.suffix: path.stat().st_size / 1e9 for path in files if path.exists()})
    report.target("minutes to build", sum(seconds.values()) / 60, at_most=15)
    report.target("peak of anonymous memory while building, GB", peak[0], at_most=4)

    taken, found = [], []
    for query in asked:
        began = perf_counter()
        index.search(query, 10)
        taken.append(1e3 * (perf_counter() - began))
        found.append(index.nearest(query, 10)[0])
    report.add("query_ms", {str(share): float(np.percentile(taken, share)) for share in (50, 95, 99)})
    report.target("milliseconds of a query, 95th percentile", float(np.percentile(taken, 95)), at_most=100)
    recall = _recall(found, exact.nearest_of_many(rows, asked, 10))
    random = normalize(torch.randn(100, settings.dim, generator=torch.Generator().manual_seed(3)), dim=-1)
    of_random = _recall([index.nearest(one, 10)[0] for one in random], exact.nearest_of_many(rows, random, 10))
    lists = None if index.approximate is None else index.approximate.probes
    report.add("recall_at_10", {"texts": recall, "random vectors": of_random, "lists read": lists})
    report.target("recall@10 of 8-bit lists, refined, against exact search", recall, at_least=0.98)

    size = rows.n_rows * rows.dim * 2
    mapped = rows.block(0, rows.n_rows).numpy().reshape(-1).view(np.uint64)
    raw = take_turns(
        {
            "exact search": seconds_of(lambda: exact.nearest(rows, asked[0], 100)),
            "plain sum": seconds_of(lambda: mapped.sum()),
        },
        settings.repeats,
    )
    speeds = {name: size / 1e9 / value for name, value in medians(raw).items()}
    ratio = paired_ratio(raw, "plain sum", "exact search")
    report.add("exact_gb_per_s", {**speeds, "sum_over_search": ratio})
    report.target("exact search ÷ plain sum, bytes a second", ratio["ratio"], at_least=0.5)
    table(
        f"{len(index):,} moments of dimension {rows.dim}",
        ("what", "value"),
        [
            *((f"building: {name}, s", value) for name, value in seconds.items()),
            ("peak of anonymous memory, GB", peak[0]),
            *((f"query, {share}th percentile, ms", float(np.percentile(taken, share))) for share in (50, 95)),
            ("recall@10, texts", recall),
            ("recall@10, random vectors", of_random),
            *((f"{name}, GB/s", value) for name, value in speeds.items()),
        ],
    )


def _recall(found: Sequence[np.ndarray], expected: np.ndarray) -> float:
    shares = [len(np.intersect1d(one, other)) / len(other) for one, other in zip(found, expected, strict=True)]
    return float(np.mean(shares))


def _unit(rng: np.random.Generator, count: int, dim: int) -> np.ndarray:
    rows = rng.standard_normal((count, dim), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@contextmanager
def own_memory() -> Iterator[list[float]]:
    """Yield a list whose one value is the peak of this process's anonymous memory in GB, looked at every 50 ms."""
    peak, ended = [0.0], threading.Event()

    def look() -> None:
        while not ended.wait(0.05):
            lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
            kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))
            peak[0] = max(peak[0], kilobytes * 1024 / 1e9)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


if __name__ == "__main__":
    main()
