"""Graceful shutdown: a signal becomes an exception, so that finished work is kept and half-written files removed."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

TIME_IS_OVER = signal.SIGUSR2
"""The signal for a task that has reached its time limit, from Slurm or from the parent of local workers."""
GRACE_S = 5.0
"""Seconds that a process has after the signal for keeping finished work and removing half-written files."""


class Stopped(SystemExit):
    """A signal asks this process to end; no task treats that as a failure of its own.

    Uncaught, it ends the process with the exit status that shells give after this signal, without a traceback.

    Attributes:
        signal: its number.
        time_is_over: the task has reached its time limit. Otherwise: a preemption, a shutdown, a user.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = number
        self.time_is_over = number == TIME_IS_OVER


def raise_stopped(number: int, frame: FrameType | None) -> None:
    """Handle a signal by raising `Stopped`."""
    raise Stopped(number)


@contextmanager
def graceful_shutdown() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise `Stopped` in the block, so that jobs are cancelled and temporary files removed.

    Signals that are ignored (nohup) or have another handler stay as they are; in a thread nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    taken = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) == signal.SIG_DFL]

    def raise_once(number: int, frame: FrameType | None) -> None:
        for one in taken:  # a second signal, which often follows at once, must not interrupt the tidying up
            signal.signal(one, signal.SIG_IGN)
        raise_stopped(number, frame)

    for number in taken:
        signal.signal(number, raise_once)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
