"""The program of a worker, spoken to over its pipe: answers, the end of its work, and the death of its parent."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import NamedTuple

import pytest

from clep.compute.attempts import Outcome
from clep.compute.shutdown import TIME_LIMIT_SIGNAL

from . import tasks

pytestmark = pytest.mark.waits
ROOT = Path(__file__).parents[2]


class Program(NamedTuple):
    """A running worker program and the parent's end of its pipe."""

    process: subprocess.Popen[bytes]
    pipe: Connection

    def send(self, function: Callable[[Path], None], path: Path) -> None:
        self.pipe.send((str(path.with_suffix(".log")), pickle.dumps((function, path))))

    def answer(self) -> Outcome:
        assert self.pipe.poll(60)
        return self.pipe.recv()


@pytest.fixture
def program() -> Iterator[Program]:
    ours, theirs = Pipe()
    descriptor = theirs.fileno()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "clep.compute.worker_process", str(descriptor)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        pass_fds=[descriptor],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    theirs.close()
    yield Program(process, ours)
    process.kill()
    process.wait()
    ours.close()


def start_a_child_that_inherits(path: Path) -> None:
    """Start a process that outlives this one and gets all descriptors that can be inherited."""
    os.system(f"sleep 600 & echo $! > {path}")


def test_tasks_are_answered_in_order_until_none_is_left(tmp_path: Path, program: Program) -> None:
    names = {"a": tasks.work, "b": tasks.refuse, "c": tasks.fail, "d": tasks.work}
    for name, function in names.items():  # all at once: they wait in the pipe
        program.send(function, tmp_path / f"{name}.json")
    program.pipe.send(None)
    assert [program.answer() for _ in names] == [
        Outcome(),
        Outcome("the video is not one", final=True),
        Outcome("ArithmeticError: no luck"),
        Outcome(),
    ]
    assert program.process.wait(20) == 0
    assert "printed by the task\n" in (tmp_path / "a.log").read_text()
    assert "the video is not one" in (tmp_path / "b.log").read_text()
    assert "Traceback" in (tmp_path / "c.log").read_text()
    assert "written below Python\n" in (tmp_path / "d.log").read_text()


def test_it_ends_with_its_children_when_its_parent_dies(tmp_path: Path, program: Program) -> None:
    program.send(tasks.hang, tmp_path / "a.json")
    tasks.wait_for((tmp_path / "a.attempts").exists)
    program.pipe.close()  # as the system does for a parent that was killed
    assert program.process.wait(20) != 0
    assert (tmp_path / "a.stopped").read_text() == "stop"
    child = int((tmp_path / "a.child").read_text())
    tasks.wait_for(lambda: not tasks.alive(child))
    assert not list(tmp_path.glob("*.tmp*"))


def test_it_ends_between_two_tasks_when_its_parent_dies(tmp_path: Path, program: Program) -> None:
    program.send(tasks.work, tmp_path / "a.json")
    assert program.answer() == Outcome()
    program.pipe.close()
    assert program.process.wait(20) != 0


def test_at_its_time_limit_a_task_knows_the_reason(tmp_path: Path, program: Program) -> None:
    program.send(tasks.hang, tmp_path / "a.json")
    tasks.wait_for((tmp_path / "a.attempts").exists)
    program.process.send_signal(TIME_LIMIT_SIGNAL)
    assert program.process.wait(20) != 0
    assert (tmp_path / "a.stopped").read_text() == "time"


def test_children_of_tasks_do_not_hold_the_pipe(tmp_path: Path, program: Program) -> None:
    """Otherwise the parent would wait for them, instead of noticing that the worker has died."""
    program.send(start_a_child_that_inherits, tmp_path / "child")
    assert program.answer() == Outcome()
    program.process.kill()
    program.process.wait()
    child = int((tmp_path / "child").read_text())
    try:
        assert tasks.alive(child)
        assert program.pipe.poll(20)
        with pytest.raises(EOFError):
            program.pipe.recv()
    finally:
        os.kill(child, 9)
