"""Memory of processes that read a bank, for `benchmarks.long_term`; as a module, one of these processes.

A reader gathers the contexts of every second of the bank, says so on standard output and waits, so that its memory can
be looked at while all readers have the whole bank mapped (Linux: /proc/<pid>/smaps).
"""

import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.long_term_data import FIRST_SECOND, Size, write_bank
from benchmarks.opening import STEADY_MALLOC
from benchmarks.report import Report, read_settings, table
from clep.bank import FeatureBank, build_lmdb

ROWS_OF_A_SECOND = 1.49


@dataclass
class Settings:
    """Of a reader."""

    bank: str = ""
    device: str = "disk"
    seconds: int = 900
    batch_size: int = 64


def measure(sizes_gb: Sequence[float], workers: int, report: Report) -> None:
    """Start one reader of banks of growing size, then many of the largest, and look at their memory."""
    alone: dict[str, dict[float, dict[str, float]]] = {"disk": {}, "lmdb": {}}
    together: dict[str, dict[str, float]] = {}
    for size_gb in sizes_gb:
        with tempfile.TemporaryDirectory() as folder:
            size = Size(videos=max(1, round(size_gb * 1e9 / (900 * ROWS_OF_A_SECOND * 2048 * 2))))
            path = write_bank(Path(folder) / "bank.h5", size, "float16")
            build_lmdb(path)
            for device, seen in alone.items():
                seen[size_gb] = _memory_mb(path, device, 1)
                if size_gb == max(sizes_gb):
                    together[device] = _memory_mb(path, device, workers)
                    together[device]["file"] = path.with_suffix(f".{_suffix(device)}").stat().st_size / 1e6
    report.add("memory_mb_of_one_process", {d: {f"{gb:g} GB": one for gb, one in s.items()} for d, s in alone.items()})
    report.add(f"memory_mb_of_{workers}_processes", together)
    table(
        "processes that read a whole bank, MB",
        ("what", "own", "bank mapped", "bank, share counted once", "bank, private"),
        [(f"{gb:g} GB on {device}, 1 process", *_columns(one)) for device, s in alone.items() for gb, one in s.items()]
        + [
            (f"{max(sizes_gb):g} GB on {device}, {workers} processes", *_columns(one))
            for device, one in together.items()
        ],
    )
    for device, seen in alone.items():
        if len(seen) > 1:
            slope = float(np.polyfit(list(seen), [one["own"] for one in seen.values()], 1)[0])
            report.target(f"{device}: own memory of a process, MB for each GB of bank", slope, at_most=20)
        share = together[device]["bank_pss"] / together[device]["file"]
        note = f"{together[device]['bank_rss'] / together[device]['file']:.2f} if none were shared"
        report.target(f"{device}: pages of the bank in {workers} processes ÷ its size", share, at_most=1.05, note=note)


def _columns(one: dict[str, float]) -> tuple[float, ...]:
    return tuple(one[name] for name in ("own", "bank_rss", "bank_pss", "bank_private"))


def _suffix(device: str) -> str:
    return "h5" if device == "disk" else "lmdb"


def _memory_mb(path: Path, device: str, readers: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.long_term_memory", f"bank={path}", f"device={device}"]
    environment = {**os.environ, **STEADY_MALLOC, "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            command,
            cwd=Path(__file__).parent.parent,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(readers)
    ]
    try:
        for reader in started:
            assert reader.stdout is not None
            if reader.stdout.readline() != "ready\n":
                raise RuntimeError(f"a reader of {path} on {device} failed")
        total: Counter[str] = Counter()
        for reader in started:
            total.update(_mapped(reader.pid, path.with_suffix(f".{_suffix(device)}")))
        return {name: round(kilobytes * 1024 / 1e6, 1) for name, kilobytes in total.items()}
    finally:
        for reader in started:
            reader.communicate("\n")


def _mapped(pid: int, path: Path) -> Counter[str]:
    """Kilobytes that a process has to itself, and of its mapping of the bank: all, its share, and unshared."""
    found: Counter[str] = Counter(own=0, bank_rss=0, bank_pss=0, bank_private=0)
    of_bank = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            of_bank = words[-1] == str(path)
        elif words[0] == "Anonymous:":
            found["own"] += int(words[1])
        elif of_bank and words[0] in ("Rss:", "Pss:"):
            found[f"bank_{words[0][:-1].lower()}"] += int(words[1])
        elif of_bank and words[0].startswith("Private_"):
            found["bank_private"] += int(words[1])
    return found


def main(words: Sequence[str] | None = None) -> None:
    """Read a whole bank, a batch of neighbouring contexts at a time, then wait for a line of input."""
    settings = read_settings(Settings, words)
    bank = FeatureBank.open(settings.bank, settings.device)
    every: Any = torch.cartesian_prod(torch.arange(len(bank)), torch.arange(30, settings.seconds + 30, 60))
    for some in every.split(settings.batch_size):
        bank.long_term(some[:, 0], FIRST_SECOND + some[:, 1].double())
    print("ready", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
