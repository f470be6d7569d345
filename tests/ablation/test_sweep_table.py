"""The table that a sweep leaves: runs that differ in their seed are one row, and failures are named."""

from pathlib import Path

import pytest
import yaml

from clep.ablation.sweep_table import tabulate
from clep.errors import InputError
from clep.files import read_json, write_json


def leave_run(folder: Path, name: str, words: list[str], accuracy: float | None, failed: str | None = None) -> None:
    (folder / name / ".hydra").mkdir(parents=True)
    (folder / name / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(words))
    if accuracy is not None:
        write_json(folder / name / "metrics.json", {"zeroshot/kinetics/top1": accuracy, "train/loss": 1.0})
    if failed is not None:
        write_json(folder / name / "failed.json", {"error": failed})


def test_seeds_are_one_row(tmp_path: Path) -> None:
    for number, (lr, seed, accuracy) in enumerate([(1, 0, 40.0), (1, 1, 44.0), (2, 0, 50.0), (2, 1, 51.0)]):
        leave_run(tmp_path, str(number), ["experiment=demo", f"lr={lr}", f"seed={seed}"], accuracy)
    assert tabulate(tmp_path) == 0
    data = read_json(tmp_path / "table.json")
    assert data["metrics"] == ["zeroshot/kinetics/top1"]
    found = {row["row"]: row["metrics"]["zeroshot/kinetics/top1"] for row in data["rows"]}
    assert {name: (one["mean"], one["each"]) for name, one in found.items()} == {
        "lr=1": (42.0, [40.0, 44.0]),
        "lr=2": (50.5, [50.0, 51.0]),
    }
    assert "| lr=1 | 42.0 ± 2.8 |" in (tmp_path / "table.md").read_text()


def test_the_tenth_run_comes_after_the_second(tmp_path: Path) -> None:
    for number in (10, 2, 0):
        leave_run(tmp_path, str(number), [f"lr={number}"], 10.0 + number)
    tabulate(tmp_path)
    assert [row["row"] for row in read_json(tmp_path / "table.json")["rows"]] == ["lr=0", "lr=2", "lr=10"]


def test_runs_that_failed_are_counted_and_named(tmp_path: Path) -> None:
    leave_run(tmp_path, "0", ["lr=1"], 40.0)
    leave_run(tmp_path, "1", ["lr=-1"], None, "lr=-1 must be at least 0")
    leave_run(tmp_path, "2", ["lr=2"], None)
    assert tabulate(tmp_path) == 2
    failed = [cell["failed"] for cell in read_json(tmp_path / "table.json")["cells"]]
    assert failed == [None, "lr=-1 must be at least 0", "it left no metrics"]
    assert "lr=-1 must be at least 0" in (tmp_path / "table.md").read_text()


def test_without_a_run_that_succeeded_there_is_no_table(tmp_path: Path) -> None:
    assert tabulate(tmp_path) == 0
    leave_run(tmp_path, "0", ["lr=-1"], None, "lr=-1 must be at least 0")
    with pytest.raises(InputError, match=r"none of 1 runs succeeded; the first: lr=-1 must be at least 0"):
        tabulate(tmp_path)
    assert not (tmp_path / "table.md").exists()
