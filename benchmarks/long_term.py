"""Long-term feature banks: `python -m benchmarks.long_term [key=value …]`.

On a bank of AVA's shape, the context of a batch as training gathers it (`FeatureBank.long_term` without empty slots),
from RAM, a warm disk and an LMDB, beside a bare `index_select` of the same rows from RAM and beside the
published loop over the seconds of each example; pooled without the copy; through each operator, the non-local one
beside the same layers written with `scaled_dot_product_attention`. Then a search with context, and the memory of
processes that read a bank.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import long_term_memory, long_term_operators, long_term_search
from benchmarks.long_term_data import PublishedSampling, Size, moments, write_bank
from benchmarks.machine import process_memory_mb
from benchmarks.report import RESULTS, Report, quiet, read_settings, table
from benchmarks.timing import medians, paired_ratio, seconds_of, take_turns
from clep.bank import FeatureBank, build_lmdb
from clep.models.pooling import masked_max, masked_mean

DEVICES = ("cpu", "disk", "lmdb")
BARE, EVERY_SLOT, LOOP = "index_select of the rows", "index_select of every slot", "published loop"


@dataclass
class Settings:
    """Settings of this benchmark.

    A repeat gathers `batches` batches. `memory_gb` are the sizes of the banks that `workers` processes read, in GB of
    10^9 bytes.
    """

    results: str = str(RESULTS)
    repeats: int = 5
    size: Size = field(default_factory=Size)
    window_s: int = 60
    per_second: int = 5
    batch_size: int = 64
    batches: int = 4
    latent_dim: int = 512
    layers: int = 2
    operator_repeats: int = 3
    search_minutes: float = 20.0
    memory_gb: list[float] = field(default_factory=lambda: [0.5, 2.0])
    workers: int = 8


@dataclass
class Batches:
    """The moments of one repeat, and the row indices of their contexts."""

    where: list[tuple[Tensor, Tensor]]
    rows: list[Tensor]


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, write the result and return it."""
    settings = read_settings(Settings, words)
    quiet()
    report = Report("long_term", settings, settings.results)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for dtype in ("float32", "float16"):
            path = write_bank(folder / f"{dtype}.h5", settings.size, dtype)
            build_lmdb(path)
            _gather(settings, report, path, dtype)
        sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
        report.add("bytes_on_disk", sizes)
        for suffix in ("h5", "lmdb"):
            share = sizes[f"float16.{suffix}"] / sizes[f"float32.{suffix}"]
            report.target(f"float16 ÷ float32, bytes of .{suffix}", share, at_most=0.51)
        _pooled(settings, report, folder / "float16.h5")
    long_term_operators.measure(settings, report)
    long_term_search.measure(settings.search_minutes, settings.operator_repeats, report)
    if Path("/proc/self/smaps").exists():
        long_term_memory.measure(settings.memory_gb, settings.workers, report)
    else:
        report.add("memory", {"skipped": "this system has no /proc/self/smaps"})
    return report.write()


def _gather(settings: Settings, report: Report, path: Path, dtype: str) -> None:
    banks = {device: FeatureBank.open(path, device) for device in DEVICES}
    ram = banks["cpu"]
    loop = _published(settings, ram)
    batches = _batches(settings, ram)
    real = sum(map(len, batches.rows)) / len(batches.rows)
    _check_same_rows(settings, banks, loop, batches)

    sides: dict[str, Callable[[], float]] = {
        BARE: seconds_of(_bare(ram, batches.rows)),
        EVERY_SLOT: seconds_of(_bare(ram, _every_slot(settings, ram))),
        **{f"ours, {device}": _ours(settings, bank, batches) for device, bank in banks.items()},
        "ours, cpu, with empty slots": _ours(settings, ram, batches, gaps=True),
    }
    names = [([ram.videos[v] for v in video.tolist()], second.long().tolist()) for video, second in batches.where]
    sides[LOOP] = seconds_of(lambda: [loop.batch(*one) for one in names[:1]])
    per_batch = {name: settings.batches if name != LOOP else 1 for name in sides}
    raw = {
        name: [seconds / per_batch[name] for seconds in values]
        for name, values in take_turns(sides, settings.repeats).items()
    }
    middle = medians(raw)
    row_bytes = ram.dim * ram.dtype.itemsize
    moved = {name: real * row_bytes for name in raw}
    moved[EVERY_SLOT] = settings.batch_size * settings.window_s * settings.per_second * row_bytes
    speed = {name: moved[name] / middle[name] / 1e9 for name in raw}
    to_bare = {name: paired_ratio(raw, BARE, name) for name in raw}
    to_loop = {name: paired_ratio(raw, LOOP, name) for name in raw}
    report.add(
        f"gather, {dtype}",
        {
            "rows_of_a_batch": real,
            "seconds_of_a_batch": raw,
            "median": middle,
            "gb_per_second": speed,
            "index_select_over_each": to_bare,
            "published_loop_over_each": to_loop,
        },
    )
    table(
        f"context of {settings.batch_size} moments, {dtype}: {real:,.0f} rows in "
        f"{settings.batch_size * settings.window_s * settings.per_second:,} slots",
        ("what", "ms", "GB/s of rows", "× bare index_select", "lowest", "× published loop"),
        [
            (name, 1e3 * middle[name], speed[name], *list(to_bare[name].values())[:2], to_loop[name]["ratio"])
            for name in raw
        ],
    )
    for device in DEVICES:
        note = f"{to_loop[f'ours, {device}']['ratio']:.3g} times as fast as the published loop"
        ratio, least = to_bare[f"ours, {device}"]["ratio"], 0.5 if device == "cpu" else 0.4
        report.target(f"{dtype}, {device}: index_select of the rows alone ÷ ours", ratio, at_least=least, note=note)


