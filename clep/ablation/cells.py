"""Train the cells of a grid, each in its own process, and continue where an earlier call stopped."""

import contextlib
import fcntl
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from clep.ablation.grid import Cell, Grid
from clep.checksums import read_checked_json, write_checked_json
from clep.compute import Local
from clep.compute.attempts import describe_exit
from clep.config.overrides import override
from clep.errors import InputError
from clep.files import read_json
from clep.machine import this_machine

logger = logging.getLogger(__name__)

FORMAT, VERSION = "clep-ablation", 1
LOG = "log.txt"
TERMINATION_S = 3.0
"""Seconds that a training may take to end after SIGTERM; less than a worker of `Local` has for it."""


@dataclass(frozen=True)
class Outcome:
    """The metrics of a cell, or why there are none.

    Attributes:
        metrics: None stands for a value that is not finite.
        seconds: wall time of its process; None where it is unknown, since the command ended before the process did.
        failed: why there are no metrics.
        reused: an earlier command had trained it.
        machine: where it was trained, see `this_machine`; None if that was not recorded.
    """

    cell: Cell
    metrics: dict[str, float | None] | None
    seconds: float | None
    failed: str | None = None
    reused: bool = False
    machine: dict[str, Any] | None = None


def claim(grid: Grid) -> None:
    """Record in `grid.out` which ablation it belongs to, or check that it belongs to this one.

    Values, variants and seeds may be added to an ablation; its common settings and the swept keys are fixed.

    Raises:
        InputError: the folder holds another ablation, or other files.
    """
    path = grid.out / "grid.json"
    known = read_checked_json(path, "choose another folder with out=DIR") if path.exists() else None
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
    write_checked_json(path, mine | {"variants": variants})


def run_cells(grid: Grid, report: Callable[[Outcome], None] = lambda outcome: None) -> list[Outcome]:
    """Train every cell that has no metrics.json yet and return the outcomes in the order of `grid.cells()`.

    A cell that fails does not stop the others; its reason is logged. Any exception, Ctrl-C and `Stopped` included, ends
    the processes; finished cells stay. A training that a killed command left in the folder is waited for, and counts
    if it succeeds.

    Args:
        grid: `grid.out` is claimed.
        report: called with the outcome of each cell that has metrics, as soon as it is known.
    """
    cells = grid.cells()
    wait_for_trainings(grid.out)
    found = {cell.name: outcome for cell in cells if (outcome := _finished(cell, grid.out / cell.name)) is not None}
    for outcome in found.values():
        report(outcome)
    machine = this_machine()
    missing = {cell.title: cell for cell in cells if cell.name not in found}
    trainings = {
        title: Training(
            tuple(command(cell, grid.out / cell.name, grid.config_dir)),
            grid.out / cell.name,
            {"overrides": list(cell.overrides), "seconds": None, "machine": machine},
        )
        for title, cell in missing.items()
    }

    def report_finished() -> None:
        for cell in missing.values():
            folder = grid.out / cell.name
            if cell.name not in found and _seconds(folder) and (outcome := _finished(cell, folder)) is not None:
                found[cell.name] = replace(outcome, reused=False)
                report(found[cell.name])

    local = Local(processes=grid.processes, threads=_threads(grid.processes), retries=0)
    failures = local.run(train, trainings, grid.out / ".compute", report_finished)
    for title, cell in missing.items():
        if cell.name not in found:
            seconds = _seconds(grid.out / cell.name)
            found[cell.name] = Outcome(cell, None, seconds, failures.get(title, "it left no metrics"), machine=machine)
    return [found[cell.name] for cell in cells]


def command(cell: Cell, folder: Path, config_dir: str | None = None) -> list[str]:
    """Return the command that trains a cell in `folder`."""
    own = [] if config_dir is None else ["--config-dir", str(Path(config_dir).resolve())]
    return [sys.executable, "-m", "clep.train", *own, *cell.overrides, override("hydra.run.dir", str(folder))]


