"""Processes that train: ended with all that they started, and noticed when a command left them behind."""

import sys
import threading
import time
from pathlib import Path

import pytest

from clep.ablation.cells import Processes, held_by_runs, why

FORKS = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
if child == 0 or sys.argv[1] == "stubborn":
    pathlib.Path(sys.argv[2], f"started-{bool(child)}").touch()
    time.sleep(60)
"""


def run(processes: Processes, folder: Path, manner: str) -> int:
    return processes.run([sys.executable, "-S", "-c", FORKS, manner, str(folder)], folder / "log.txt")


def test_what_a_run_started_and_left_is_ended(tmp_path: Path) -> None:
    with held_by_runs(tmp_path) as held:
        assert run(Processes(held, 1), tmp_path, "leaves a child") == 0
    began = time.monotonic()
    with held_by_runs(tmp_path):  # waits while a process is left
        assert time.monotonic() - began < 10


def test_runs_that_do_not_end_when_told_are_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clep.ablation.cells.GRACE_S", 0.2)
    began, status = time.monotonic(), list[int]()
    with held_by_runs(tmp_path) as held:
        processes = Processes(held, 1)
        thread = threading.Thread(target=lambda: status.append(run(processes, tmp_path, "stubborn")))
        thread.start()
        while len(list(tmp_path.glob("started-*"))) < 2:
            time.sleep(0.01)
        processes.close()
        thread.join()
        with pytest.raises(KeyboardInterrupt):
            run(processes, tmp_path, "stubborn")
    with held_by_runs(tmp_path):
        assert status == [-9]
        assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("", "exit status 1"),
        ("loading\n\nno space left\n", "no space left"),
        ("error: there is no setting x. Did you mean 'y'?\n", "there is no setting x. Did you mean 'y'?"),
        ("[2026-01-01 00:00:00,000][clep.train][ERROR] - a.h5 has no rows\nfor 12 videos\n", "a.h5 has no rows"),
        (
            "Traceback (most recent call last):\n  File x\nValueError: old\n\nDuring handling of it:\n\n"
            "Traceback (most recent call last):\n  File x\n    f()\n    ^^^\nhydra.errors.Wrong: new\nfull_key: a\n",
            "hydra.errors.Wrong: new",
        ),
        (
            "Traceback (most recent call last):\n  File x\nE: in call to X:\nV('x')\nfull_key: a\n",
            "E: in call to X: V('x')",
        ),
        ("Traceback (most recent call last):\n  File x\nValueError: told\n[a][b][ERROR] - the end\n", "the end"),
        ("[a][b][ERROR] - failed:\nTraceback (most recent call last):\n  File x\nValueError: new\n", "ValueError: new"),
    ],
)
def test_why_is_the_last_error_that_was_told(tmp_path: Path, log: str, reason: str) -> None:
    path = tmp_path / "log.txt"
    path.write_text(log)
    assert why(1, path) == f"{reason}; see {path}"
