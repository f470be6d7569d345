"""Time and memory of each objective: `python -m benchmarks.objectives [key=value …]`.

Seconds of positives, forward and backward pass on given embeddings; and the memory of the sigmoid loss at a large
batch, by chunks and whole, each in a process of its own, beside plain autograd and chunks that are computed twice.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.objectives_memory import made_batch, ways
from benchmarks.report import RESULTS, Report, quiet, read_settings, table
from benchmarks.timing import medians, paired_ratio, seconds_of, take_turns
from clep.compute.float32_matmul import fast_float32_products
from clep.losses import (
    AcrossRanks,
    BCELoss,
    ClipLoss,
    DiagonalPositives,
    EgoNCELoss,
    MultiPositiveNCELoss,
    SigmoidLoss,
    TextIdPositives,
    TextSimilarityPositives,
    VerbNounPositives,
    across_ranks,
)

PLAIN_CLIP, CHUNKED, WHOLE = "clip, diagonal", "chunked", "whole"


@dataclass
class Settings:
    """Of this benchmark; `large_batch` and `chunk` are those of the memory."""

    results: str = str(RESULTS)
    repeats: int = 9
    batch_size: int = 1024
    dim: int = 512
    large_batch: int = 16384
    chunk: int = 1024
    device: str = "cpu"


def objectives() -> dict[str, AcrossRanks]:
    """Return each objective with the positives that its config gives it, and plain CLIP."""
    same_text = TextIdPositives()
    return {
        PLAIN_CLIP: across_ranks(ClipLoss(), positives=DiagonalPositives()),
        "clip": across_ranks(ClipLoss(), positives=same_text),
        "soft_clip": across_ranks(ClipLoss(), positives=TextSimilarityPositives()),
        "mil_nce": across_ranks(MultiPositiveNCELoss(), positives=same_text),
        "egonce": across_ranks(EgoNCELoss(), positives=VerbNounPositives()),
        "siglip": across_ranks(SigmoidLoss(), positives=same_text),
        "bce": across_ranks(BCELoss(), positives=same_text),
    }


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, write the result and return it."""
    settings = read_settings(Settings, words)
    quiet()
    report = Report("objectives", settings, settings.results)
    _measure_seconds(settings, report)
    _measure_memory(settings, report)
    return report.write()


def _measure_seconds(settings: Settings, report: Report) -> None:
    video, text, scale, keys, bias = made_batch(settings.batch_size, settings.dim, settings.device)

    def side(loss: AcrossRanks) -> Callable[[], float]:
        def step() -> None:
            with fast_float32_products():
                loss(video, text, scale, keys, bias).backward()
                if settings.device != "cpu":
                    torch.cuda.synchronize()

        return seconds_of(step)

    raw = take_turns({name: side(loss) for name, loss in objectives().items()}, settings.repeats, warm=2)
    ratios = {name: paired_ratio(raw, name, PLAIN_CLIP) for name in raw}
    report.add("seconds_of_a_pass", {"raw": raw, "median": medians(raw), f"ratio to {PLAIN_CLIP}": ratios})
    table(
        f"positives, forward and backward pass, batch {settings.batch_size} × {settings.dim}",
        ("objective", "ms", f"× {PLAIN_CLIP}"),
        [(name, 1000 * value, ratios[name]["ratio"]) for name, value in medians(raw).items()],
    )


def _measure_memory(settings: Settings, report: Report) -> None:
    found = {way: _child(settings, way) for way in ways(settings.chunk)}
    for figures in found.values():
        figures["taken_mb"] = round(figures["peak_mb"] - figures["before_mb"], 1)
    report.add("large_batch", found)
    note = f"batch {settings.large_batch}, chunks of {settings.chunk}, embeddings and process not counted"
    for other in (WHOLE, "plain autograd"):
        ratio = found[CHUNKED]["taken_mb"] / found[other]["taken_mb"]
        report.target(f"siglip's peak memory, chunks / {other}", ratio, at_most=0.25, note=note)
    table(
        f"sigmoid loss, batch {settings.large_batch} × {settings.dim}",
        ("way", "peak MB above the embeddings", "seconds", "loss", "gradient"),
        [
            (way, *(figures[key] for key in ("taken_mb", "seconds", "loss", "gradient")))
            for way, figures in found.items()
        ],
    )


def _child(settings: Settings, way: str) -> dict[str, float]:
    sizes = {"batch_size": settings.large_batch, "dim": settings.dim, "chunk": settings.chunk}
    words = [f"{key}={value}" for key, value in {"way": way, "device": settings.device, **sizes}.items()]
    command = [sys.executable, "-m", "benchmarks.objectives_memory", *words]
    told = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True)
    if told.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{told.stderr}")
    figures = json.loads(told.stdout.splitlines()[-1])
    assert isinstance(figures, dict)
    return figures


if __name__ == "__main__":
    main()
