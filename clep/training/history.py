"""The history of a run: its metrics at each validation, and which weights it ended with."""

import logging
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint
from pytorch_lightning.trainer.states import TrainerFn

from clep.metrics.history import HISTORY, Chosen, write_history

log = logging.getLogger(__name__)

MAX_ROWS = 2_000
"""Beyond so many validations every second one is dropped, so that checkpoints, which hold the history, stay small."""


class History(pl.Callback):
    """Keep the metrics of each validation while fitting, in checkpoints, in `history.json` and in the run's log.

    A run that is continued has the rows from before. Rows have `epoch` (from 1), `step` (optimizer steps) and metrics.

    Args:
        folder: of the run; None writes no file.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.path = None if folder is None else Path(folder) / HISTORY
        self.rows: list[dict[str, float | int]] = []

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the metrics of this validation."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._add(trainer, {key: float(value) for key, value in trainer.callback_metrics.items()})

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the training metrics of an epoch without a validation at its end."""
        logged = {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("train/")}
        if self.rows and self.rows[-1]["step"] == trainer.global_step:
            self.rows[-1].update(logged)
        else:
            self._add(trainer, logged)

    def _add(self, trainer: Any, metrics: dict[str, float]) -> None:
        if not trainer.is_global_zero:
            return
        where = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step}
        self.rows.append(where | metrics)
        if len(self.rows) > MAX_ROWS:
            self.rows = self.rows[1::2]
        listed = ", ".join(f"{name} {value:.5g}" for name, value in sorted(metrics.items()))
        _log_to_file(f"epoch {where['epoch']} of {trainer.max_epochs}, step {where['step']}: {listed}")
        self.write()

    def write(self, chosen: Chosen | None = None) -> None:
        """Write `history.json`: the rows, and which weights were chosen."""
        if self.path is not None:
            write_history(self.path, self.rows, chosen)

    def chosen(self, checkpoint: Checkpoint | None, best: bool, steps: int) -> Chosen:
        """Return which weights the run ended with.

        Args:
            checkpoint: the callback that chose them.
            best: they are its best ones; False: the last ones.
            steps: optimizer steps of the whole run.
        """
        last = [row for row in self.rows if row["step"] == steps]
        latest = Chosen(int(last[-1]["epoch"]) if last else None, steps)
        if not best or not isinstance(checkpoint, ModelCheckpoint):
            return latest
        monitor, score = checkpoint.monitor, checkpoint.best_model_score
        if monitor is None or score is None:
            return latest
        value = float(score)
        rows = [row for row in self.rows if row.get(monitor) is not None and abs(row[monitor] - value) < 1e-6]
        if not rows:
            return Chosen(None, steps, monitor, checkpoint.mode, value)
        return Chosen(int(rows[0]["epoch"]), int(rows[0]["step"]), monitor, checkpoint.mode, value)

    def state_dict(self) -> dict[str, Any]:
        """Return the rows, for a checkpoint."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the rows of the run that is continued; not of the best weights, which are loaded at the end."""
        if not self.rows:
            self.rows = [dict(row) for row in state_dict["rows"]]


def _log_to_file(message: str) -> None:
    """Log into the files of the root logger only: the progress bar shows the same on the terminal."""
    record = log.makeRecord(log.name, logging.INFO, __file__, 0, message, (), None)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)
