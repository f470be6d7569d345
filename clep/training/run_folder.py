"""One run, one folder: claimed before anything is written into it, and locked for as long as the run lives."""

import json
import os
import shutil
import socket
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from clep.compute.locks import LockedError, file_lock
from clep.config.resolvers import shared_run_id
from clep.errors import InputError
from clep.files import write_json

LOCKED, OWNER = "run", ".run.json"  # the lock of "run" is the file .run.lock
FAILURE = "failed.json"  # why a run of a sweep failed
_OF_A_START = {OWNER, f".{LOCKED}.lock", "config.yaml", "parts.json"}
WAIT_S = 10.0  # loader processes of a killed run hold its lock until they notice, up to 5 seconds later
RANK_WAIT_S = 120.0
_TRAINING = "CLEP_TRAINING"

_held: dict[Path, ExitStack] = {}


@contextmanager
def locked_run_folder(folder: str | Path) -> Iterator[None]:
    """Hold the claim on a run's folder for the block; a claim that `ClaimRunFolder` made is taken over.

    Raises:
        InputError: see `claim`.
    """
    claim(folder)
    try:
        yield
    finally:
        lock = _held.pop(Path(folder).absolute(), None)
        if lock is not None:
            lock.close()


def claim(folder: str | Path, wait_s: float = WAIT_S) -> None:
    """Claim `folder` for this run until `locked_run_folder` or the process ends.

    Rank 0 locks the folder and records in it which training owns it; the other ranks wait until it names their
    training. A folder whose run ended before its metrics were written may be claimed again, e.g. by a requeued job.

    Args:
        folder: of the run; made where it is missing.
        wait_s: how long rank 0 waits for a lock that is held.

    Raises:
        InputError: another run is alive in the folder, or finished there; or rank 0 has not claimed it.
    """
    folder = Path(folder).absolute()
    if folder in _held:
        return
    if rank() > 0:
        _wait_for_rank_0(folder)
        return
    lock = ExitStack()
    try:
        lock.enter_context(file_lock(folder / LOCKED, wait_s=wait_s))
    except LockedError as error:
        raise InputError(
            f"{folder}: another run is using this folder ({_describe_owner(folder)}); wait until it has ended, or "
            f"start this one with another name (CLEP_RUN_ID=…)"
        ) from error
    if (folder / "metrics.json").exists():
        lock.close()
        raise InputError(f"{folder} holds a finished run; choose another folder (name=…, CLEP_RUN_ID=…)")
    _held[folder] = lock
    # Processes that the trainer starts for further devices inherit the variable.
    os.environ[_TRAINING] = _launcher() or uuid.uuid4().hex
    write_json(
        folder / OWNER, {"training": os.environ[_TRAINING], "host": socket.gethostname(), "process": os.getpid()}
    )


def is_alive(folder: Path) -> bool:
    """Return whether a run holds the lock of a folder now, this process's own runs included."""
    if not (folder / f".{LOCKED}.lock").exists():
        return False
    try:
        with file_lock(folder / LOCKED, wait_s=0.0):
            return False
    except InputError:
        return True


def remove_failed_start(folder: Path) -> None:
    """Delete the folder of a run that failed before it computed anything, and the folders above if they are empty then.

    A folder that holds anything but settings, logs and the claim is left.
    """
    if rank() > 0 or not folder.is_dir() or folder.resolve() == Path.cwd():
        return
    for path in folder.rglob("*"):
        of_a_start = path.name in _OF_A_START or path.suffix == ".log" or path.parent == folder / ".hydra"
        if not of_a_start and path != folder / ".hydra":
            return
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        for parent in list(folder.parents)[:2]:
            parent.rmdir()


def rank() -> int:
    """Return this process's rank as its launcher (torchrun, srun, the trainer) says; 0 where it trains alone."""
    environment = os.environ
    if environment.get("RANK"):
        return int(environment["RANK"])
    if int(environment.get("SLURM_NTASKS") or 1) > 1:
        return int(environment.get("SLURM_PROCID") or 0)
    return int(environment.get("NODE_RANK") or 0) or int(environment.get("LOCAL_RANK") or 0)


class ClaimRunFolder(Callback):
    """Hydra callback that claims the folder of a run, or of a sweep, before Hydra writes `.hydra/` and a log into it.

    A folder named by the time is always new: where another run has just made it, the next second's name is taken.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Claim `hydra.run.dir`."""
        self._claim(config, "run")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Claim `hydra.sweep.dir`; each run of the sweep locks its own folder in there."""
        self._claim(config, "sweep")

    def _claim(self, config: DictConfig, kind: str) -> None:
        section = config.hydra[kind]
        written: Any = OmegaConf.to_container(section, resolve=False)
        try:
            if rank() == 0 and "clep.run_id" in written["dir"] and shared_run_id() is None:
                while not _make_folder(Path(section.dir)):
                    time.sleep(0.1)
                    OmegaConf.clear_cache(config)  # reads the clock again
            claim(section.dir)
        except InputError as error:
            # Hydra turns exceptions of callbacks into warnings.
            sys.exit(f"error: {error}")


def _make_folder(folder: Path) -> bool:
    """Make a folder; return False where it was there already."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
    except FileExistsError:
        return False
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror or error}") from error
    return True


def _launcher() -> str | None:
    """Return an id that the ranks of one training by torchrun or srun share, and no other training has."""
    environment = os.environ
    if "TORCHELASTIC_RUN_ID" in environment:
        names = ["TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT"]
    elif int(environment.get("SLURM_NTASKS") or 1) > 1:
        names = ["SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT"]
    else:
        return None
    return "/".join(environment.get(name, "") for name in names)


def _wait_for_rank_0(folder: Path) -> None:
    training, deadline = _launcher() or os.environ.get(_TRAINING), time.monotonic() + RANK_WAIT_S
    while training is not None and _owner(folder).get("training") != training:
        if time.monotonic() > deadline:
            raise InputError(
                f"{folder}: rank 0 of this training has not claimed this folder ({_describe_owner(folder)}); give the "
                f"training another name (CLEP_RUN_ID=…, the same for all ranks)"
            )
        time.sleep(0.1)


def _owner(folder: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        found = json.loads((folder / OWNER).read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    return {}


def _describe_owner(folder: Path) -> str:
    owner = _owner(folder)
    return f"process {owner.get('process')} on {owner.get('host')}" if owner else "it recorded no process"
