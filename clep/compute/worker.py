"""A worker process as seen by its parent; `worker_process.py` is the program that runs in it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

from clep.compute.attempts import Outcome, describe_exit
from clep.compute.shutdown import GRACE_S, TIME_LIMIT_SIGNAL


class Worker:
    """A worker process, restarted after it died, and its current task.

    Args:
        threads: threads of PyTorch and OpenMP in the process.
        gpu: its only visible GPU; None: the GPUs of the parent.
        limit_s: time limit of a task in seconds; None for no limit.
    """

    def __init__(self, threads: int, gpu: str | None, limit_s: float | None) -> None:
        self.task = ""
        self._log = Path()
        self._threads = threads
        self._gpu = gpu
        self._limit_s = limit_s
        self._started = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None

    @property
    def pipe(self) -> Connection:
        """Pipe to the worker; readable when it has sent an outcome or died."""
        assert self._pipe is not None
        return self._pipe

    def start(self, task: str, pickled: bytes, log: Path) -> None:
        """Send a task to the process; the process is started if it is not running."""
        self.task, self._log = task, log
        if self._process is not None and self._process.poll() is not None:
            self.stop()  # it died between two tasks
        if self._process is None:
            self._start_process()
        self._started = time.monotonic()
        with contextlib.suppress(OSError):  # outcome() notices a dead process
            self.pipe.send((str(log), pickled))

    def time_left(self) -> float:
        """Return the seconds until the task reaches its time limit."""
        return float("inf") if self._limit_s is None else max(0.0, self._started + self._limit_s - time.monotonic())

    def outcome(self) -> Outcome | None:
        """Return the outcome of the task; None while it runs."""
        assert self._process is not None
        dead = self._process.poll() is not None  # checked before the pipe is read, so that no message is missed
        try:
            if self.pipe.poll():
                return self.pipe.recv()
        except (EOFError, OSError):
            dead = True
        if dead:
            process = self._process
            self.stop()
            return self._failed(describe_exit(process.returncode))
        if self.time_left() == 0.0:
            self._process.send_signal(TIME_LIMIT_SIGNAL)
            self._wait(GRACE_S)
            self.kill()
            return self._failed(f"took longer than the {self._limit_s:g} s of timeout_min")
        return None

    def finish(self) -> None:
        """Let the process end after its last task, and wait for it briefly."""
        if self._process is not None:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                self.pipe.send(None)
                self._process.wait(GRACE_S)

    def ask_to_stop(self) -> None:
        """Send SIGTERM: the process removes its partial files and ends."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def stop(self, grace_s: float = GRACE_S) -> None:
        """End the process and its children, with `grace_s` seconds for cleanup."""
        self.ask_to_stop()
        try:
            self._wait(grace_s)
        finally:
            self.kill()

    def _wait(self, grace_s: float) -> None:
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace_s)

    def _failed(self, reason: str) -> Outcome:
        return Outcome(f"{reason}; see {self._log}")

    def kill(self) -> None:
        """Kill the process and its children."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None

    def _start_process(self) -> None:
        self._pipe, theirs = Pipe()
        threads = str(self._threads)
        paths = os.pathsep.join(str(Path(path).absolute()) for path in sys.path)
        environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        if self._gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpu
        with theirs, self._log.open("ab") as log:
            # In a new session, so that Ctrl-C reaches only the parent, which then ends the worker and its children.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "clep.compute.worker_process", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )


def stop_workers(workers: Sequence[Worker]) -> None:
    """End all workers and their children in parallel; if interrupted, kill them."""
    try:
        for worker in workers:
            worker.ask_to_stop()
        deadline = time.monotonic() + GRACE_S
        for worker in workers:
            worker.stop(max(0.0, deadline - time.monotonic()))
    finally:
        for worker in workers:
            worker.kill()
