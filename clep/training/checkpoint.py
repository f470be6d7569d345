"""Checkpoints: which one a run continues from, and which are kept."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint

from clep.config.check import did_you_mean
from clep.errors import InputError

log = logging.getLogger(__name__)

_FOUND = "CLEP_CONTINUES"


def find_checkpoint(choice: str | None, runs: str | Path) -> str | None:
    """Return the checkpoint to continue from.

    The processes that the trainer starts for further devices take what the first one found, which it leaves in the
    environment: they look later, when another run may have written a newer one.

    Args:
        choice: None for none; "last" for the newest `last.ckpt` below `runs`; a run's folder; or a `.ckpt`.
        runs: the folder that holds the runs of this experiment.

    Raises:
        InputError: there is none; the message says where it was looked for.
    """
    if choice is None:
        return None
    if choice == "last" and int(os.environ.get("LOCAL_RANK", 0)) > 0 and _FOUND in os.environ:
        return os.environ[_FOUND]
    path = _newest(Path(runs)) if choice == "last" else Path(choice)
    if path.is_dir():
        path = path / "checkpoints" / "last.ckpt"
    if not path.is_file():
        raise InputError(f"ckpt_path={choice}: {path} does not exist; give a run's folder, a .ckpt, or `last`")
    log.info("continuing from %s", path)
    os.environ[_FOUND] = str(path)
    return str(path)


def _newest(runs: Path) -> Path:
    found = [*runs.glob("*/checkpoints/last.ckpt"), *runs.glob("sweep-*/*/checkpoints/last.ckpt")]
    if not found:
        raise InputError(
            f"ckpt_path=last: no run below {runs} has a checkpoints/last.ckpt; leave ckpt_path out to start anew"
        )
    return max(found, key=lambda path: path.stat().st_mtime)


def checked_monitors(callbacks: Sequence[pl.Callback], metrics: Mapping[str, float]) -> None:
    """Refuse a callback that waits for a metric which nothing logs, before hours are spent.

    Args:
        callbacks: those with a `monitor`, such as ModelCheckpoint, are looked at.
        metrics: what a validation logged.

    Raises:
        InputError: names the metric and near ones.
    """
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None)
        if monitor and not monitor.startswith("train/") and monitor not in metrics:
            raise InputError(
                f"{type(callback).__name__} waits for {monitor!r}, which no evaluator of this run measures. "
                f"{did_you_mean(monitor, metrics)} Set callbacks.checkpoint.monitor, choose an evaluator that measures "
                f"it, or keep the last weights: callbacks=last final_weights=last"
            )


class Checkpoint(ModelCheckpoint):
    """Keep the best weights of a run, those of the run that it continues among them.

    Every run has a folder of its own. Lightning's callback, finding another folder than the one in the state, forgets
    what was best before, and the first checkpoint of the continued run, however bad, becomes the best.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the best checkpoint so far, where it is still there; it is never deleted from its folder."""
        if Path(state_dict["best_model_path"]).is_file():
            super().load_state_dict({**state_dict, "dirpath": self.dirpath})
