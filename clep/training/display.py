"""Terminal output of a run: progress bar and final table of metrics; and closing its loggers."""

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from rich.console import Console
from rich.table import Table

from clep.metrics.names import NO_RESULTS, by_importance
from clep.training.run_folder import rank


def print_results(
    before: Mapping[str, float], after: Mapping[str, float], title: str, caption: str | None = None
) -> None:
    """Print a table of metrics, the ones that people compare first; accuracies and mAP are in percent.

    Args:
        before: metrics from before training; without any there is no column of them.
        after: metrics of the trained model.
        title, caption: above and below the table.
    """
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    table.add_column("metric")
    if before:
        table.add_column("before training", justify="right")
    table.add_column("after" if before else "value", justify="right")
    for name in by_importance(set(before) | set(after)):
        table.add_row(name, *([_formatted(before.get(name))] if before else []), _formatted(after.get(name)))
    Console().print(table)


def log_final_metrics(loggers: Iterable[Any], settings: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
    """Log the settings as hyperparameters, and the metrics of the final weights under `final/`, apart from the curves.

    Args:
        loggers: of Lightning.
        settings: of the run, nested.
        metrics: of the weights that the run ended with, which may be those of an earlier step.
    """
    final = {f"final/{name}": value for name, value in metrics.items() if not name.startswith(NO_RESULTS)}
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(dict(settings), final)
        else:
            logger.log_hyperparams(dict(settings))
            summary = getattr(logger.experiment, "summary", None)  # of W&B
            if summary is not None:
                summary.update(final)
        logger.save()


def finish_loggers(loggers: Iterable[Any]) -> None:
    """Close loggers that would otherwise stay open until the process ends (W&B): a sweep has further runs."""
    for logger in loggers:
        finish = getattr(logger.experiment, "finish", None)
        if callable(finish):
            finish()


def _formatted(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.4g}"


class CurveLogger(CSVLogger):
    """Lightning's CSV logger; the curve of an interrupted run in the same folder is kept as `metrics-<n>.csv`."""

    @property
    def experiment(self) -> Any:
        """The writer. Lightning's deletes the file that it finds, so the file is renamed first."""
        found = Path(self.log_dir) / "metrics.csv"
        if self._experiment is None and rank() == 0 and found.is_file():
            count = len(list(found.parent.glob("metrics-*.csv")))
            found.replace(found.with_name(f"metrics-{count + 1}.csv"))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Experiment logs directory")  # it holds renamed files
            return super().experiment


class ProgressBar(TQDMProgressBar):
    """Lightning's progress bar without the logger's version, which is not informative here."""

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Return the values shown behind the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        return {name: value for name, value in metrics.items() if name != "v_num"}
