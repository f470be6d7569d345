"""Tasks that work, fail, die or hang; payloads are folders, in which they write files that record what happened."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from clep.compute import Stopped
from clep.errors import InputError
from clep.files import atomic_path

FLAGS = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "SLURM_JOB_ID", "SLURM_CPUS_PER_TASK", "SLURM_ARRAY_TASK_ID")


def attempt(path: Path) -> int:
    """Count the attempts at a task by a file beside its result."""
    counter = path.with_suffix(".attempts")
    with counter.open("a") as file:
        file.write(f"{os.getpid()}\n")
    return len(counter.read_text().splitlines())


def pids(path: Path) -> list[int]:
    return [int(line) for line in path.with_suffix(".attempts").read_text().splitlines()]


def work(path: Path) -> None:
    attempt(path)
    _finish(path)


def _finish(path: Path) -> None:
    print("printed by the task")
    os.write(2, b"written below Python\n")
    logging.getLogger("clep.some").info("logged by the task")
    path.write_text(json.dumps({name: os.environ.get(name) for name in FLAGS}))


def slow_work(path: Path) -> None:
    work(path)
    time.sleep(0.5)


def fail(path: Path) -> None:
    attempt(path)
    raise ArithmeticError("no luck")


def refuse(path: Path) -> None:
    attempt(path)
    raise InputError("the video is not one")


def leave(path: Path) -> None:
    attempt(path)
    sys.exit(3)


def killed_at_first(path: Path) -> None:
    if attempt(path) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    _finish(path)


def killed(path: Path) -> None:
    attempt(path)
    os.kill(os.getpid(), signal.SIGKILL)


def crash(path: Path) -> None:
    attempt(path)
    os.kill(os.getpid(), signal.SIGSEGV)


def hang(path: Path) -> None:
    """Write half a file, start a process, and wait forever; when stopped, record why."""
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        child = subprocess.Popen(["sleep", "600"])
        path.with_suffix(".child").write_text(str(child.pid))
        attempt(path)
        try:
            time.sleep(600)
        except Stopped as stopped:
            path.with_suffix(".stopped").write_text("time" if stopped.at_time_limit else "stop")
            raise


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def by_name(path: Path) -> None:
    """Do what the file's name asks."""
    known = (work, fail, refuse, killed, crash, leave, killed_at_first)
    {function.__name__: function for function in known}[path.stem.partition("-")[0]](path)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