def _batches(settings: Settings, bank: FeatureBank) -> Batches:
    where = [moments(settings.size, settings.batch_size, turn) for turn in range(settings.batches)]
    found = [bank._long_term_rows(*one, settings.window_s, settings.per_second, None, "error") for one in where]
    return Batches(where, [row[mask] for row, mask in found])


def _context(settings: Settings, bank: FeatureBank, where: tuple[Tensor, Tensor], gaps: bool) -> tuple[Tensor, Tensor]:
    return bank.long_term(*where, settings.window_s, settings.per_second, gaps=gaps)


def _ours(settings: Settings, bank: FeatureBank, batches: Batches, gaps: bool = False) -> Callable[[], float]:
    """Time the batches, one in memory at a time, after an untimed pass: each batch leaves its memory to the next."""

    def gather() -> list[torch.Size]:
        return [_context(settings, bank, where, gaps)[0].shape for where in batches.where]

    def measure() -> float:
        gather()
        return seconds_of(gather)()

    return measure


def _bare(bank: FeatureBank, rows: list[Tensor]) -> Callable[[], object]:
    (held,) = bank._contents.rows.pieces  # type: ignore[attr-defined]
    out = torch.empty(max(map(len, rows)), bank.dim, dtype=bank.dtype)
    return lambda: [torch.index_select(held, 0, some, out=out[: len(some)]).shape for some in rows]


def _every_slot(settings: Settings, bank: FeatureBank) -> list[Tensor]:
    slots, chance = settings.batch_size * settings.window_s * settings.per_second, torch.Generator().manual_seed(0)
    return [torch.randint(bank.n_rows, (slots,), generator=chance) for _ in range(settings.batches)]


def _published(settings: Settings, bank: FeatureBank) -> PublishedSampling:
    held: dict[str, dict[int, Tensor]] = {}
    for video in bank.videos:
        seconds = bank.video_seconds(video)
        assert seconds is not None
        whole, regions = seconds.long().unique_consecutive(return_counts=True)
        rows = bank.video_rows(video).to(bank.dtype)
        held[video] = dict(zip(whole.tolist(), rows.split(regions.tolist()), strict=True))
    return PublishedSampling(held, bank.dim, settings.window_s, settings.per_second)


def _check_same_rows(
    settings: Settings, banks: dict[str, FeatureBank], loop: PublishedSampling, batches: Batches
) -> None:
    """Check that both sides do the same work: without drawing, every storage gives what the published loop gives."""
    video, second = (side[:4] for side in batches.where[0])
    names = [banks["cpu"].videos[index] for index in video.tolist()]
    wanted = loop.batch(names, second.long().tolist(), draw=False)
    for bank in banks.values():
        rows, mask = _context(settings, bank, (video, second), gaps=True)
        assert torch.equal(rows, wanted), bank
        packed, filled = _context(settings, bank, (video, second), gaps=False)
        assert torch.equal(packed[filled], rows[mask]), bank


def _pooled(settings: Settings, report: Report, path: Path) -> None:
    bank = FeatureBank.open(path, "cpu")
    turns = cycle(moments(settings.size, settings.batch_size, turn) for turn in range(settings.batches))
    cut = (settings.window_s, settings.per_second)
    found: dict[str, Any] = {}
    for pool, reduce in (("mean", masked_mean), ("max", masked_max)):
        sides: dict[str, Callable[[], Any]] = {
            "pooled in place": lambda pool=pool: bank.long_term_pooled(*next(turns), *cut, pool=pool)[0],
            "copied, then pooled": lambda reduce=reduce: reduce(*bank.long_term(*next(turns), *cut, gaps=False)),
        }
        raw = take_turns({name: seconds_of(work) for name, work in sides.items()}, settings.repeats)
        ratio = paired_ratio(raw, "copied, then pooled", "pooled in place")
        peak = {name: peak_mb(work) for name, work in sides.items()}
        found[pool] = {"seconds": raw, "median": medians(raw), "copied_over_in_place": ratio, "peak_mb": peak}
    report.add("pooled, float16 bank in RAM", found)
    table(
        "mean or maximum over the minute",
        ("what", "ms", "memory on top, MB"),
        [
            (f"{pool}, {name}", 1e3 * seconds, one["peak_mb"][name])
            for pool, one in found.items()
            for name, seconds in one["median"].items()
        ],
    )


def peak_mb(work: Callable[[], Any]) -> float | None:
    """Return the peak of the process's memory during `work`, minus that before it, in MB; None outside Linux."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    except OSError:
        return None
    before = process_memory_mb("VmRSS")
    work()
    return round(process_memory_mb("VmHWM") - before, 1)


if __name__ == "__main__":
    main()
