"""The page that compares runs, each with the first one."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from clep.evaluation.details import Classes
from clep.metrics.names import by_importance, higher_is_better, is_headline
from clep.view.report.charts import gain_chart
from clep.view.report.page import write_page
from clep.view.report.record import RunRecord, compared_settings
from clep.view.report.run_page import curves
from clep.view.report.statistics import LEVEL, difference

EXTREMES = 10


def write_comparison(runs: Sequence[RunRecord], path: str | Path) -> Path:
    """Write the page that compares runs with the first of them.

    Args:
        runs: at least two.
        path: of the HTML file.

    Raises:
        InputError: the folder cannot be written to.
    """
    first, others = runs[0], runs[1:]
    names = by_importance(set.intersection(*(set(run.metrics) for run in runs)))
    return write_page(
        path,
        "compare.html",
        title=f"{others[0].name if len(others) == 1 else f'{len(others)} runs'} compared with {first.name}",
        runs=runs,
        metrics=[_metric_row(first, others, name) for name in names],
        curves=curves(runs),
        classes=[section for run in others for section in class_changes(first, run)],
        settings=different_settings(runs),
        level=LEVEL,
    )


def class_changes(one: RunRecord, other: RunRecord) -> list[dict[str, Any]]:
    """Return, for each evaluator with the same classes in both runs, the classes that gained and lost most."""
    sections = []
    for name, before in one.classes.items():
        after = other.classes.get(name)
        if after is not None and after.names == before.names:
            sections.append(_changes(before, after, one.name, other.name))
    return sections


def different_settings(runs: Sequence[RunRecord]) -> list[tuple[str, list[str]]]:
    """Return (key, value of each run) of the settings in which the runs differ."""
    of_runs = [compared_settings(run.settings) for run in runs]
    keys = sorted({key for settings in of_runs for key in settings})
    table = [(key, [str(settings.get(key, "–")) for settings in of_runs]) for key in keys]
    return [(key, values) for key, values in table if any(a != b for a, b in pairwise(values))]


def _metric_row(first: RunRecord, others: Sequence[RunRecord], name: str) -> dict[str, Any]:
    cells = []
    for run in others:
        value = run.metrics[name] - first.metrics[name]
        found = difference(first, run, name)
        better = (value > 0) == higher_is_better(name)
        cells.append(
            {
                "value": run.metrics[name],
                "difference": value,
                "interval": found[0] if found else None,
                "queries": found[1] if found else 0,
                "verdict": ("good" if better else "bad") if found and found[0].excludes_zero else "",
            }
        )
    return {"name": name, "headline": is_headline(name), "first": first.metrics[name], "others": cells}


def _changes(before: Classes, after: Classes, one: str, other: str) -> dict[str, Any]:
    both = np.flatnonzero(np.isfinite(before.value) & np.isfinite(after.value))
    change = after.value - before.value
    order = sorted(both.tolist(), key=lambda index: -change[index])
    rows = [(before.names[i], float(before.value[i]), float(after.value[i]), float(change[i])) for i in order]
    names = [before.names[index] for index in both.tolist()]
    title = "Accuracy of each class, %" if before.measure == "accuracy" else "Average precision of each class, %"
    return {
        "name": before.name,
        "other": other,
        "chart": gain_chart(title, names, before.value[both], after.value[both], (one, other)),
        "wins": [row for row in rows if row[3] > 0][:EXTREMES],
        "losses": [row for row in rows[::-1] if row[3] < 0][:EXTREMES],
    }
