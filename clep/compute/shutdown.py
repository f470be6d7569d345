"""Being told to end: a signal as an exception, so that what is done is kept and what is half done removed."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

TIME_IS_OVER = signal.SIGUSR2
"""What Slurm and the process that waits for local workers send when a task has had its time."""


class Stopped(SystemExit):
    """This process is to end; no task takes that for a failure of its own.

    Uncaught, it ends the process with the exit status that shells give after this signal, without a traceback.

    Attributes:
        signal: its number.
        time_is_over: the task has had its time. Otherwise somebody wants the process gone: a preemption, a shutdown.
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

    A signal that is ignored (nohup) or handled by somebody else stays as it is, and so do all in a thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    taken = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) == signal.SIG_DFL]

    def raise_once(number: int, frame: FrameType | None) -> None:
        for one in taken:  # a second one, which often follows at once, must not cut the tidying up short
            signal.signal(one, signal.SIG_IGN)
        raise_stopped(number, frame)

    for number in taken:
        signal.signal(number, raise_once)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
