"""A worker seen by its parent: outcomes, deaths, the time limit, and that nothing of it is left."""

import json
import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clep.compute.attempts import Outcome
from clep.compute.worker import Worker, stop_workers

from . import tasks

pytestmark = pytest.mark.waits
NewWorker = Callable[..., Worker]


@pytest.fixture
def new_worker() -> Iterator[NewWorker]:
    made: list[Worker] = []

    def make(threads: int = 1, gpu: str | None = None, limit_s: float | None = None) -> Worker:
        made.append(Worker(threads, gpu, limit_s))
        return made[-1]

    yield make
    for worker in made:
        worker.kill()


def start(worker: Worker, function: Callable[[Path], None], path: Path) -> None:
    worker.start(path.stem, pickle.dumps((function, path)), path.with_suffix(".log"))


def outcome(worker: Worker) -> Outcome:
    """Wait for the outcome of the task."""
    deadline = time.monotonic() + 60
    while (found := worker.outcome()) is None:
        worker.pipe.poll(0.05)
        assert time.monotonic() < deadline
    return found


def run(worker: Worker, function: Callable[[Path], None], path: Path) -> Outcome:
    start(worker, function, path)
    assert worker.task == path.stem
    return outcome(worker)


def test_one_process_runs_its_tasks_and_survives_their_failures(tmp_path: Path, new_worker: NewWorker) -> None:
    worker = new_worker(threads=3, gpu="5")
    assert worker.time_left() == float("inf")
    assert run(worker, tasks.work, tmp_path / "a.json") == Outcome()
    assert run(worker, tasks.fail, tmp_path / "b.json") == Outcome("ArithmeticError: no luck")
    assert run(worker, tasks.refuse, tmp_path / "c.json") == Outcome("the video is not one", final=True)
    assert run(worker, tasks.leave, tmp_path / "d.json") == Outcome("called sys.exit with status 3")
    assert run(worker, tasks.work, tmp_path / "e.json") == Outcome()
    assert len({tasks.pids(tmp_path / f"{name}.json")[0] for name in "abcde"}) == 1
    flags = json.loads((tmp_path / "a.json").read_text())
    assert (flags["OMP_NUM_THREADS"], flags["CUDA_VISIBLE_DEVICES"]) == ("3", "5")
    assert "no luck" in (tmp_path / "b.log").read_text()
    assert "no luck" not in (tmp_path / "e.log").read_text()
    worker.finish()
    assert not tasks.alive(tasks.pids(tmp_path / "a.json")[0])


def test_a_task_that_cannot_be_unpickled_fails_and_the_process_stays(tmp_path: Path, new_worker: NewWorker) -> None:
    worker = new_worker()
    start(worker, tasks.work, tmp_path / "a.json")
    assert outcome(worker) == Outcome()
    worker.start("b", b"cno_such_module\nfunction\n.", tmp_path / "b.log")
    assert outcome(worker) == Outcome("ModuleNotFoundError: No module named 'no_such_module'")
    assert run(worker, tasks.work, tmp_path / "c.json") == Outcome()
    assert tasks.pids(tmp_path / "a.json") == tasks.pids(tmp_path / "c.json")


def test_a_process_that_died_is_replaced(tmp_path: Path, new_worker: NewWorker) -> None:
    worker = new_worker()
    assert run(worker, tasks.work, tmp_path / "a.json") == Outcome()
    first = tasks.pids(tmp_path / "a.json")[0]
    os.kill(first, signal.SIGKILL)  # between two tasks: none of them fails
    tasks.wait_for(lambda: worker._process is not None and worker._process.poll() is not None)  # all its threads ended
    assert run(worker, tasks.work, tmp_path / "b.json") == Outcome()
    died = run(worker, tasks.killed, tmp_path / "c.json")
    assert died == Outcome(f"killed by signal 9 (out of memory?); see {tmp_path / 'c.log'}")
    assert run(worker, tasks.work, tmp_path / "d.json") == Outcome()
    assert len({first, *(tasks.pids(tmp_path / f"{name}.json")[0] for name in "bcd")}) == 3, "c ran on b's process"


def test_a_task_over_its_time_limit_is_ended_with_its_children(tmp_path: Path, new_worker: NewWorker) -> None:
    worker = new_worker(limit_s=60.0)
    start(worker, tasks.hang, tmp_path / "a.json")
    tasks.wait_for((tmp_path / "a.attempts").exists)
    assert worker.outcome() is None
    assert 0 < worker.time_left() <= 60.0
    worker._started -= 60.0  # instead of waiting for so long
    assert worker.time_left() == 0.0
    assert worker.outcome() == Outcome(f"took longer than the 60 s of timeout_min; see {tmp_path / 'a.log'}")
    assert (tmp_path / "a.stopped").read_text() == "time"
    for pid in (tasks.pids(tmp_path / "a.json")[0], int((tmp_path / "a.child").read_text())):
        tasks.wait_for(lambda pid=pid: not tasks.alive(pid))
    assert not list(tmp_path.glob("*.tmp*"))


def test_workers_are_stopped_in_parallel(tmp_path: Path, new_worker: NewWorker) -> None:
    busy, idle, never_started = new_worker(), new_worker(), new_worker()
    start(busy, tasks.hang, tmp_path / "a.json")
    assert run(idle, tasks.work, tmp_path / "b.json") == Outcome()
    tasks.wait_for((tmp_path / "a.attempts").exists)
    stop_workers([never_started, busy, idle])
    child = int((tmp_path / "a.child").read_text())
    assert not any(tasks.alive(tasks.pids(tmp_path / f"{name}.json")[0]) for name in "ab")
    tasks.wait_for(lambda: not tasks.alive(child))
    assert (tmp_path / "a.stopped").read_text() == "stop"
    stop_workers([never_started, busy, idle])  # again: nothing is left to stop


def test_an_interrupt_while_workers_are_stopped_kills_them(
    tmp_path: Path, new_worker: NewWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = [new_worker(), new_worker()]
    for number, worker in enumerate(workers):
        start(worker, tasks.hang, tmp_path / f"{number}.json")
    tasks.wait_for(lambda: len(list(tmp_path.glob("*.attempts"))) == 2)

    def interrupted(self: Worker, *arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Worker, "stop", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stop_workers(workers)
    assert not any(tasks.alive(tasks.pids(tmp_path / f"{number}.json")[0]) for number in range(2))
