"""Graceful shutdown: signals raise an exception, so that finished work is kept and partial files are removed."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

TIME_LIMIT_SIGNAL = signal.SIGUSR2
"""Sent to a task that has reached its time limit, by Slurm or by the parent of local workers."""
GRACE_S = 5.0
"""Seconds that a process has after a signal to keep finished work and remove partial files."""


class Stopped(SystemExit):
    """Raised by a signal that asks this process to end; not a failure of the task.

    If uncaught, the process ends without a traceback, with a shell's exit status for this signal (128 + number).

    Attributes:
        signal: the signal's number.
        at_time_limit: whether the task has reached its time limit; False for a preemption, a shutdown or a user.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = number
        self.at_time_limit = number == TIME_LIMIT_SIGNAL


def raise_stopped(number: int, frame: FrameType | None) -> None:
    """Handle a signal by raising `Stopped`."""
    raise Stopped(number)


@contextmanager
def graceful_shutdown() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise `Stopped` in the block, so that jobs are cancelled and temporary files removed.

    Signals that are ignored (nohup) or have another handler are not changed. Outside the main thread it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    taken = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) == signal.SIG_DFL]

    def raise_once(number: int, frame: FrameType | None) -> None:
        for other in taken:  # a second signal, which often follows at once, must not interrupt the cleanup
            signal.signal(other, signal.SIG_IGN)
        raise_stopped(number, frame)

    for number in taken:
        signal.signal(number, raise_once)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
