"""The table of an ablation: mean and standard deviation of each row, as JSON, Markdown, terminal table and figure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rich.table import Table

from clep.ablation.cells import FORMAT, VERSION, Outcome
from clep.ablation.grid import Grid
from clep.config.check import did_you_mean
from clep.config.saved import SEED
from clep.errors import InputError
from clep.files import atomic_path, write_json
from clep.machine import in_words, this_machine
from clep.metrics.names import by_importance

FIT = "seconds/fit"
_NOT_SHOWN = ("before/", "train/", "seconds/")
_FEWER = "(n of m): mean of n runs; the other runs of the row have no finite value of this metric."


@dataclass(frozen=True)
class Spread:
    """Values of several seeds, their mean and their sample standard deviation (None for a single value)."""

    each: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean."""
        return mean(self.each)

    @property
    def standard_deviation(self) -> float | None:
        """The sample standard deviation."""
        return stdev(self.each) if len(self.each) > 1 else None

    def __str__(self) -> str:
        digits = 1 if abs(self.mean) >= 1 else 3
        spread = "" if self.standard_deviation is None else f" ± {self.standard_deviation:.{digits}f}"
        return f"{self.mean:.{digits}f}{spread}"

    def to_dict(self) -> dict[str, Any]:
        """Return the values as plain JSON."""
        return {"mean": self.mean, "standard_deviation": self.standard_deviation, "each": list(self.each)}


@dataclass(frozen=True)
class Row:
    """A row of the table; a metric is absent where no run of the row has a finite value of it.

    Attributes:
        runs: how many succeeded.
        cells: how many there are.
    """

    name: str
    runs: int
    cells: int
    metrics: dict[str, Spread]
    fit_s: Spread | None


def chosen_metrics(outcomes: Sequence[Outcome], wanted: Sequence[str]) -> list[str]:
    """Return the names of the metrics to show, in the order of `wanted`.

    Where it is empty, all evaluators' metrics, those first that people compare.

    Raises:
        InputError: no run has a metric of that name.
    """
    names = sorted({name for one in outcomes for name in one.metrics or {}})
    if not wanted:
        return by_importance(name for name in names if not name.startswith(_NOT_SHOWN))
    chosen: dict[str, None] = {}
    for pattern in wanted:
        found = [name for name in names if name == pattern or fnmatchcase(name, pattern)]
        if names and not found:
            raise InputError(f"no run has a metric {pattern!r}. {did_you_mean(pattern, names)}")
        chosen |= dict.fromkeys(found)
    return list(chosen)


def rows_of(outcomes: Sequence[Outcome], metrics: Sequence[str]) -> list[Row]:
    """Group the cells that differ only in their seed into rows, in the order of their first cells."""
    by_row: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_row.setdefault(outcome.cell.row, []).append(outcome)
    rows = []
    for name, cells in by_row.items():
        measured = [one.metrics for one in cells if one.metrics is not None]

        def spread(metric: str, measured: list[dict[str, float | None]] = measured) -> Spread | None:
            values = tuple(float(value) for of in measured if (value := of.get(metric)) is not None)
            return Spread(values) if values else None

        found = {metric: value for metric in metrics if (value := spread(metric)) is not None}
        rows.append(Row(name, len(measured), len(cells), found, spread(FIT)))
    return rows


