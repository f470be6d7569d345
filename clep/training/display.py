"""Terminal output of a run: progress bar and final table of metrics; and closing its loggers."""

from collections.abc import Iterable, Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar
from rich.console import Console
from rich.table import Table


def print_results(before: Mapping[str, float], after: Mapping[str, float], title: str) -> None:
    """Print a table of metrics before and after training, sorted by name; accuracies and mAP are in percent."""
    table = Table(title=title, title_justify="left")
    table.add_column("metric")
    table.add_column("before training", justify="right")
    table.add_column("after", justify="right")
    for name in sorted(set(before) | set(after)):
        table.add_row(name, _formatted(before.get(name)), _formatted(after.get(name)))
    Console().print(table)


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


class ProgressBar(TQDMProgressBar):
    """Lightning's progress bar without the logger's version, which is not informative here."""

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Return the values shown behind the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        return {name: value for name, value in metrics.items() if name != "v_num"}
