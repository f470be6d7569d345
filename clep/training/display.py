"""What a run ends with: a table of its metrics, and loggers that know it has ended."""

from collections.abc import Iterable, Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar
from rich.console import Console
from rich.table import Table


def print_results(before: Mapping[str, float], after: Mapping[str, float], title: str) -> None:
    """Print metrics before and after training, a line each, sorted by name; accuracies and mAP are in percent."""
    table = Table(title=title, title_justify="left")
    table.add_column("metric")
    table.add_column("before training", justify="right")
    table.add_column("after", justify="right")
    for name in sorted(set(before) | set(after)):
        table.add_row(name, _shown(before.get(name)), _shown(after.get(name)))
    Console().print(table)


def finish_loggers(loggers: Iterable[Any]) -> None:
    """Tell loggers that would follow the process to its end (W&B) that the run is over, as a sweep has others."""
    for logger in loggers:
        finish = getattr(logger.experiment, "finish", None)
        if callable(finish):
            finish()


def _shown(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.4g}"


class ProgressBar(TQDMProgressBar):
    """Steps done, steps left, loss and seconds; without the logger's version, which here says nothing."""

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Return what stands behind the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        return {name: value for name, value in metrics.items() if name != "v_num"}
