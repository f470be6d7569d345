"""Cells: their trainings end with all that they started; the reason of a failure is found in the log."""

import logging
import signal
import time
from pathlib import Path

import pytest

from clep.ablate import ablate
from clep.ablation.cells import failure_reason, wait_for_trainings
from tests.ablation.stand_in import begin, use
from tests.compute.tasks import alive, wait_for

pytestmark = pytest.mark.waits


def pid(path: Path) -> int:
    wait_for(lambda: path.exists() and path.read_text().isdecimal(), 90)
    return int(path.read_text())


def test_processes_that_a_training_left_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch)
    began = time.monotonic()
    data = ablate([f"log={tmp_path / 'log'}", f"out={tmp_path / 'out'}", "operator=leaves-a-child"])
    assert data["rows"][0]["metrics"]["choice/a/accuracy"]["mean"] == 80.0
    wait_for_trainings(tmp_path / "out")
    child = pid(tmp_path / "log.False")
    wait_for(lambda: not alive(child))
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("processes", [1, 2])
def test_trainings_that_ignore_sigterm_are_killed(
    tmp_path: Path, processes: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    words = [f"log={tmp_path / 'log'}", f"out={tmp_path / 'out'}", "operator=stubborn,nl", f"processes={processes}"]
    process = begin(words)
    pids = [pid(tmp_path / f"log.{name}") for name in ("True", "False")]
    process.send_signal(signal.SIGINT)
    process.end()
    assert process.returncode == 130
    wait_for(lambda: not any(alive(one) for one in pids))
    wait_for_trainings(tmp_path / "out")
    assert "still runs" not in caplog.text


def test_the_trainings_of_workers_end_with_a_killed_command(tmp_path: Path) -> None:
    process = begin([f"log={tmp_path / 'log'}", f"out={tmp_path / 'out'}", "operator=stubborn,nl", "processes=2"])
    pids = [pid(tmp_path / f"log.{name}") for name in ("True", "False")]
    process.send_signal(signal.SIGKILL)
    process.end()
    wait_for(lambda: not any(alive(one) for one in pids))
    wait_for_trainings(tmp_path / "out")


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("", "ended with exit status 1"),
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
        ("Traceback (most recent call last):\n  File x\nValueError: first\n[a][b][ERROR] - the end\n", "the end"),
        ("[a][b][ERROR] - failed:\nTraceback (most recent call last):\n  File x\nValueError: new\n", "ValueError: new"),
    ],
)
def test_the_reason_is_the_last_error_in_the_log(tmp_path: Path, log: str, reason: str) -> None:
    path = tmp_path / "log.txt"
    path.write_text(log)
    assert failure_reason(1, path) == f"{reason}; see {path}"