def as_data(grid: Grid, outcomes: Sequence[Outcome], metrics: Sequence[str], command: str) -> dict[str, Any]:
    """Return the ablation as JSON values: command, date, machines, every row, every cell.

    A cell's `machine` is an index into `machines`; one without a record counts as this machine.
    """
    of_cells = [one.machine or this_machine() for one in outcomes]
    machines = [machine for index, machine in enumerate(of_cells) if machine not in of_cells[:index]]
    return {
        "format": FORMAT,
        "version": VERSION,
        "command": command,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machines": machines,
        "settings": list(grid.fixed),
        "metrics": list(metrics),
        "rows": [
            {
                "row": row.name,
                "runs": row.runs,
                "metrics": {name: value.to_dict() for name, value in row.metrics.items()},
                "fit_seconds": None if row.fit_s is None else row.fit_s.to_dict(),
            }
            for row in rows_of(outcomes, metrics)
        ],
        "cells": [
            {
                "row": one.cell.row,
                "folder": one.cell.name,
                SEED: one.cell.seed,
                "overrides": list(one.cell.overrides[len(grid.fixed) :]),
                "machine": machines.index(machine),
                "seconds": one.seconds,
                "failed": one.failed,
                "metrics": one.metrics,
            }
            for one, machine in zip(outcomes, of_cells, strict=True)
        ],
    }


def markdown(data: dict[str, Any], rows: Sequence[Row], figure: str | None = None) -> str:
    """Return the table as Markdown, with the command, and the cells that failed."""
    metrics, seeds = data["metrics"], {cell[SEED] for cell in data["cells"]}
    names = [
        f"`{name}`" if name == short else f"{short.replace('_', ' ')}"
        for name, short in zip(metrics, short_names(metrics), strict=True)
    ]
    what = f"Mean ± sample standard deviation of {len(seeds)} seeds" if len(seeds) > 1 else "One run a row"
    lines = [
        "# Accuracy and training time",
        "",
        f"{what}; accuracies in percent; `fit` is the training time. Made by",
        "",
        f"    {data['command']}",
        "",
        f"on {_machines(data)}, {data['date'][:10]}; metrics: "
        f"{', '.join(f'`{name}`' for name in metrics)}; settings of all runs: `{' '.join(data['settings'])}`.",
        "",
        f"| | {' | '.join(names)} | fit, s |",
        f"|---|{'---|' * (len(metrics) + 1)}",
    ]
    lines += [f"| {' | '.join(cells)} |" for cells in _cells(rows, metrics)]
    if _any_partial(rows, metrics):
        lines += ["", _FEWER]
    failed = [cell for cell in data["cells"] if cell["failed"]]
    if failed:
        lines += ["", f"{len(failed)} of {len(data['cells'])} runs failed:", ""]
        lines += [f"- {cell['row']}, seed {cell[SEED]}: {cell['failed']}" for cell in failed]
    if figure:
        lines += ["", f"![each row's seeds, their mean and standard deviation]({figure})"]
    return "\n".join(lines) + "\n"


def in_terminal(rows: Sequence[Row], metrics: Sequence[str], title: str, width: int = 120) -> Table:
    """Return the table for the terminal, with the first metrics, as many as fit.

    Args:
        rows: of the table.
        metrics: the most important first.
        title: above the table; the file that has all metrics.
        width: columns of text.
    """
    shown = list(metrics)
    while len(shown) > 1 and _width(rows, shown) > width:
        shown.pop()
    notes = [f"{len(metrics) - len(shown)} further metrics: see {title}."] if len(shown) < len(metrics) else []
    notes += [_FEWER] if _any_partial(rows, shown) else []
    table = Table(title=title, title_justify="left", caption="\n".join(notes) or None, caption_justify="left")
    for index, column in enumerate(_header(shown)):
        table.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    for cells in _cells(rows, shown):
        table.add_row(*cells)
    return table


def _header(metrics: Sequence[str]) -> list[str]:
    return ["", *short_names(metrics), "fit, s"]


def _width(rows: Sequence[Row], metrics: Sequence[str]) -> int:
    """Return the width of the table: each column's longest entry, and three for its frame."""
    columns = zip(_header(metrics), *_cells(rows, metrics), strict=True)
    return sum(3 + max(len(entry) for entry in column) for column in columns) + 1


