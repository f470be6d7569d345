"""A stand-in for `train.py`: a process that writes metrics which follow from its settings."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pytest

from clep.ablation.grid import Cell

VALUES = {"none": 50.0, "avg": 60.0, "waits": 70.0, "nl": 90.0, "leaves-a-child": 80.0}
_SCRIPT = f"""
import json, os, pathlib, signal, sys, time
*words, folder = sys.argv[1:]
given = dict(word.split("=", 1) for word in words)
seed = int(given.get("seed", 0))
folder = pathlib.Path(folder)
with open(given["log"], "a") as log:
    log.write(folder.name + chr(10))
what = given.get("operator", "none")
if what == "wrong":
    sys.exit("[2026-01-01 00:00:00][clep.train][ERROR] - data.batch_size=0 must be at least 1")
if what == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if what == "quiet":
    sys.exit(3)
if what == "slow":
    time.sleep(60)
if what in ("stubborn", "leaves-a-child"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = os.fork()
    if child == 0 or what == "stubborn":
        pathlib.Path(given["log"] + ("." + str(bool(child)))).write_text(str(os.getpid()))
        time.sleep(60)
    while not os.path.exists(given["log"] + ".False"):
        time.sleep(0.02)
while what == "waits" and not os.path.exists(given["log"] + ".go"):
    time.sleep(0.02)
value = {VALUES!r}[what] + seed
metrics = {{"choice/a/accuracy": value, "before/choice/a/accuracy": 1.0, "train/loss": 2.0, "seconds/fit": 3.0 + seed}}
(folder / "metrics.json").write_text(json.dumps(metrics))
"""


def use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let cells run the stand-in, and let any setting pass."""

    def command(cell: Cell, folder: Path, config_dir: str | None = None) -> list[str]:
        return [sys.executable, "-S", "-c", _SCRIPT, *cell.overrides, str(folder)]

    monkeypatch.setattr("clep.ablation.cells.command", command)
    monkeypatch.setattr("clep.ablate.check_settings", lambda grid: None)
    monkeypatch.setattr("clep.ablation.cells.TERMINATION_S", 0.5)


def begin(words: Sequence[str], ignored: Collection[signal.Signals] = ()) -> subprocess.Popen[bytes]:
    """Start the ablation command, with the stand-in, as one that ignores some signals and knows the usual others."""
    code = (
        "import pytest, sys; from tests.ablation.stand_in import use; use(pytest.MonkeyPatch()); "
        "from clep.ablate import main; sys.exit(main(sys.argv[1:]))"
    )
    root = Path(__file__).parents[2]

    def dispositions() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)

    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        env={**os.environ, "PYTHONPATH": str(root)},
        stderr=subprocess.PIPE,
        preexec_fn=dispositions,
    )


def wait_for(cells: int, log: Path) -> None:
    """Wait until that many cells have been started."""
    deadline = time.monotonic() + 60
    while len(started(log)) < cells:
        assert time.monotonic() < deadline, started(log)
        time.sleep(0.02)


def started(log: Path) -> list[str]:
    """Return the names of the cells whose process was started, in order."""
    return log.read_text().split("\n")[:-1] if log.exists() else []


def read(path: Path) -> Any:
    """Read JSON."""
    return json.loads(path.read_text())
