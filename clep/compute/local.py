"""Run tasks on this machine: in the calling process, or in worker processes with one GPU each."""

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

    With one process and no time limit, tasks run one after another in the calling process. No process is started, but a
    task that crashes the interpreter (a segmentation fault, the out-of-memory killer) ends the program; running it
    again continues. Otherwise each worker is a process, and a crash affects only its task.

    Args:
        processes: number of parallel tasks. None: one per visible GPU, or one without GPUs.
        threads: threads of PyTorch and OpenMP in each process. None: the cores, divided evenly among workers.
        retries: retries of a task that raised, died or timed out.
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
        """Call `function(payload)` for every task; results are written to files by the tasks.

        Args:
            function: defined in a module that a worker can import; its return value is ignored.
            tasks: payload by task name, in the order in which they start.
            log_folder: folder of the logs; each task's output and traceback go to `<name>.log`.
            watch: called about once a second and once at the end, by the calling thread or, with tasks in this process,
                by another thread; never by two threads at the same time.

        Returns:
            Reason by name of the failed tasks. A task that raised an InputError is not retried.

        Raises:
            InputError: a worker cannot import the function, or the log folder cannot be made.
            KeyboardInterrupt: Ctrl-C; all workers are ended first.
            Stopped: SIGTERM or SIGHUP; all workers are ended first.
        """
        log_folder = Path(log_folder)
        make_folder(log_folder)
        gpus = _visible_gpus() if self.processes is None or self.processes > 1 else []
        processes = self.processes or max(1, len(gpus))
        attempts = Attempts(tasks, self.retries)
        in_process = processes == 1 and self.timeout_min is None
        if not in_process and function.__module__ == "__main__":
            raise InputError(
                f"{function.__qualname__} is defined in the main script, which workers cannot import: move it to a "
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
                    if outcome.final:  # logs the reason to the task's log
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
    """Return the visible GPUs, as in CUDA_VISIBLE_DEVICES."""
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
    """Also write log messages to a file inside the block."""
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
    """Call `watch` once a second in a thread, and once at the end; an exception of it is raised at the end."""
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