def short_names(metrics: Sequence[str]) -> list[str]:
    """Return the metrics' names without their common first and last parts: `choice/*/accuracy` becomes `*`."""
    parts = [name.split("/") for name in metrics]
    if len(parts) < 2:
        return list(metrics)
    while all(len(of) > 1 and of[0] == parts[0][0] for of in parts):
        parts = [of[1:] for of in parts]
    while all(len(of) > 1 and of[-1] == parts[0][-1] for of in parts):
        parts = [of[:-1] for of in parts]
    return ["/".join(of) for of in parts]


def write_table(path: Path, data: dict[str, Any], rows: Sequence[Row], figure: Path | None) -> None:
    """Write `<path>.json` and `<path>.md`, each atomically."""
    write_json(with_suffix(path, ".json"), data)
    with atomic_path(with_suffix(path, ".md")) as temporary:
        temporary.write_text(markdown(data, rows, figure.name if figure else None), encoding="utf-8")


def with_suffix(path: Path, suffix: str) -> Path:
    """Append a suffix to the path, even where it has one."""
    return path.with_name(path.name + suffix)


def _cells(rows: Sequence[Row], metrics: Sequence[str]) -> list[list[str]]:
    table = []
    for row in rows:
        name = row.name if row.runs == row.cells else f"{row.name} ({row.runs} of {row.cells} runs)"
        shown = [_entry(row.metrics.get(metric), row.runs) for metric in metrics]
        table.append([name, *shown, _entry(row.fit_s, row.runs)])
    return table


def _entry(value: Spread | None, runs: int) -> str:
    count = len(value.each) if value else 0
    return ("–" if value is None else str(value)) + ("" if count == runs else f" ({count} of {runs})")


def _any_partial(rows: Sequence[Row], metrics: Sequence[str]) -> bool:
    values = [(row.runs, value) for row in rows for value in (*(row.metrics.get(one) for one in metrics), row.fit_s)]
    return any(runs != (len(value.each) if value else 0) for runs, value in values)


def _machines(data: dict[str, Any]) -> str:
    """Describe the machine that the runs were timed on, or the number of runs on each of several."""
    machines = [in_words(machine) for machine in data["machines"]]
    runs = Counter(machines[cell["machine"]] for cell in data["cells"] if not cell["failed"])
    if len(runs) < 2:
        return next(iter(runs), machines[0])
    each = ", ".join(f"{count} runs on {machine}" for machine, count in runs.items())
    return f"different machines, whose times may not be comparable ({each})"


_MEAN, _SEED, _GUIDE = "#1f5a8a", "#8fb3d1", "#d9d9d9"


def draw(path: Path, rows: Sequence[Row], metrics: Sequence[str]) -> None:
    """Draw a PNG with one panel for each metric and one for the training time; rows share the vertical axis.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError(f"no figure {path}: it needs matplotlib; pip install 'clep[notebooks]'") from error
    panels = [
        (short.replace("_", " "), [row.metrics.get(name) for row in rows])
        for name, short in zip(metrics, short_names(metrics), strict=True)
    ]
    panels.append(("training time, s", [row.fit_s for row in rows]))
    longest = max(len(row.name) for row in rows)
    figure = Figure(figsize=(2.6 * len(panels) + 0.075 * longest + 0.3, 0.32 * len(rows) + 1.1), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (name, values) in zip(axes, panels, strict=True):
        for index, value in enumerate(values):
            if value is None:
                continue
            axis.scatter(value.each, [index] * len(value.each), s=14, color=_SEED, zorder=2)
            axis.errorbar(
                value.mean, index, xerr=value.standard_deviation, fmt="o", ms=5, color=_MEAN, capsize=3, zorder=3
            )
        axis.set_title(name, fontsize=9)
        axis.grid(axis="x", color=_GUIDE, linewidth=0.6)
        axis.tick_params(labelsize=8)
        for side in ("top", "right", "left"):
            axis.spines[side].set_visible(False)
        axis.tick_params(axis="y", length=0)
    axes[0].set_yticks(range(len(rows)), [row.name for row in rows])
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130, metadata={"Software": None})
