"""The processes that train cells: started in sessions of their own, ended together, and why one of them failed."""

import contextlib
import fcntl
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from clep.compute.attempts import GRACE_S

logger = logging.getLogger(__name__)

_TRACEBACK = "Traceback (most recent call last):"
_LOGGED, _TOLD = "[ERROR] - ", "error: "


@contextlib.contextmanager
def held_by_runs(folder: Path) -> Iterator[int]:
    """Yield the descriptor of a lock for processes to inherit; wait for those that a killed command left in `folder`.

    The lock is free when the last process that inherited it is gone, however the command that started it ended.
    On a file system without locks nothing is known of such processes.
    """
    with (folder / ".runs.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("a run that a killed command left still trains in %s; waiting for it (or end it)", folder)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # no locks there, of which the lock of the whole ablation has warned
            pass
        yield file.fileno()


class Processes:
    """Processes that train cells; each has a session of its own, so that it is ended with all that it started.

    Args:
        held: descriptor of the lock that they hold, see `held_by_runs`.
        at_once: how many share the cores.
    """

    def __init__(self, held: int, at_once: int) -> None:
        self._held = held
        self._environment = _environment(at_once)
        self._running: set[subprocess.Popen[bytes]] = set()
        self._guard, self._closed = threading.Lock(), False

    def run(self, words: Sequence[str], log: Path) -> int:
        """Run a command, its output into `log`, and return its exit status, which is negative after a signal.

        Raises:
            KeyboardInterrupt: `close` has been called; nothing was started.
        """
        with log.open("wb") as output, self._guard:
            if self._closed:
                raise KeyboardInterrupt
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                pass_fds=[self._held],
                start_new_session=True,
            )
            self._running.add(process)
        try:
            return process.wait()
        finally:
            _kill(process)
            with self._guard:
                self._running.discard(process)

    def close(self) -> None:
        """Start no more; let those that run end, and after a few seconds, or a second Ctrl-C, kill what is left."""
        with self._guard:
            self._closed = True
            running = list(self._running)
        try:
            for process in running:
                process.terminate()
            deadline = time.monotonic() + GRACE_S
            for process in running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - time.monotonic()))
        finally:
            for process in running:
                _kill(process)


def why(status: int, log: Path) -> str:
    """Return in one line why a run ended with `status`, by the last error that it told, and where to read more."""
    if status < 0:
        name = signal.Signals(-status).name
        return f"killed by {name}{' (out of memory?)' if name == 'SIGKILL' else ''}; see {log}"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return f"{_last_error(lines) or f'exit status {status}'}; see {log}"


def _last_error(lines: Sequence[str]) -> str:
    """Return the first line of the last logged error or traceback's exception; without any, the last line.

    A line that ends with a colon, as in Hydra's "Error in call to target 'Trainer':", is followed by the next one.
    """
    reason, in_traceback = "", False
    for line in lines:
        if line.startswith(_TRACEBACK):
            in_traceback = True
        elif in_traceback and line and not line[0].isspace():
            reason, in_traceback = line, False
        elif _LOGGED in line:
            reason = line.split(_LOGGED, 1)[1]
        elif line.startswith(_TOLD):
            reason = line.removeprefix(_TOLD)
        elif reason.endswith(":") and line.strip() and not in_traceback:
            reason = f"{reason} {line.strip()}"
    return reason.strip() or next((line.strip() for line in reversed(lines) if line.strip()), "")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and what it started, as far as they still run."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _environment(at_once: int) -> dict[str, str]:
    """Share the cores, unless the user has said how many threads each takes, and let Hydra print whole tracebacks."""
    environment = os.environ | {"HYDRA_FULL_ERROR": "1"}
    if at_once > 1 and "OMP_NUM_THREADS" not in environment:
        environment["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // at_once))
    return environment
