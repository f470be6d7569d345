"""Run the cells of a grid, each in a process of its own, and continue where an earlier call stopped."""

import contextlib
import fcntl
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from clep.ablation.grid import Cell, Grid
from clep.compute.attempts import GRACE_S
from clep.errors import InputError
from clep.files import read_json, write_json
from clep.machine import this_machine

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


FORMAT, VERSION = "clep-ablation", 1
LOG = "log.txt"


@dataclass(frozen=True)
class Outcome:
    """What became of a cell: its metrics, or why there are none.

    Attributes:
        metrics: None stands for a number that is not finite.
        seconds: wall time of its process; None where another command ended before the process did.
        failed: why there are no metrics.
        reused: the metrics were there already.
        machine: where it ran, see `this_machine`; None if that was not written down.
    """

    cell: Cell
    metrics: dict[str, float | None] | None
    seconds: float | None
    failed: str | None = None
    reused: bool = False
    machine: dict[str, Any] | None = None


def claim(grid: Grid) -> None:
    """Mark `grid.out` as the folder of this ablation, or see that it is.

    More values, variants and seeds may be added to an ablation; its common settings and what is swept must stay.

    Raises:
        InputError: the folder holds another ablation, or other files.
    """
    path = grid.out / "grid.json"
    known = read_json(path) if path.exists() else None
    if known is None and grid.out.exists() and any(not one.name.startswith(".") for one in grid.out.iterdir()):
        raise InputError(f"{grid.out} holds files that no ablation wrote; choose another folder with out=DIR")
    variants: dict[str, Any] = {name: list(overrides) for name, overrides in grid.variants.items()}
    mine = {"format": FORMAT, "version": VERSION, "fixed": list(grid.fixed), "swept": list(grid.swept)}
    if known is not None:
        before = {key: known.get(key) for key in mine}
        changed = [f"{key}: {before[key]} there, {mine[key]} now" for key in mine if before[key] != mine[key]]
        others = known.get("variants", {})
        changed += [
            f"variant {name!r}: {others[name]} there, {overrides} now"
            for name, overrides in variants.items()
            if others.get(name, overrides) != overrides
        ]
        if bool(others) != bool(variants):
            changed.append("one has variants and one has none")
        if changed:
            raise InputError(
                f"{grid.out} holds another ablation ({'; '.join(changed)}); choose another folder with out=DIR, or "
                f"delete it"
            )
        variants = others | variants
    write_json(path, mine | {"variants": variants})


def run_cells(grid: Grid, told: Callable[[Outcome], None] = lambda outcome: None) -> list[Outcome]:
    """Train every cell that has no metrics.json yet and return what became of each, in the order of `grid.cells()`.

    A cell that fails does not stop the others. Any exception, Ctrl-C and `Stopped` included, ends the processes;
    finished cells stay. A run that a killed command left in the folder is waited for, and counted if it ends well.

    Args:
        grid: `grid.out` is claimed.
        told: called with each outcome as soon as it is known.
    """
    with held_by_runs(grid.out) as held:
        cells = grid.cells()
        found: dict[str, Outcome] = {}
        missing = []
        for cell in cells:
            outcome = _finished(cell, grid.out / cell.name)
            if outcome is None:
                missing.append(cell)
            else:
                found[cell.name] = outcome
                told(outcome)
        with contextlib.closing(_train(missing, grid, held)) as trained:
            for outcome in trained:
                found[outcome.cell.name] = outcome
                told(outcome)
    return [found[cell.name] for cell in cells]


def _finished(cell: Cell, folder: Path) -> Outcome | None:
    if not (folder / "metrics.json").is_file():
        return None
    described = read_json(folder / "cell.json")
    if described.get("overrides") != list(cell.overrides):
        raise InputError(
            f"{folder} holds a run with other settings ({' '.join(described.get('overrides', []))}); delete it, or "
            f"choose another folder with out=DIR"
        )
    metrics, seconds = read_json(folder / "metrics.json"), described.get("seconds")
    return Outcome(cell, metrics, seconds, reused=True, machine=described.get("machine"))


def _train(cells: Sequence[Cell], grid: Grid, held: int) -> Generator[Outcome, None, None]:
    with (
        ThreadPoolExecutor(grid.processes) as pool,
        contextlib.closing(Processes(held, grid.processes)) as processes,
    ):
        waiting = [pool.submit(_run, cell, grid.out / cell.name, processes) for cell in cells]
        try:
            for done in as_completed(waiting):
                yield done.result()
        finally:
            for one in waiting:
                one.cancel()


def _run(cell: Cell, folder: Path, processes: Processes) -> Outcome:
    if (folder / "cell.json").exists():
        shutil.rmtree(folder)  # what a run left that did not end
    machine = this_machine()
    described = {"overrides": list(cell.overrides), "seconds": None, "machine": machine}
    write_json(folder / "cell.json", described)
    started = perf_counter()
    status = processes.run(command(cell, folder), folder / LOG)
    seconds = perf_counter() - started
    if status == 0 and (folder / "metrics.json").is_file():
        write_json(folder / "cell.json", described | {"seconds": seconds})
        return Outcome(cell, read_json(folder / "metrics.json"), seconds, machine=machine)
    return Outcome(cell, None, seconds, why(status, folder / LOG), machine=machine)


def command(cell: Cell, folder: Path) -> list[str]:
    """Return the command that trains a cell in `folder`."""
    quoted = str(folder).replace("\\", "\\\\").replace("'", "\\'")
    return [sys.executable, "-m", "clep.train", *cell.overrides, f"hydra.run.dir='{quoted}'"]
