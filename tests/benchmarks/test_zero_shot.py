"""The zero-shot benchmark, tiny: loops and evaluator find the same, and its parts are counted right."""

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import zero_shot
from benchmarks.device import flops_of
from clep.models import DualEncoder, ProjectionHead

DIM, TEXT_DIM, EMBED = 16, 8, 6
CLIPS, CLASSES, ROWS = 30, 7, 3


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> DualEncoder:
    towers = {"video": ProjectionHead(DIM, EMBED, hidden_dim=12), "text": ProjectionHead(TEXT_DIM, EMBED, layers=1)}
    made = DualEncoder(**towers).eval()
    monkeypatch.setattr(zero_shot, "_model", lambda *_: made)
    monkeypatch.setattr("benchmarks.timing.gc.collect", lambda: 0)  # before each of many sides it takes a second
    return made


def measured(name: str, folder: Path) -> dict[str, Any]:
    small = zero_shot.Settings(
        repeats=1, dim=DIM, text_dim=TEXT_DIM, spread=1.0, workers=0, sample=10, peak_side=32, copy_mb=1
    )
    return zero_shot.compare(name, zero_shot.Task(CLIPS, CLASSES, ROWS), small, folder)


@pytest.mark.parametrize("name", ["kinetics", "ego_charades"])
def test_loops_and_evaluator_find_the_same_metrics(name: str, model: DualEncoder, tmp_path: Path) -> None:
    found = measured(name, tmp_path)
    assert found["largest_difference"]["float32 bank"] < 1e-4
    assert set(found["ratio"]) == {zero_shot.ALONE, "loop with 0 workers"}
    assert all(seconds > 0 for side in found["seconds"].values() for seconds in side)


def test_operations_and_bytes_of_the_parts(model: DualEncoder, tmp_path: Path) -> None:
    found = measured("kinetics", tmp_path)
    parts = found["parts"]
    rows, prompts = torch.zeros(CLIPS, DIM), torch.zeros(CLASSES, TEXT_DIM)
    assert parts["flops"] == {
        "video tower": flops_of(lambda: model.video(rows)),
        "text side": flops_of(lambda: model.text(prompts)),
        "scores": flops_of(lambda: torch.zeros(CLIPS, EMBED) @ torch.zeros(EMBED, CLASSES)),
    }
    read, means = CLIPS * ROWS * DIM * 2, CLIPS * DIM * (2 + 2 + 4)  # float16 rows and means, float32 means
    assert parts["bytes"] == {"gather": read + means}
    peak = parts["peak"]
    at_peak = sum(parts["flops"].values()) / peak["flop_per_s"] + (read + means) / peak["bytes_per_s"]
    assert parts["bound_s"] == pytest.approx(at_peak)
    assert found["highest_ratio"] == pytest.approx(found["median"][zero_shot.ALONE] / at_peak)
    assert all(seconds > 0 for seconds in parts["seconds"].values())
