"""Tasks on this machine: in the calling process, or in worker processes, each with a GPU of its own."""

import contextlib
import logging
import os
import pickle
import threading
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from clep.compute.attempts import LOG_FORMAT, Attempts, Periodic, attempt, log_path
from clep.compute.shutdown import graceful_shutdown
from clep.compute.worker import Worker, stop_workers
from clep.errors import InputError
from clep.files import make_folder


class Local:
    """Runs tasks on this machine.

    With one process and no time limit, tasks run in the calling process, one after another: nothing is started, but a
    task that crashes the interpreter (a segmentation fault, the out-of-memory killer) ends the program, and the next
    run continues. Otherwise each worker is a process, and a crash costs only the task in it.

    Args:
        processes: tasks that run at once. None: one for each visible GPU, else one.
        threads: of PyTorch and OpenMP in each process. None: the cores, divided evenly among workers.
        retries: how often a task that raised, died or timed out is run again.
        timeout_min: time limit of a task in minutes. None: no limit.

    Raises:
        InputError: an option is out of range.
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
        """Call `function(payload)` for every task. Return values are dropped: tasks write their results to files.

        Args:
            function: defined in a module, so that a worker can import it.
            tasks: name → payload, in the order in which they start.
            log_folder: each task's output and traceback go to `<name>.log` in it.
            watch: called about once a second and once at the end, by the calling thread or, with tasks in this process,
                by another one; never by two at the same time.

        Returns:
            Task → reason, of the tasks that failed. A task that raised an InputError is not tried again.

        Raises:
            InputError: a worker cannot import the function, or the log folder cannot be made.
            KeyboardInterrupt: Ctrl-C; no worker is left behind. Likewise `Stopped`, after SIGTERM or SIGHUP.
        """
        log_folder = Path(log_folder)
        make_folder(log_folder)
        gpus = _visible_gpus() if self.processes is None or self.processes > 1 else []
        processes = self.processes or max(1, len(gpus))
        attempts = Attempts(tasks, self.retries)
        in_process = processes == 1 and self.timeout_min is None
        if not in_process and function.__module__ == "__main__":
            raise InputError(
                f"{function.__qualname__} is defined in the script itself, which workers cannot import: move it to a "
                f"module, or use processes=1"
            )
        with graceful_shutdown():
            if in_process:
                self._run_in_process(function, tasks, log_folder, attempts, watch)
            else:
                self._run_on_workers(function, tasks, log_folder, attempts, Periodic(watch), processes, gpus)
        return attempts.failures

    def _run_in_process(
        self,
        function: Callable[[Any], Any],
        tasks: Mapping[str, Any],
        log_folder: Path,
        attempts: Attempts,
        watch: Callable[[], None] | None,
    ) -> None:
        with _torch_threads(self.threads), _calling_in_thread(watch):
            while attempts.waiting:
                task = attempts.take()
                with _logging_to(log_path(log_folder, task)):
                    outcome = attempt(function, tasks[task])
                    if outcome.final:  # its reason is not in the log yet
                        attempts.settle(task, outcome)
                if not outcome.final:
                    attempts.settle(task, outcome)

    def _run_on_workers(
        self,
        function: Callable[[Any], Any],
        tasks: Mapping[str, Any],
        log_folder: Path,
        attempts: Attempts,
        watch: Periodic,
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
                due = min([watch.time_left(), *(worker.time_left() for worker in busy)])
                wait([worker.pipe for worker in busy], timeout=due)
                for worker in list(busy):
                    if (outcome := worker.outcome()) is not None:
                        attempts.settle(worker.task, outcome)
                        busy.remove(worker)
                        free.append(worker)
                watch.call_if_due()
            for worker in free:
                worker.finish()
        finally:
            stop_workers([*free, *busy])
        watch.call()


def _visible_gpus() -> list[str]:
    """Return the GPUs that this process sees, by their names in CUDA_VISIBLE_DEVICES."""
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [str(index) for index in range(count)] if named is None else named.split(",")[:count]


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
    """Copy log messages to a file in the block."""
    handler = logging.FileHandler(log, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


@contextlib.contextmanager
def _calling_in_thread(watch: Callable[[], None] | None) -> Iterator[None]:
    """Call `watch` once a second in a thread, and once at the end; its exception is raised at the end."""
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
