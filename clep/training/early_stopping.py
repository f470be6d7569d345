"""Runs that ended by early stopping and are continued: Lightning would train one epoch more before it stops again."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks.early_stopping import EarlyStoppingReason

from clep.models.checkpoint_file import read_checkpoint
from clep.training.checkpoint import finished_run

log = logging.getLogger(__name__)


class TrainNothing(pl.Callback):
    """Ends a training before its first step, so that it is measured and saved only."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell the trainer to stop; it resets this flag before it begins."""
        trainer.should_stop = True


def stopped_early(checkpoint: str | None, choice: str | None, callbacks: Mapping[str, Any]) -> bool:
    """Whether the run that wrote a checkpoint was stopped by an EarlyStopping that this run has as well.

    Args:
        checkpoint: that this run continues from; None for a new run.
        choice: `ckpt_path` as typed.
        callbacks: settings of the callbacks of this run, by name.

    Raises:
        InputError: it was, and that run has its final metrics, so that nothing is left to do; not where `choice` is a
            `.ckpt`, which is measured again.
    """
    stopping = {name: one for name, one in callbacks.items() if one and _class_name(one).endswith("EarlyStopping")}
    if checkpoint is None or not stopping:
        return False
    states = read_checkpoint(checkpoint).get("callbacks", {})
    stopped = [name for name, one in stopping.items() if _has_stopped(states.get(_state_key(one), {}))]
    if not stopped:
        return False
    run = Path(checkpoint).parent.parent
    if (run / "metrics.json").is_file() and (choice is None or Path(choice).suffix != ".ckpt"):
        found = (
            f"{run} is finished, so nothing is left to train: callbacks.{stopped[0]} stopped it early; "
            f"without callbacks.{stopped[0]} it continues"
        )
        raise finished_run(run, found, choice)
    log.info("callbacks.%s had stopped %s early: nothing is left to train; it is evaluated", stopped[0], run)
    return True


def _class_name(callback: Mapping[str, Any]) -> str:
    return str(callback.get("_target_", "")).rpartition(".")[2]


def _state_key(callback: Mapping[str, Any]) -> str:
    """Return the key under which Lightning saves the state of an EarlyStopping."""
    return _class_name(callback) + repr({"monitor": callback.get("monitor"), "mode": callback.get("mode", "min")})


def _has_stopped(state: Mapping[str, Any]) -> bool:
    """Whether a state is that of a training which has been stopped, and has not improved since."""
    reason = state.get("stopping_reason", EarlyStoppingReason.NOT_STOPPED.value)
    if reason == EarlyStoppingReason.PATIENCE_EXHAUSTED.value:
        return state["wait_count"] >= state["patience"]
    return reason != EarlyStoppingReason.NOT_STOPPED.value
