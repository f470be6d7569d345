"""Tasks on this machine: in the calling process, or on worker processes that each have a GPU of their own."""

import contextlib
import logging
import os
import pickle
import threading
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from clep.compute.attempts import LOG_FORMAT, Attempts, Regularly, attempt, log_path
from clep.compute.places import Place, end
from clep.compute.stopped import ends_in_order
from clep.errors import InputError

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
        with ends_in_order():
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
        free = [Place(threads, gpus[place % len(gpus)] if gpus else None, limit_s) for place in range(processes)]
        busy: list[Place] = []
        try:
            while attempts.waiting or busy:
                while attempts.waiting and free:
                    task = attempts.take()
                    place = free.pop(0)
                    busy.append(place)
                    place.start(task, pickle.dumps((function, tasks[task])), log_path(log_folder, task))
                due = min([watch.left(), *(place.left() for place in busy)])
                wait([place.pipe for place in busy], timeout=due)
                for place in list(busy):
                    if (outcome := place.outcome()) is not None:
                        attempts.settle(place.task, outcome)
                        busy.remove(place)
                        free.append(place)
                watch.call_if_due()
            for place in free:
                place.farewell()
        finally:
            end([*free, *busy])
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
