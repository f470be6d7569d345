"""The page of an ablation or of a sweep: one row for each setting, its seeds, its runs."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from clep.checksums import read_checked_json
from clep.config.saved import AS_CONFIGURED, saved_overrides, without_seed, words_that_differ
from clep.errors import InputError
from clep.files import read_json
from clep.metrics.names import by_importance, is_headline
from clep.view.report.charts import Chart, Series, dot_rows, line_chart
from clep.view.report.names import in_words
from clep.view.report.page import write_page
from clep.view.report.record import RunRecord, read_run

log = logging.getLogger(__name__)

COLUMNS, PANELS, LINES = 8, 6, 8


@dataclass(frozen=True)
class GridRow:
    """Runs that differ in their seed only.

    Attributes:
        name: the settings that set the row apart.
        runs: those that ended.
        failed: what is known about the others.
    """

    name: str
    runs: list[RunRecord] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def values(self, metric: str) -> list[float]:
        """Return the values of the runs that have a metric."""
        return [run.metrics[metric] for run in self.runs if metric in run.metrics]


def is_grid(folder: Path) -> bool:
    """Whether a folder holds the runs of an ablation or of a sweep."""
    return (folder / "grid.json").is_file() or (folder / "multirun.yaml").is_file()


def write_grid_page(folder: str | Path, path: str | Path | None = None, metrics: Sequence[str] = ()) -> Path:
    """Write the page of an ablation or a sweep into its folder.

    Args:
        folder: of `python -m clep.ablate`, or of `python train.py -m`.
        path: of the HTML file; None for `report.html` in the folder.
        metrics: to show first, in this order; default: those that people compare.

    Raises:
        InputError: no run in it ended, or a file is damaged.
    """
    folder = Path(folder)
    kind = "Ablation" if (folder / "grid.json").is_file() else "Sweep"
    rows = _rows(folder)
    runs = [run for row in rows for run in row.runs]
    if not runs:
        raise InputError(f"no run in {folder} has a metrics.json, so there is nothing to show")
    path = folder / "report.html" if path is None else Path(path)
    found = by_importance({name for run in runs for name in run.metrics})
    names = [*metrics, *(name for name in found if name not in metrics)]
    panels = [name for name in names if name in metrics or is_headline(name)] or names
    return write_page(
        path,
        "grid.html",
        title=folder.name,
        kind=kind,
        folder=folder,
        columns=[in_words(name) for name in panels[:COLUMNS]],
        rows=[_table_row(row, panels[:COLUMNS], path.parent) for row in rows],
        panels=[
            dot_rows(in_words(name), [(row.name, row.values(name)) for row in rows])
            for name in panels[:PANELS]
            if any(row.values(name) for row in rows)
        ],
        curves=_curves(rows, panels),
        all_metrics=[
            (name, [_spread(row.values(name)) for row in rows])
            for name in names
            if any(row.values(name) for row in rows)
        ],
        failed=[(row.name, reason) for row in rows for reason in row.failed],
        seeds=max(len(row.runs) for row in rows),
    )


def try_grid_page(folder: str | Path, metrics: Sequence[str] = ()) -> None:
    """Write the page of an ablation or a sweep. Whatever goes wrong is a warning: its runs have ended."""
    try:
        log.info("report: %s", write_grid_page(folder, metrics=metrics))
    except Exception as error:
        log.warning("%s has no report: %s: %s", folder, type(error).__name__, error)


def _rows(folder: Path) -> list[GridRow]:
    rows: dict[str, GridRow] = {}
    subs = sorted((one for one in folder.iterdir() if one.is_dir()), key=lambda one: (len(one.name), one.name))
    typed = {sub: found for sub in subs if (found := _overrides(sub)) is not None}
    named = _names_of_rows(folder)
    for sub, own in words_that_differ(typed).items():
        name = named.get(sub.name) or ", ".join(without_seed(own)) or AS_CONFIGURED
        row = rows.setdefault(name, GridRow(name))
        try:
            row.runs.append(read_run(sub))
        except InputError as error:
            row.failed.append(str(error))
    return list(rows.values())


def _overrides(run: Path) -> list[str] | None:
    """Return what was typed for a run; None for a folder that is not a run's."""
    if (run / "cell.json").is_file():
        return [str(word) for word in read_checked_json(run / "cell.json").get("overrides", [])]
    return saved_overrides(run)


def _names_of_rows(folder: Path) -> dict[str, str]:
    """Return the row of each cell's folder, if the ablation's table lists it."""
    table = folder / "table.json"
    if not table.is_file():
        return {}
    content = read_json(table)
    cells = content.get("cells", []) if isinstance(content, Mapping) else []
    return {str(cell["folder"]): str(cell["row"]) for cell in cells if isinstance(cell, Mapping) and "folder" in cell}


def _table_row(row: GridRow, metrics: Sequence[str], base: Path) -> dict[str, Any]:
    links = [
        (run.folder.name, os.path.relpath(run.folder / "report.html", base))
        for run in row.runs
        if (run.folder / "report.html").is_file()
    ]
    return {"name": row.name, "cells": [_spread(row.values(name)) for name in metrics], "links": links}


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "–"
    digits = 1 if abs(mean(values)) >= 1 else 3
    return f"{mean(values):.{digits}f}" + (f" ± {stdev(values):.{digits}f}" if len(values) > 1 else "")


def _curves(rows: Sequence[GridRow], metrics: Sequence[str]) -> list[Chart]:
    """Draw the mean over seeds of each row's curve, at the steps that all its runs have."""
    charts = []
    for name in ["train/loss", *metrics[: PANELS - 1]]:
        series, colours = [], []
        for index, row in enumerate(rows[:LINES]):
            of_runs = [{r["step"]: r[name] for r in run.history if r.get(name) is not None} for run in row.runs]
            steps = sorted(set.intersection(*(set(one) for one in of_runs))) if of_runs else []
            if len(steps) > 1:
                points = [(float(step), float(np.mean([one[step] for one in of_runs]))) for step in steps]
                series.append(Series(row.name, points))
                colours.append(index)
        if series:
            note = f"The first {LINES} of {len(rows)} rows." if len(rows) > LINES else ""
            charts.append(line_chart(in_words(name), series, "steps", note=note, colours=colours))
    return charts
