"""Tasks on this machine: in the calling process, or on worker processes that each have a GPU of their own."""

import contextlib
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any

from clep.compute.attempts import GRACE_S, LOG_FORMAT, Attempts, Outcome, Regularly, attempt, describe_exit, log_path
from clep.compute.shutdown import TIME_IS_OVER, graceful_shutdown
from clep.errors import InputError


class Worker:
    """One of the tasks that run at once: a worker process, replaced when it has died, and what it is doing.

    Arguments:
        threads: for PyTorch and OpenMP in the process.
        gpu: the only GPU that it sees; None: as the parent.
        limit_s: seconds that a task may take.
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
        """The pipe to the worker: readable when it has an answer or is dead."""
        assert self._pipe is not None
        return self._pipe

    def start(self, task: str, pickled: bytes, log: Path) -> None:
        """Give a task to the worker; start one where there is none."""
        self.task, self._log = task, log
        if self._process is not None and self._process.poll() is not None:
            self.stop()  # it died between two tasks
        if self._process is None:
            self._start_process()
        self._started = time.monotonic()
        with contextlib.suppress(OSError):  # a worker that is dead already is noticed by outcome()
            self.pipe.send((str(log), pickled))

    def left(self) -> float:
        """Return the seconds until the task's time is over."""
        return float("inf") if self._limit_s is None else max(0.0, self._started + self._limit_s - time.monotonic())

    def outcome(self) -> Outcome | None:
        """Return how the task ended; None while it runs."""
        assert self._process is not None
        dead = self._process.poll() is not None  # looked at first: what it wrote before it died is then in the pipe
        try:
            if self.pipe.poll():
                return self.pipe.recv()
        except (EOFError, OSError):
            dead = True
        if dead:
            return self._failed(describe_exit(self._stopped_by()))
        if self.left() == 0.0:
            self._process.send_signal(TIME_IS_OVER)
            self._wait(GRACE_S)
            self.kill()
            return self._failed(f"took longer than the {self._limit_s:g} s of timeout_min")
        return None

    def farewell(self) -> None:
        """Tell the worker that there is no more work, and wait a little while it leaves."""
        if self._process is not None:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                self.pipe.send(None)
                self._process.wait(GRACE_S)

    def ask_to_stop(self) -> None:
        """Let the worker remove its half-written files and end."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def stop(self, grace_s: float = GRACE_S) -> None:
        """End the worker and everything that it started."""
        self.ask_to_stop()
        try:
            self._wait(grace_s)
        finally:
            self.kill()

    def _wait(self, grace_s: float) -> None:
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace_s)

    def _stopped_by(self) -> int:
        """Return the exit status of a worker whose pipe has ended."""
        assert self._process is not None
        process = self._process
        self.stop()
        return process.returncode

    def _failed(self, reason: str) -> Outcome:
        return Outcome(f"{reason}; see {self._log}")

    def kill(self) -> None:
        """End the worker and everything that it started, at once."""
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
            # A session of its own: Ctrl-C reaches the parent alone, which then ends the worker and its children.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "clep.compute.worker", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )


def stop_workers(workers: Sequence[Worker]) -> None:
    """End all workers together, and everything that they started; at once where this is interrupted."""
    try:
        for worker in workers:
            worker.ask_to_stop()
        deadline = time.monotonic() + GRACE_S
        for worker in workers:
            worker.stop(max(0.0, deadline - time.monotonic()))
    finally:
        for worker in workers:
            worker.kill()


logger = logging.getLogger(__name__)


class Local:
    """Runs tasks on this machine.

    With one process and no time limit, tasks run in the calling process, one after another: nothing to start up, but a
    task that crashes the interpreter (a segmentation fault, the system's out-of-memory killer) ends the program, and
    the next run continues. Otherwise each worker is a process of its own: a crash costs only the task it happens in.

    Args:
        processes: how many tasks run at once. None: one for each visible GPU, else one.
        threads: of PyTorch and OpenMP in each process. None: the cores shared out evenly among workers.
        retries: how often a task that raised, died or took too long is run again.
        timeout_min: minutes after which a task is ended and counts as failed. None: never.

    Raises:
        InputError: a number is out of range.
    """

    def __init__(
        self,
        processes: int | None = None,
        threads: int | None = None,
        retries: int = 2,
        timeout_min: float | int | None = None,
    ) -> None:
        for name, value, least in (("processes", processes, 1), ("threads", threads, 1), ("retries", retries, 0)):
            if value is not None and value < least:
                raise InputError(f"{name}={value} must be at least {least}")
        if timeout_min is not None and timeout_min <= 0:
            raise InputError(f"timeout_min={timeout_min} must be above 0, or null for no limit")
        self.processes = processes
        self.threads = threads
        self.retries = retries
        self.timeout_min = timeout_min

    def run(
        self,
        function: Callable[[Any], Any],
        tasks: Mapping[str, Any],
        log_folder: Path,
        watch: Callable[[], None] | None = None,
    ) -> dict[str, str]:
        """Call `function(payload)` once for every task; what it returns is dropped, results go to files.

        Args:
            function: defined in a module, so that a worker can import it.
            tasks: name → payload, in the order in which they start.
            log_folder: each task's output and traceback go to `<name>.log` in it.
            watch: called about once a second and once at the end, by the thread that called `run` or, with tasks in
                this process, by another one; never by two at a time.

        Returns:
            Task → reason, of those that never succeeded. An InputError in a task is its last word: not tried again.

        Raises:
            InputError: the function cannot be imported by a worker, or the log folder cannot be made.
            KeyboardInterrupt: Ctrl-C; no worker is left behind. Likewise `Stopped`, after SIGTERM or SIGHUP.
        """
        log_folder = Path(log_folder)
        try:
            log_folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot make the folder {log_folder}: {error.strerror or error}") from error
        gpus = _visible_gpus() if self.processes is None or self.processes > 1 else []
        processes = self.processes or max(1, len(gpus))
        attempts = Attempts(tasks, self.retries)
        here = processes == 1 and self.timeout_min is None
        if not here and function.__module__ == "__main__":
            raise InputError(
                f"{function.__qualname__} is defined in the script; worker processes can import it only "
                f"from a module of its own: move it there, or use processes=1"
            )
        with graceful_shutdown():
            if here:
                self._run_here(function, tasks, log_folder, attempts, watch)
            else:
                self._run_on_workers(function, tasks, log_folder, attempts, Regularly(watch), processes, gpus)
        return attempts.failures

    def _run_here(
        self,
        function: Callable[[Any], Any],
        tasks: Mapping[str, Any],
        log_folder: Path,
        attempts: Attempts,
        watch: Callable[[], None] | None,
    ) -> None:
        with _torch_threads(self.threads), _called_by_a_thread(watch):
            while attempts.waiting:
                task = attempts.take()
                with _logging_to(log_path(log_folder, task)):
                    outcome = attempt(function, tasks[task])
                attempts.settle(task, outcome)

    def _run_on_workers(
        self,
        function: Callable[[Any], Any],
        tasks: Mapping[str, Any],
        log_folder: Path,
        attempts: Attempts,
        watch: Regularly,
        processes: int,
        gpus: list[str],
    ) -> None:
        processes = min(processes, len(tasks))
        threads = self.threads or max(1, _cores() // max(1, processes))
        limit_s = None if self.timeout_min is None else 60.0 * self.timeout_min
        free = [Worker(threads, gpus[worker % len(gpus)] if gpus else None, limit_s) for worker in range(processes)]
        busy: list[Worker] = []
        try:
            while attempts.waiting or busy:
                while attempts.waiting and free:
                    task = attempts.take()
                    worker = free.pop(0)
                    busy.append(worker)
                    worker.start(task, pickle.dumps((function, tasks[task])), log_path(log_folder, task))
                due = min([watch.left(), *(worker.left() for worker in busy)])
                wait([worker.pipe for worker in busy], timeout=due)
                for worker in list(busy):
                    if (outcome := worker.outcome()) is not None:
                        attempts.settle(worker.task, outcome)
                        busy.remove(worker)
                        free.append(worker)
                watch.call_if_due()
            for worker in free:
                worker.farewell()
        finally:
            stop_workers([*free, *busy])
        watch.call()


def _visible_gpus() -> list[str]:
    """Return the names by which CUDA_VISIBLE_DEVICES would call the GPUs that this process sees."""
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [str(number) for number in range(count)] if named is None else named.split(",")[:count]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def _torch_threads(threads: int | None) -> Iterator[None]:
    if threads is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _logging_to(log: Path) -> Iterator[None]:
    """Write what is logged meanwhile to a file as well."""
    handler = logging.FileHandler(log, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


@contextlib.contextmanager
def _called_by_a_thread(watch: Callable[[], None] | None) -> Iterator[None]:
    """Call `watch` once a second meanwhile, and once at the end; what it raises comes out at the end."""
    if watch is None:
        yield
        return
    done = threading.Event()
    raised: list[BaseException] = []

    def call() -> None:
        while not raised and not done.wait(1.0):
            try:
                watch()
            except BaseException as error:
                raised.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    if raised:
        raise raised[0]
    watch()
