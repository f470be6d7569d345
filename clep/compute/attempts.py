"""Attempts at tasks, shared by `Local` and `Slurm`: outcomes, retries, log files."""

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
        reason: why it failed; None if it succeeded.
        final: whether a retry is useless, since it would fail in the same way.
    """

    reason: str | None = None
    final: bool = False


class Attempts:
    """Queue of waiting tasks with their retries, and the tasks that failed.

    Args:
        tasks: names, in the order in which they start.
        retries: retries of a failed task.
    """

    def __init__(self, tasks: Iterable[str], retries: int) -> None:
        self.waiting = deque(tasks)
        self.failures: dict[str, str] = {}
        self._tried: Counter[str] = Counter()
        self._retries = retries

    def take(self) -> str:
        """Return the next waiting task, and count an attempt at it."""
        task = self.waiting.popleft()
        self._tried[task] += 1
        return task

    def count(self, task: str) -> int:
        """Return the number of attempts at a task so far."""
        return self._tried[task]

    def settle(self, task: str, outcome: Outcome) -> None:
        """Record the outcome of an attempt; a failed task is queued again if it has retries left."""
        if outcome.reason is None:
            return
        if outcome.final or self._tried[task] > self._retries:
            logger.error("%s failed: %s", task, outcome.reason)
            self.failures[task] = outcome.reason
        else:
            logger.warning("%s failed, retrying: %s", task, outcome.reason)
            self.waiting.append(task)


def call_pickled(pickled: bytes) -> None:
    """Unpickle a function and its payload, and call it."""
    function, payload = pickle.loads(pickled)
    function(payload)


def attempt(function: Callable[[Any], Any], payload: Any) -> Outcome:
    """Call `function(payload)` and return its outcome; logs the traceback of a failure unless it is an InputError.

    Raises:
        KeyboardInterrupt, Stopped: the process is to end, which is no failure of the task.
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
        return Outcome(f"called sys.exit with status {error.code}")
    return Outcome()


def describe_exit(exit_status: int) -> str:
    """Describe the exit of a process by its status as in `subprocess`: negative after a signal."""
    if exit_status >= 0:
        return f"ended with exit status {exit_status}"
    if -exit_status == signal.SIGKILL:
        return "killed by signal 9 (out of memory?)"
    try:
        return f"killed by signal {-exit_status} ({signal.Signals(-exit_status).name})"
    except ValueError:
        return f"killed by signal {-exit_status}"


def log_path(folder: Path, task: str) -> Path:
    """Return the path of a task's log file, directly in `folder` for any task name."""
    name = quote(task, safe=" ")
    if len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME]}-{hashlib.blake2b(task.encode(), digest_size=4).hexdigest()}"
    return folder / f"{name}.log"


def write_output_to(log: Path) -> None:
    """Append the output of this process, C libraries included, to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


class Periodic:
    """Calls a function at most once every `seconds`, from `call_if_due`.

    Args:
        function: called without arguments; None to call nothing.
        seconds: minimum time between two calls.
    """

    def __init__(self, function: Callable[[], None] | None, seconds: float | int = 1.0) -> None:
        self._function = function
        self._seconds = seconds
        self._last = time.monotonic()

    def time_left(self) -> float:
        """Return the seconds until the next call is due."""
        return max(0.0, self._last + self._seconds - time.monotonic())

    def call_if_due(self) -> None:
        """Call the function if `seconds` have passed since the last call."""
        if self.time_left() == 0.0:
            self.call()

    def call(self) -> None:
        """Call the function now."""
        self._last = time.monotonic()
        if self._function is not None:
            self._function()
