"""What stands in for `train.py` in the tests: a process that writes metrics which follow from its settings."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from clep.ablation.grid import Cell

VALUES = {"none": 50.0, "avg": 60.0, "nl": 90.0}
_SCRIPT = f"""
import json, os, pathlib, signal, sys, time
*words, folder = sys.argv[1:]
told = dict(word.split("=", 1) for word in words)
seed = int(told.get("seed", 0))
folder = pathlib.Path(folder)
with open(told["log"], "a") as log:
    log.write(folder.name + chr(10))
what = told.get("operator", "none")
if what == "wrong":
    sys.exit("[2026-01-01 00:00:00][clep.train][ERROR] - data.batch_size=0 must be at least 1")
if what == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if what == "quiet":
    sys.exit(3)
if what == "slow":
    time.sleep(60)
value = {VALUES!r}[what] + seed
metrics = {{"choice/a/accuracy": value, "before/choice/a/accuracy": 1.0, "train/loss": 2.0, "seconds/fit": 3.0 + seed}}
(folder / "metrics.json").write_text(json.dumps(metrics))
"""


def use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let cells run the stand-in, and let any setting pass."""

    def command(cell: Cell, folder: Path) -> list[str]:
        return [sys.executable, "-S", "-c", _SCRIPT, *cell.overrides, str(folder)]

    monkeypatch.setattr("clep.ablation.cells.command", command)
    monkeypatch.setattr("clep.ablation.study._refuse_what_cannot_be_composed", lambda grid: None)


def started(log: Path) -> list[str]:
    """Return the names of the cells whose process was started, in order."""
    return log.read_text().split("\n")[:-1] if log.exists() else []


def read(path: Path) -> Any:
    """Read JSON."""
    return json.loads(path.read_text())
