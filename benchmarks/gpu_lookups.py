"""Lookups in a bank on a GPU, and feature bank operators; a part of `benchmarks.gpu`.

Bytes per second of each lookup (rows read and results written) beside those of a copy on the same device; forward and
backward passes of the operators at AVA's shape beside their matrix products at the chip's peak and beside plain
attention.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import long_term_operators
from benchmarks.device import flops_of, peaks, seconds_each
from benchmarks.ego4d_data import prepare
from benchmarks.long_term import Settings as LongTermSettings
from benchmarks.long_term_data import moments, write_bank
from benchmarks.report import DATA, RESULTS, Report, quiet, read_settings, table
from clep.bank import FeatureBank
from clep.models import FBOAvg, FBOMax, FBONonLocal


@dataclass
class Settings:
    """Settings of this part; `long_term` has those of the long-term bank and of the operators."""

    data: str = DATA
    results: str = str(RESULTS)
    device: str = "cuda"
    fraction: float = 0.01
    dim: int = 1536
    text_dim: int = 768
    batch_size: int = 4096
    seconds: float = 0.5
    long_term: LongTermSettings = field(default_factory=LongTermSettings)


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, write the result and return it."""
    settings = read_settings(Settings, words)
    quiet()
    report = Report("gpu_lookups", settings, settings.results)
    peak = peaks(settings.device)
    report.add("peaks", peak)
    folder = prepare(Path(settings.data), settings.fraction, settings.dim, settings.text_dim)
    bank = FeatureBank.open(folder / "clep" / "ego4d_features.h5", settings.device)
    found = _windows(settings, bank)
    report.add("lookups", found)
    report.save()
    long_bank = folder / "clep" / "long_term.h5"
    if not long_bank.exists():
        write_bank(long_bank, settings.long_term.size, "float16")
    found |= _long_term(settings, FeatureBank.open(long_bank, settings.device))
    for one in found.values():
        one["of_a_copy"] = one["bytes_per_s"] / peak["copied_bytes_per_s"]
    report.save()
    columns = ("lookup", "ms", "GB/s", "of a copy")
    table(
        "lookups", columns, [(n, 1e3 * f["seconds"], f["bytes_per_s"] / 1e9, f["of_a_copy"]) for n, f in found.items()]
    )
    operators = _operators(settings, peak)
    report.add("operators", operators)
    rows = [(name, 1e3 * f["seconds"], f["of_peak"]) for name, f in operators.items()]
    table("operators, forward and backward", ("operator", "ms", "of the chip's bf16 peak"), rows)
    return report.write()


def _figures(settings: Settings, work: Callable[[], Any], moved_bytes: float) -> dict[str, float]:
    seconds = seconds_each(work, settings.device, settings.seconds)
    return {"seconds": seconds, "bytes": moved_bytes, "bytes_per_s": moved_bytes / seconds}


def _windows(settings: Settings, bank: FeatureBank) -> dict[str, dict[str, float]]:
    """Measure windows of 4 s at random instants: means, padded rows, and single rows."""
    generator = torch.Generator().manual_seed(0)
    size = settings.batch_size
    video = torch.randint(0, len(bank), (size,), generator=generator)
    middle_s = torch.rand(size, generator=generator, dtype=torch.float64) * bank.end_s.cpu()[video]
    first, last = bank.window(video.numpy(), (middle_s - 2).numpy(), (middle_s + 2).numpy())
    first, last = first.to(settings.device), last.to(settings.device)
    row = torch.randint(0, bank.n_rows, (size,), generator=generator).to(settings.device)
    read = 2.0 * bank.dim * float((last - first).sum())
    longest = int((last - first).max())
    return {
        "means of windows": _figures(settings, lambda: bank.mean(first, last), read + 4 * size * bank.dim),
        "padded rows of windows": _figures(
            settings, lambda: bank.rows(first, last, longest), read + 4 * size * longest * bank.dim
        ),
        "single rows": _figures(settings, lambda: bank.take(row), 6 * size * bank.dim),
    }


def _long_term(settings: Settings, bank: FeatureBank) -> dict[str, dict[str, float]]:
    """Measure the context of a batch of AVA's key frames."""
    options = settings.long_term
    video, second = (one.to(settings.device) for one in moments(options.size, options.batch_size, 0))

    def gather() -> tuple[Tensor, Tensor]:
        return bank.long_term(video, second, options.window_s, options.per_second)

    rows, mask = gather()
    moved = 2.0 * bank.dim * float(mask.sum()) + 4 * rows.numel()
    return {"long-term context": _figures(settings, gather, moved)}


def _operators(settings: Settings, peak: dict[str, Any]) -> dict[str, dict[str, float]]:
    options = settings.long_term
    dim, device = options.size.dim, settings.device
    short, context, mask = (
        one.to(device) for one in long_term_operators.example(options, long_term_operators.SHARE_OF_SLOTS)
    )
    non_local = FBONonLocal(dim, None, options.latent_dim, options.layers, dropout=0.0).to(device)
    sides: dict[str, tuple[nn.Module, Callable[[], Tensor]]] = {}
    for operator in (FBOAvg(dim), FBOMax(dim), non_local):
        operator = operator.to(device)
        sides[type(operator).__name__] = (operator, lambda o=operator: o(short, context, mask))
    sides["plain attention"] = (non_local, lambda: long_term_operators.plain(non_local, short, context, mask))
    found = {}
    for name, (operator, call) in sides.items():

        def both(operator: nn.Module = operator, call: Callable[[], Tensor] = call) -> None:
            operator.zero_grad()
            with torch.autocast(device, torch.bfloat16):
                loss = call().float().square().mean()
            if loss.requires_grad:
                loss.backward()

        seconds, flops = seconds_each(both, device, settings.seconds), flops_of(both)
        best = peak["published_bf16_flop_per_s"] or peak["bf16_flop_per_s"]
        found[name] = {"seconds": seconds, "flops": flops, "of_peak": flops / seconds / best}
    return found


if __name__ == "__main__":
    main()
