"""How a run handles Slurm's answers, without a cluster: the executor and the queue are fakes."""

import itertools
import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from clep.compute import Slurm, Stopped, slurm_queue
from clep.compute import slurm as slurm_run
from clep.compute.attempts import Attempts
from clep.compute.slurm import SlurmRun
from clep.compute.slurm_queue import JobState
from clep.errors import InputError

from . import tasks

PENDING, RUNNING = JobState("PENDING", "Resources"), JobState("RUNNING", "None")
FAILED, COMPLETED = JobState("FAILED", "NonZeroExitCode"), JobState("COMPLETED", "None")


class Cluster:
    """Fake cluster: accepts arrays, lists the jobs set by the test, and sets the clock."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.arrays: list[list[Any]] = []
        self.listed: dict[str, JobState] | None = {}
        self.now = 0.0
        self.refuses = False
        self.cancelled: list[str] = []
        monkeypatch.setattr(slurm_queue, "queue", lambda: self.listed)
        monkeypatch.setattr(slurm_queue, "query_ending", lambda job: f"the end of {job}")
        monkeypatch.setattr(slurm_queue, "cancel", lambda name: self.cancelled.append(name) is None)
        monkeypatch.setattr(slurm_run.time, "monotonic", lambda: self.now)

    def submit_array(self, calls: list[Any]) -> list[Any]:
        if self.refuses:
            from submitit.core.utils import FailedJobError

            raise FailedJobError("sbatch: error:\n no more")
        self.arrays.append(calls)
        number = len(self.arrays)
        return [
            SimpleNamespace(job_id=f"{number}_{index}", paths=SimpleNamespace(stdout=Path(f"{number}_{index}.out")))
            for index in range(len(calls))
        ]

    def write_outcome(self, array: int, index: int, reason: str | None = None, final: bool = False) -> None:
        self.arrays[array - 1][index].outcome.write_text(json.dumps({"reason": reason, "final": final}))

    def run(self, names: str, retries: int = 0) -> SlurmRun:
        (self.folder / "submitit").mkdir()
        given = dict.fromkeys(names)
        executor = SimpleNamespace(folder=self.folder / "submitit", submit_array=self.submit_array)
        return SlurmRun(executor, "run", 5, tasks.work, given, self.folder, Attempts(given, retries))


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return Cluster(tmp_path, monkeypatch)


def test_a_vanished_job_fails_after_a_while(cluster: Cluster) -> None:
    run = cluster.run("ab")
    run.submit()
    cluster.listed = {"1_0": RUNNING, "1_1": PENDING}
    run.poll()
    cluster.listed = {"1_0": RUNNING}
    for cluster.now in (100.0, 119.0):
        run.poll()
        assert not run.attempts.failures
    cluster.now = 121.0
    run.poll()
    assert run.attempts.failures == {"b": "the end of 1_1; see 1_1.out"}
    assert run.unfinished()


def test_a_slow_disk_and_a_brief_gap_in_the_queue_are_tolerated(cluster: Cluster) -> None:
    run = cluster.run("ab")
    run.submit()
    cluster.listed = {"1_0": COMPLETED}
    run.poll()
    cluster.now = 15.0
    cluster.listed = {"1_0": COMPLETED, "1_1": RUNNING}
    cluster.write_outcome(1, 0)
    run.poll()
    cluster.now = 30.0
    cluster.listed = {}
    run.poll()
    assert run.unfinished()
    cluster.write_outcome(1, 1)
    run.collect()
    assert not run.unfinished()
    assert run.attempts.failures == {}


def test_a_controller_that_does_not_answer_fails_no_task(cluster: Cluster) -> None:
    run = cluster.run("a")
    run.submit()
    cluster.listed = None
    for cluster.now in (0.0, 1000.0, 2000.0):
        run.poll()
    assert run.unfinished()
    assert run.attempts.failures == {}


def test_failed_tasks_are_submitted_again_in_one_array(cluster: Cluster) -> None:
    run = cluster.run("abc", retries=1)
    run.submit()
    cluster.listed = {"1_0": FAILED, "1_1": FAILED, "1_2": RUNNING}
    run.poll()
    cluster.write_outcome(1, 1, "raised")
    cluster.now = 21.0
    run.poll()
    assert [len(array) for array in cluster.arrays] == [3, 2]
    cluster.listed = {"2_0": RUNNING, "2_1": RUNNING, "1_2": RUNNING}
    assert {call.outcome.name for call in cluster.arrays[1]} == {"a.2.json", "b.2.json"}
    cluster.write_outcome(1, 2)
    cluster.write_outcome(2, 0, "wrong for ever", final=True)
    cluster.write_outcome(2, 1, "raised again")
    run.collect()
    assert set(run.attempts.failures) == {"a", "b"}
    assert not run.unfinished()


def test_a_half_written_outcome_is_read_later(cluster: Cluster) -> None:
    run = cluster.run("a")
    run.submit()
    cluster.arrays[0][0].outcome.write_text('{"reason": nu')
    run.collect()
    assert run.unfinished()
    cluster.write_outcome(1, 0)
    run.collect()
    assert not run.unfinished()


def test_an_array_that_is_refused(cluster: Cluster) -> None:
    run = cluster.run("a", retries=1)
    cluster.refuses = True
    with pytest.raises(InputError, match="Slurm refuses the jobs: sbatch: error: no more"):
        run.submit()
    run.cancel()
    assert cluster.cancelled == []


def test_a_later_refused_array_is_a_failed_attempt(cluster: Cluster) -> None:
    run = cluster.run("a", retries=2)
    run.submit()
    cluster.write_outcome(1, 0, "raised")
    run.collect()
    cluster.refuses = True
    run.poll()
    assert run.unfinished()
    run.poll()
    assert run.attempts.failures == {"a": "Slurm refused to submit it again: sbatch: error: no more"}
    assert not run.unfinished()


def test_tasks_beyond_the_array_limit_wait(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_run, "_MOST_AT_ONCE", 3)
    run = cluster.run("abcde")
    run.submit()
    run.submit()
    assert [len(array) for array in cluster.arrays] == [3]
    cluster.write_outcome(1, 1)
    run.poll()
    assert [len(array) for array in cluster.arrays] == [3, 1]


def test_a_run_that_is_stopped_cancels_its_jobs(cluster: Cluster) -> None:
    run = cluster.run("a")
    run.submit()
    run.cancel()
    assert cluster.cancelled == ["run"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_terminated_process_cancels_its_jobs(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    moments = itertools.count()
    monkeypatch.setattr(slurm_run.time, "monotonic", lambda: float(next(moments)))
    before = signal.signal(number, signal.SIG_DFL)
    executor = SimpleNamespace(folder=tmp_path / "logs" / "submitit", submit_array=cluster.submit_array)
    monkeypatch.setattr(slurm_queue, "first_missing", lambda commands: None)
    monkeypatch.setattr(Slurm, "_executor", lambda self, folder, name: executor)
    try:
        with pytest.raises(Stopped) as ended:
            Slurm(poll_s=0.01).run(tasks.work, {"a": 1}, tmp_path / "logs", lambda: os.kill(os.getpid(), number))
    finally:
        signal.signal(number, before)
    assert ended.value.code == 128 + number
    assert [name.startswith("clep-") for name in cluster.cancelled] == [True]


def test_missing_slurm_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert slurm_queue.queue() is None
    assert "no longer in Slurm" in slurm_queue.query_ending("1_0")
    with pytest.raises(InputError, match=r"no 'sbatch' on PATH.*compute=local"):
        Slurm().run(tasks.work, {"a": tmp_path / "a"}, tmp_path / "logs")
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(
    "options",
    [{"time_min": 0}, {"gpus": -1}, {"cpus": 0}, {"max_parallel": 0}, {"retries": -1}, {"poll_s": 0}, {"mem_gb": 0}],
)
def test_bad_options(options: dict) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        Slurm(**options)


def test_setup_is_a_list() -> None:
    with pytest.raises(InputError, match="must be a list of lines"):
        Slurm(setup="module load cuda")
