"""Tasks on a real Slurm cluster of one node without accounting; skipped if Slurm is not installed."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from clep.bank import FeatureBank
from clep.compute import Slurm
from clep.compute import slurm as slurm_run
from clep.errors import InputError
from clep.extraction.engine import Engine, ShardSize
from clep.extraction.text import TextChunk
from tests.extraction.test_text import FakeRows
from tests.preprocess.conftest import embed

from . import tasks

pytestmark = [pytest.mark.slurm, pytest.mark.waits, pytest.mark.usefixtures("cluster")]


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_run, "_GRACE_S", 0.5)


def compute(**options) -> Slurm:
    return Slurm(**{"gpus": 0, "cpus": 1, "time_min": 5, "retries": 0, "poll_s": 0.2} | options)


def payloads(folder: Path, *names: str) -> dict[str, Path]:
    return {name: folder / f"{name}.json" for name in names}


def called(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_an_array_of_five(tmp_path: Path) -> None:
    given = payloads(tmp_path, *(f"work-{number}" for number in range(5)))
    calls: list[int] = []
    assert compute(cpus=2).run(tasks.work, given, tmp_path / "logs", lambda: calls.append(1)) == {}
    seen = [json.loads(path.read_text()) for path in given.values()]
    assert {flags["SLURM_ARRAY_TASK_ID"] for flags in seen} == set("01234")
    assert {(flags["SLURM_CPUS_PER_TASK"], flags["OMP_NUM_THREADS"]) for flags in seen} == {("2", "2")}
    assert all(len(tasks.pids(path)) == 1 for path in given.values())
    assert calls
    for name in given:
        log = (tmp_path / "logs" / f"{name}.log").read_text()
        assert "printed by the task" in log
        assert "written below Python" in log
        assert "INFO clep.some: logged by the task" in log


def test_failures_are_submitted_again_and_named(tmp_path: Path) -> None:
    given = payloads(tmp_path, "work", "fail", "refuse", "killed", "killed_at_first")
    logs = tmp_path / "logs"
    failed = compute(retries=1).run(tasks.by_name, given, logs)
    host = socket.gethostname().partition(".")[0]
    assert failed == {
        "fail": f"ArithmeticError: no luck; see {logs / 'fail.log'}",
        "refuse": "the video is not one",
        "killed": f"FAILED, killed by signal 9 (out of memory?), on {host}; see {logs / 'killed.log'}",
    }
    attempts = {name: len(tasks.pids(path)) for name, path in given.items()}
    assert attempts == {"work": 1, "fail": 2, "refuse": 1, "killed": 2, "killed_at_first": 2}
    assert given["killed_at_first"].exists()
    assert (logs / "fail.log").read_text().count("in fail") == 2, "the tracebacks of both attempts"


@pytest.mark.parametrize(
    ("order", "reason"),
    [((), "CANCELLED"), (("--signal=USR2",), "the time limit of time_min=5 was reached")],
)
def test_a_task_that_slurm_ends(tmp_path: Path, order: tuple[str, ...], reason: str) -> None:
    given = payloads(tmp_path, "a")

    def cancel_once_it_runs() -> None:
        if given["a"].with_suffix(".attempts").exists():
            called("scancel", *order, "--state=RUNNING", "-u", "0", f"--name={name_of(tmp_path / 'logs')}")

    failed = compute().run(tasks.hang, given, tmp_path / "logs", cancel_once_it_runs)
    assert failed["a"].startswith(reason)
    assert failed["a"].endswith(f"; see {tmp_path / 'logs' / 'a.log'}")
    assert not list(tmp_path.glob(".a*")), "the half-written file is gone"


def name_of(logs: Path) -> str:
    """Return the name of the jobs of the run with these logs."""
    (found,) = (path.name for path in (logs / "submitit").iterdir() if path.is_dir())
    return found


SCRIPT = """
import sys
from pathlib import Path
from clep.compute import Slurm
from tests.compute import tasks
folder = Path(sys.argv[1])
given = {n: folder / f"{n}.json" for n in "abc"}
Slurm(gpus=0, cpus=1, poll_s=0.2, max_parallel=2).run(tasks.hang, given, folder / "logs")
"""


def test_ctrl_c_cancels_the_array_and_says_so(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    parent = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    tasks.wait_for(lambda: len(list(tmp_path.glob("*.attempts"))) == 2, 30)
    parent.send_signal(signal.SIGINT)
    _, output = parent.communicate(timeout=30)
    name = name_of(tmp_path / "logs")
    assert f"cancelled the Slurm jobs named {name}" in output
    assert "KeyboardInterrupt" in output
    tasks.wait_for(lambda: not called("squeue", "-h", f"--name={name}"), 30)
    states = called("squeue", "-h", "-r", "-t", "all", f"--name={name}", "-o", "%T").split()
    assert states == ["CANCELLED"] * 3
    assert not any(tasks.alive(pid) for path in tmp_path.glob("*.attempts") for pid in tasks.pids(path))


@pytest.mark.parametrize("options", [{"partition": "nowhere"}, {"gpus": 8}, {"extra": {"qos": "a b", "nosuch": True}}])
def test_options_that_slurm_refuses(tmp_path: Path, options: dict) -> None:
    with pytest.raises(InputError, match=r"Slurm refuses the jobs: .*(partition|gres|node configuration|unrecognized)"):
        compute(**options).run(tasks.work, payloads(tmp_path, "a", "b"), tmp_path / "logs")


def test_texts_are_encoded_by_tasks_on_the_cluster(tmp_path: Path) -> None:
    texts = [f"C picks up cup {number}" for number in range(8)]
    chunks = [TextChunk(f"000-{start}-{start + 4}", texts[start : start + 4], "f") for start in (0, 4)]
    engine = Engine(tmp_path / "texts.h5", FakeRows("fake", ("texts",)), "texts", ShardSize(cost=4, save_every=1))
    assert engine.encode(chunks, compute(), 2) == {}
    engine.join(engine.finished(lambda name: "f"))
    rows = FeatureBank.open(tmp_path / "texts.h5").video_rows("texts")
    np.testing.assert_array_equal(rows, [embed(text) for text in texts])


def test_setup_and_extra_reach_the_node_and_paths_are_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLURM_JOB_ID", "7")  # as if this were a job itself
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "64")
    given = payloads(Path(), "a")
    extra = {"comment": "two words", "chdir": "/"}
    slurm = compute(setup=["export OMP_NUM_THREADS=3"], extra=extra, mem_gb=0.1, constraint=None)
    assert slurm.run(tasks.work, given, Path("logs")) == {}
    seen = json.loads(given["a"].read_text())
    assert (seen["OMP_NUM_THREADS"], seen["SLURM_CPUS_PER_TASK"]) == ("3", "1")
    assert os.environ["SLURM_JOB_ID"] == "7"
    (script,) = (tmp_path / "logs" / "submitit").glob("*_submission.sh")
    assert "--comment='two words'" in script.read_text()
    assert "--no-requeue" in script.read_text()
