"""What local processes and a cluster share: one attempt at a task, and which tasks are still to be tried."""

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
GRACE_S = 5.0  # what a worker that is describe_exit to end has for keeping what is done and removing half-written files
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
    """Which tasks wait, how often each was tried, and which failed for good.

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
        """Note how an attempt ended: a task that failed waits again, unless it was its last attempt."""
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
    """Call `function(payload)`; a failure's traceback goes to the log.

    Only what a person or the system stopped (KeyboardInterrupt, `Stopped`) comes out as an exception.
    """
    try:
        function(payload)
    except InputError as error:
        logger.error("%s", error)
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
    """Say how a process ended, by its exit status as Python gives it: minus the signal where one killed it."""
    if exit_status >= 0:
        return f"ended with exit status {exit_status}"
    if -exit_status == signal.SIGKILL:
        return "killed by signal 9 (out of memory?)"
    try:
        return f"killed by signal {-exit_status} ({signal.Signals(-exit_status).name})"
    except ValueError:
        return f"killed by signal {-exit_status}"


def log_path(folder: Path, task: str) -> Path:
    """Return the log file of a task, inside `folder` whatever the task is called."""
    name = quote(task, safe=" ")
    if len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME]}-{hashlib.blake2b(task.encode(), digest_size=4).hexdigest()}"
    return folder / f"{name}.log"


def write_output_to(log: Path) -> None:
    """Append what this process prints from now on, that of C libraries included, to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


class Regularly:
    """Calls a function about once in `seconds`, whenever it is given the chance.

    Arguments:
        function: called without arguments; None: there is nothing to call.
        seconds: at least this long passes between two calls.
    """

    def __init__(self, function: Callable[[], None] | None, seconds: float | int = 1.0) -> None:
        self._function = function
        self._seconds = seconds
        self._last = time.monotonic()

    def left(self) -> float:
        """Return the seconds until the next call is due."""
        return max(0.0, self._last + self._seconds - time.monotonic())

    def call_if_due(self) -> None:
        """Call the function if its time has come."""
        if self.left() == 0.0:
            self.call()

    def call(self) -> None:
        """Call the function now."""
        self._last = time.monotonic()
        if self._function is not None:
            self._function()
