"""Checkpoints of a run: how they are written, which one a run continues from, and which one it ends with."""

import logging
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.io.checkpoint_io import CheckpointIO
from pytorch_lightning.callbacks import ModelCheckpoint

from clep.config.check import did_you_mean
from clep.config.saved import saved_settings
from clep.errors import InputError
from clep.files import temporaries_in
from clep.metrics.history import HISTORY, read_history
from clep.models.checkpoint_file import read_checkpoint, write_checkpoint
from clep.training.run_folder import is_alive

log = logging.getLogger(__name__)

_FOUND = "CLEP_CONTINUES"


class AtomicCheckpointIO(CheckpointIO):
    """Lightning plugin: checkpoints are complete or absent, carry a checksum, and are read as plain data only.

    Lightning's own writes into `$TMPDIR` and copies, so that a kill during the copy leaves a broken checkpoint where
    the previous one was.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint beside `path`, then rename it.

        Raises:
            InputError: the disk is full, or the folder cannot be written to.
        """
        write_checkpoint(path, checkpoint)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint onto the CPU.

        Raises:
            InputError: it is missing, damaged, or holds more than plain data.
        """
        return read_checkpoint(path)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)


class Checkpoint(ModelCheckpoint):
    """ModelCheckpoint that keeps the best weights of the run that this one continues, also where that was moved.

    Every run has its own folder. Lightning's callback, finding another folder than the one in the state, forgets the
    best checkpoint so far, and the first one of the continued run, however bad, becomes the best.
    """

    _continued: Path | None = None

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note which checkpoint the run continues from; called before `load_state_dict`."""
        self._continued = Path(trainer.ckpt_path) if trainer.ckpt_path else None

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the best checkpoint so far if it can be read; it is never deleted from its own folder.

        It is looked for beside the checkpoint that the run continues from, then where it was written.
        """
        path = Path(self._now(state_dict["best_model_path"]))
        if path.is_file() and _problem(path) is None:
            paths = {key: self._now(value) for key, value in state_dict.items() if key.endswith("model_path")}
            best = {self._now(path): score for path, score in state_dict["best_k_models"].items()}
            super().load_state_dict({**state_dict, **paths, "best_k_models": best, "dirpath": self.dirpath})

    def _now(self, written: str) -> str:
        """Return where a checkpoint of the continued run is now."""
        if not written or self._continued is None:
            return written
        beside = self._continued.with_name(Path(written).name)
        return str(beside) if beside.is_file() else written


def find_checkpoint(choice: str | None, runs: str | Path, own: str | Path | None = None) -> str | None:
    """Return the checkpoint to continue from: the newest that can be read.

    The processes that the trainer starts for further devices take what the first one found, which it leaves in the
    environment: they look later, when another run may have written a newer one.

    Args:
        choice: None; "last" for the latest run below `runs`; a run's folder; or a `.ckpt`. Whatever it is, a run that
            was interrupted (a requeued job) continues from its own checkpoints.
        runs: the folder that holds the runs of this experiment.
        own: the folder of this run.

    Raises:
        InputError: there is none, or none can be read; the message names the files.
    """
    if choice in (None, "last") and int(os.environ.get("LOCAL_RANK", 0)) > 0 and _FOUND in os.environ:
        return os.environ[_FOUND] or None
    found = _find(choice, Path(runs), Path(own) if own else None)
    os.environ[_FOUND] = found or ""
    if found:
        log.info("continuing from %s", found)
    return found


def check_unfinished(checkpoint: str | None, choice: str | None, trainer: Mapping[str, Any]) -> None:
    """Refuse to continue a finished run for no further step; `ckpt_path=FILE.ckpt` measures it again instead.

    Args:
        checkpoint: that the run continues from; None for a new run.
        choice: `ckpt_path` as typed.
        trainer: settings of the trainer of this run.

    Raises:
        InputError: names the run and how long it was trained.
    """
    if checkpoint is None or Path(checkpoint).name != "last.ckpt":
        return
    run = Path(checkpoint).parent.parent
    trained = _trained(run)
    if trained is None:
        return
    epochs, steps, whole_epochs = trained
    limits = {"max_steps": steps} | ({"max_epochs": epochs} if whole_epochs else {})
    reached = [(name, limit) for name, limit in limits.items() if -1 < _limit(trainer, name) <= limit]
    if not reached:
        return
    name, limit = reached[0]
    found = f"{run} is finished, so nothing is left to train: trainer.{name} above {limit}, which it had, continues it"
    if choice is not None and Path(choice).suffix == ".ckpt":
        log.info("%s; it is evaluated again", found)
        return
    raise finished_run(run, found, choice)


def finished_run(run: Path, found: str, choice: str | None) -> InputError:
    """Return the error for a run that has nothing left to train.

    Args:
        run: its folder.
        found: what says so, and what would continue it.
        choice: `ckpt_path` as typed.
    """
    new_run = "another CLEP_RUN_ID starts a new run" if choice is None else "without ckpt_path a new run starts"
    return InputError(
        f"ckpt_path={'null' if choice is None else choice}: {found}, `python -m clep.evaluate "
        f"ckpt={shlex.quote(str(run))}` measures it, and {new_run}"
    )


def _trained(run: Path) -> tuple[int, int, bool] | None:
    """Return epochs and steps of a finished run, and whether its last epoch is complete; None if that is unknown."""
    if not (run / "metrics.json").is_file():
        return None
    try:
        rows, _ = read_history(run / HISTORY)
        trainer = saved_settings(run)["trainer"]
        epochs, steps = int(rows[-1]["epoch"]), int(rows[-1]["step"])
        by_steps = -1 < _limit(trainer, "max_steps") <= steps
        return epochs, steps, not by_steps and trainer.get("max_time") is None
    except (InputError, KeyError, IndexError, TypeError, ValueError, AttributeError):
        return None


def _limit(trainer: Mapping[str, Any], name: str) -> int:
    """Return `max_epochs` or `max_steps` of a trainer; -1 where there is no limit."""
    value = trainer.get(name)
    return -1 if value is None else int(value)


def remove_leftovers(runs: str | Path, own: str | Path) -> None:
    """Delete temporary files that killed runs left below `runs`, except in the folders of runs that are alive.

    Args:
        runs: the folder that holds the runs of this experiment.
        own: the folder of this run, which is locked by it and cleaned too.
    """
    for folder in {Path(own), *(one for one in Path(runs).glob("*") if one.is_dir()), *Path(runs).glob("sweep-*/*")}:
        folders = (folder, *(folder / name for name in ("checkpoints", "model", "model_ema")))
        left = [path for one in folders for path in temporaries_in(one)]
        if left and (folder.absolute() == Path(own).absolute() or not is_alive(folder)):
            for path in left:
                path.unlink(missing_ok=True)
            log.info("removed %d temporary files that a killed run left in %s", len(left), folder)


def best_checkpoint(trainer: pl.Trainer) -> str | None:
    """Return the path of the best checkpoint of a run; None, with a warning, where it is missing or damaged."""
    path = getattr(trainer.checkpoint_callback, "best_model_path", "")
    if not path:
        return None
    problem = _problem(Path(path))
    if problem:
        log.warning("%s; the last weights are evaluated and saved instead", problem)
    return None if problem else path


def checked_monitors(callbacks: Sequence[pl.Callback], metrics: Mapping[str, float]) -> None:
    """Refuse a callback that monitors a metric which nothing logs, before hours are spent.

    Args:
        callbacks: those with a `monitor`, such as ModelCheckpoint, are checked.
        metrics: what a validation logged.

    Raises:
        InputError: names the metric and similar ones.
    """
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None)
        if monitor and not monitor.startswith("train/") and monitor not in metrics:
            raise InputError(
                f"{type(callback).__name__} monitors {monitor!r}, which no evaluator of this run measures. "
                f"{did_you_mean(monitor, metrics)} Set callbacks.checkpoint.monitor, choose an evaluator that measures "
                f"it, or keep the last weights: callbacks=last final_weights=last"
            )


def _find(choice: str | None, runs: Path, own: Path | None) -> str | None:
    own_checkpoints = [] if own is None else _of_run(own)
    if own is not None and own_checkpoints and (choice is None or not Path(choice).is_relative_to(own)):
        return _newest_readable(own_checkpoints, choice, f"delete {own} to start again")
    if choice is None:
        return None
    if choice == "last":
        all_runs = [run for pattern in ("*", "sweep-*/*") for run in runs.glob(pattern) if _of_run(run)]
        newest_first = sorted(all_runs, key=lambda run: _of_run(run)[0].stat().st_mtime, reverse=True)
        if not newest_first:
            raise InputError(
                f"ckpt_path=last: no run below {runs} has a checkpoint; leave ckpt_path out to start a new run"
            )
        candidates = [path for run in newest_first for path in _of_run(run)]
        return _newest_readable(candidates, choice, "leave ckpt_path out to start a new run")
    path = Path(choice)
    candidates = _of_run(path) if path.is_dir() else [path]
    if not candidates or not candidates[0].is_file():
        missing = path / "checkpoints" if path.is_dir() else path
        raise InputError(f"ckpt_path={choice}: {missing} has no checkpoint; give a run's folder, a .ckpt, or `last`")
    return _newest_readable(candidates, choice, "give another run's folder or .ckpt")


def _of_run(run: Path) -> list[Path]:
    """Return the checkpoints of a run: `last.ckpt`, then the others from new to old."""
    found = [path for path in run.glob("checkpoints/*.ckpt") if not path.name.startswith(".")]
    return sorted(found, key=lambda path: (path.name == "last.ckpt", path.stat().st_mtime), reverse=True)


def _newest_readable(paths: Sequence[Path], choice: str | None, remedy: str) -> str:
    """Return the first checkpoint that can be read, with a warning for each before it that cannot.

    Raises:
        InputError: none can be read.
    """
    problems = []
    for path in paths:
        problem = _problem(path)
        if problem is None:
            return str(path)
        problems.append(problem)
        log.warning("%s", problem)
    raise InputError(f"ckpt_path={choice}: no checkpoint can be read ({'; '.join(problems)}); {remedy}")


def _problem(path: Path) -> str | None:
    """Return why a checkpoint cannot be read; None if it can."""
    try:
        read_checkpoint(path)
    except InputError as error:
        return str(error)
    return None
