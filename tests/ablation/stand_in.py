"""A stand-in for `train.py`: a process that writes metrics which follow from its settings."""

import json
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pytest

from clep.ablate import main
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
patience = time.monotonic() + 120
while what == "waits" and not os.path.exists(given["log"] + ".go") and time.monotonic() < patience:
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


class Begun:
    """The ablation command in a process of its own, a copy of this one, which has imported everything already.

    Args:
        words: of the command line.
        errors: file for what it prints to stderr.
        ignored: signals that it starts with as ignored; the usual others have their default action.
    """

    def __init__(self, words: Sequence[str], errors: Path, ignored: Collection[signal.Signals] = ()) -> None:
        self.errors = errors
        self.returncode: int | None = None
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._run(words, ignored)

    def _run(self, words: Sequence[str], ignored: Collection[signal.Signals]) -> None:
        status = 70
        try:
            descriptor = os.open(self.errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(descriptor, 2)
            sys.stdout = sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115 - to the end
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)
            if signal.SIGINT not in ignored:
                signal.signal(signal.SIGINT, signal.default_int_handler)
            for handler in list(logging.root.handlers):  # those of pytest
                logging.root.removeHandler(handler)
            use(pytest.MonkeyPatch())
            status = main(list(words))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def end(self, timeout_s: float = 60) -> str:
        """Wait until it ends and return what it printed; `returncode` is then known."""
        deadline = time.monotonic() + timeout_s
        while (ended := os.waitpid(self.pid, os.WNOHANG))[0] == 0:
            if time.monotonic() > deadline:
                self.send_signal(signal.SIGKILL)
                raise AssertionError(f"it did not end in {timeout_s} s: {self.errors.read_text()}")
            time.sleep(0.02)
        self.returncode = os.waitstatus_to_exitcode(ended[1])
        return self.errors.read_text()


def begin(words: Sequence[str], ignored: Collection[signal.Signals] = ()) -> Begun:
    """Start the ablation command, with the stand-in, as one that ignores some signals and knows the usual others."""
    (log,) = (Path(word.partition("=")[2]) for word in words if word.startswith("log="))
    return Begun(words, log.with_name("errors.txt"), ignored)


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
