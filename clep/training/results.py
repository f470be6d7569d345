"""What a run ends with: a table of its metrics, and loggers that know it has ended."""

from collections.abc import Iterable, Mapping
from typing import Any

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
