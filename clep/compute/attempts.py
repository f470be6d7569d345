"""Attempts at tasks, shared by `Local` and `Slurm`: one attempt and its outcome, retries, log files."""

import hashlib
import logging
import os
import pickle
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from clep.compute.shutdown import Stopped
from clep.errors import InputError

logger = logging.getLogger(__name__)

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_LONGEST_NAME = 150


@dataclass(frozen=True)
class Outcome:
    """How an attempt at a task ended.

    Attributes:
        reason: why it failed; None: it succeeded.
        final: another attempt would fail in the same way.
    """

    reason: str | None = None
    final: bool = False


class Attempts:
    """The tasks that wait, how often each was tried, and those that failed for good.

    Arguments:
        tasks: names, in the order in which they start.
        retries: how often a task that failed is tried again.
    """

    def __init__(self, tasks: Iterable[str], retries: int) -> None:
        self.waiting = deque(tasks)
        self.failures: dict[str, str] = {}
        self._tried: Counter[str] = Counter()
        self._retries = retries

    def take(self) -> str:
        """Return the next waiting task and count the attempt that starts with this."""
        task = self.waiting.popleft()
        self._tried[task] += 1
        return task

    def number(self, task: str) -> int:
        """Return how many attempts at a task have started."""
        return self._tried[task]

    def settle(self, task: str, outcome: Outcome) -> None:
        """Record the outcome of an attempt: a task that failed waits again, unless it was its last attempt."""
        if outcome.reason is None:
            return
        if outcome.final or self._tried[task] > self._retries:
            logger.error("%s failed: %s", task, outcome.reason)
            self.failures[task] = outcome.reason
        else:
            logger.warning("%s failed and is tried again: %s", task, outcome.reason)
            self.waiting.append(task)


def call_pickled(pickled: bytes) -> None:
    """Unpickle a function and its payload, and call it."""
    function, payload = pickle.loads(pickled)
    function(payload)


def attempt(function: Callable[[Any], Any], payload: Any) -> Outcome:
    """Call `function(payload)` and return its outcome; the traceback of a failure is logged, but for an InputError.

    Only KeyboardInterrupt and `Stopped`, which are no failures of the task, are raised.
    """
    try:
        function(payload)
    except InputError as error:
        return Outcome(str(error), final=True)
    except Exception as error:
        logger.exception("the task failed")
        return Outcome(f"{type(error).__name__}: {error}")
    except Stopped:
        raise
    except SystemExit as error:
        logger.exception("the task ended its process")
        return Outcome(f"ended by itself with exit status {error.code}")
    return Outcome()


def describe_exit(exit_status: int) -> str:
    """Describe how a process ended, by its exit status in Python's form: negative after a signal."""
    if exit_status >= 0:
        return f"ended with exit status {exit_status}"
    if -exit_status == signal.SIGKILL:
        return "killed by signal 9 (out of memory?)"
    try:
        return f"killed by signal {-exit_status} ({signal.Signals(-exit_status).name})"
    except ValueError:
        return f"killed by signal {-exit_status}"


def log_path(folder: Path, task: str) -> Path:
    """Return the log file of a task, which lies in `folder` whatever the name of the task is."""
    name = quote(task, safe=" ")
    if len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME]}-{hashlib.blake2b(task.encode(), digest_size=4).hexdigest()}"
    return folder / f"{name}.log"


def write_output_to(log: Path) -> None:
    """Redirect the output of this process, that of C libraries included, to the end of a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


class Periodic:
    """Calls a function at most once in `seconds`, from `call_if_due`.

    Arguments:
        function: called without arguments; None: nothing is called.
        seconds: least time between two calls.
    """

    def __init__(self, function: Callable[[], None] | None, seconds: float | int = 1.0) -> None:
        self._function = function
        self._seconds = seconds
        self._last = time.monotonic()

    def time_left(self) -> float:
        """Return the seconds until the next call is due."""
        return max(0.0, self._last + self._seconds - time.monotonic())

    def call_if_due(self) -> None:
        """Call the function if the last call is long enough ago."""
        if self.time_left() == 0.0:
            self.call()

    def call(self) -> None:
        """Call the function now."""
        self._last = time.monotonic()
        if self._function is not None:
            self._function()
