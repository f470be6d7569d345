"""Time and memory of a training step with `chunk_size`: `python -m benchmarks.chunked_encoding [key=value …]`.

One training step of temporal attention over a large batch, encoded at once and by chunks, each in a process of its own.
Both hold the batch and the matrix of similarities, which chunks do not make smaller.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import RESULTS, Report, quiet, read_settings, table
from benchmarks.timing import medians, paired_ratio, take_turns

WHOLE, CHUNKED = "whole batch", "chunks"


@dataclass
class Settings:
    """Of this benchmark: `rows` of `dim` numbers a window, attention of `width` numbers and `depth` blocks."""

    results: str = str(RESULTS)
    repeats: int = 3
    batch_size: int = 8192
    chunk_size: int = 512
    rows: int = 8
    dim: int = 768
    width: int = 256
    depth: int = 2
    device: str = "cpu"


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, write the result and return it."""
    settings = read_settings(Settings, words)
    quiet()
    report = Report("chunked_encoding", settings, settings.results)
    steps: dict[str, list[dict[str, float]]] = {WHOLE: [], CHUNKED: []}
    sides = {
        name: _side(settings, chunk_size, steps[name])
        for name, chunk_size in ((WHOLE, 0), (CHUNKED, settings.chunk_size))
    }
    raw = take_turns(sides, settings.repeats, warm=0)
    peaks = {name: [step["peak_mb"] for step in taken] for name, taken in steps.items()}
    time, memory = paired_ratio(raw, CHUNKED, WHOLE), paired_ratio(peaks, CHUNKED, WHOLE)
    report.add("step_seconds", {"raw": raw, "median": medians(raw), "chunks / whole batch": time})
    report.add("peak_mb", {"raw": peaks, "median": medians(peaks), "chunks / whole batch": memory})
    report.add("before_mb", medians({name: [step["before_mb"] for step in taken] for name, taken in steps.items()}))
    report.add("loss", {name: taken[0]["loss"] for name, taken in steps.items()})
    note = f"batch {settings.batch_size}, chunks of {settings.chunk_size}"
    report.target("time of a step, chunks / whole batch", time["ratio"], at_most=1.6, note=note)
    report.target("peak memory, chunks / whole batch", memory["ratio"], at_most=0.5, note=note)
    rows = [(name, medians(raw)[name], medians(peaks)[name], steps[name][0]["before_mb"]) for name in steps]
    table("one step", ("", "seconds", "peak MB", "MB before"), rows)
    return report.write()


def _side(settings: Settings, chunk_size: int, steps: list[dict[str, float]]) -> Callable[[], float]:
    """Return what takes a step in a child, keeps all of its figures, and returns the seconds."""
    sizes = {key: getattr(settings, key) for key in ("batch_size", "rows", "dim", "width", "depth", "device")}
    words = [f"{key}={value}" for key, value in {**sizes, "chunk_size": chunk_size}.items()]

    def measure() -> float:
        command = [sys.executable, "-m", "benchmarks.chunked_encoding_step", *words]
        told = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True)
        if told.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{told.stderr}")
        steps.append(json.loads(told.stdout.splitlines()[-1]))
        return steps[-1]["seconds"]

    return measure


if __name__ == "__main__":
    main()