def wait_for_trainings(folder: Path) -> None:
    """Wait until no training that a killed command left still runs in `folder`.

    Each training inherits a shared lock (`file_lock` has none to inherit). It is free when the last process that
    inherited it is gone, however the command that started it ended. On a file system without locks nothing is known of
    such processes.
    """
    with (folder / ".runs.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("a training of a killed command still runs in %s; waiting for it to end", folder)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # no locks there; the ablation's own lock has logged a warning
            pass


@contextlib.contextmanager
def _lock_to_inherit(folder: Path) -> Iterator[int]:
    with (folder / ".runs.lock").open("a") as file:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_SH)
        yield file.fileno()


@dataclass(frozen=True)
class Training:
    """A task of `compute.Local`: the command that trains a cell, its folder, and what cell.json records."""

    command: tuple[str, ...]
    folder: Path
    record: dict[str, Any]


def train(training: Training) -> None:
    """Train a cell in its own process, and record the wall time.

    Raises:
        InputError: the process failed; the message gives the last error in its log, and the log's path.
    """
    folder, log = training.folder, training.folder / LOG
    if (folder / "cell.json").exists():
        shutil.rmtree(folder)  # of a training that did not end
    write_checked_json(folder / "cell.json", training.record)
    started = perf_counter()
    with _lock_to_inherit(folder.parent) as lock:
        status = _run(training.command, log, lock)
    failed = None
    if status != 0:
        failed = failure_reason(status, log)
    elif not (folder / "metrics.json").is_file():
        failed = f"it wrote no metrics; see {log}"
    write_checked_json(folder / "cell.json", training.record | {"seconds": perf_counter() - started, "failed": failed})
    if failed is not None:
        raise InputError(failed)


def _run(command: Sequence[str], log: Path, lock: int) -> int:
    """Run a command, its output into `log`; return its exit status, which is negative after a signal.

    It gets its own session, so that Ctrl-C reaches only this process, and its children can be ended with it.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"HYDRA_FULL_ERROR": "1"},  # full tracebacks
            pass_fds=[lock],
            start_new_session=True,
        )
    try:
        return process.wait()
    finally:
        try:
            if process.poll() is None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(TERMINATION_S)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _threads(processes: int) -> int | None:
    """Return the threads that the user set for each process; None shares the cores out evenly."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return int(threads) if processes > 1 and threads.isdecimal() and int(threads) > 0 else None


def _finished(cell: Cell, folder: Path) -> Outcome | None:
    """Return the outcome of a cell that has metrics.

    Raises:
        InputError: its folder holds a run with other settings.
    """
    if not (folder / "metrics.json").is_file():
        return None
    record = read_checked_json(folder / "cell.json", "delete the folder to train it again")
    if record.get("overrides") != list(cell.overrides):
        raise InputError(
            f"{folder} holds a run with other settings ({' '.join(record.get('overrides', []))}); delete it, or "
            f"choose another folder with out=DIR"
        )
    if record.get("failed") is not None:
        return None
    metrics, seconds = read_json(folder / "metrics.json"), record.get("seconds")
    return Outcome(cell, metrics, seconds, reused=True, machine=record.get("machine"))


def _seconds(folder: Path) -> float | None:
    with contextlib.suppress(InputError):
        return read_checked_json(folder / "cell.json").get("seconds")
    return None


_TRACEBACK = "Traceback (most recent call last):"
_LOGGED_ERROR, _PRINTED_ERROR = "[ERROR] - ", "error: "


def failure_reason(status: int, log: Path) -> str:
    """Return in one line why a run ended with `status`: the last error in its log, and the log's path."""
    reason = describe_exit(status)
    if status >= 0:
        reason = _last_error(log.read_text(encoding="utf-8", errors="replace").splitlines()) or reason
    return f"{reason}; see {log}"


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
        elif _LOGGED_ERROR in line:
            reason = line.split(_LOGGED_ERROR, 1)[1]
        elif line.startswith(_PRINTED_ERROR):
            reason = line.removeprefix(_PRINTED_ERROR)
        elif reason.endswith(":") and line.strip() and not in_traceback:
            reason = f"{reason} {line.strip()}"
    return reason.strip() or next((line.strip() for line in reversed(lines) if line.strip()), "")
