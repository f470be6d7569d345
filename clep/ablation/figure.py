"""The plot of an ablation: for each metric, every row's seeds, their mean and their spread."""

from collections.abc import Sequence
from pathlib import Path

from clep.ablation.table import Row, short_names
from clep.errors import InputError
from clep.files import atomic_path

_MEAN, _SEED, _GUIDE = "#1f5a8a", "#8fb3d1", "#d9d9d9"


def draw(path: Path, rows: Sequence[Row], metrics: Sequence[str]) -> None:
    """Write a PNG with a panel a metric and one for the time of training; rows share the vertical axis.

    Raises:
        InputError: matplotlib is not there; the message says how to get it.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError(f"no picture {path}: it needs matplotlib; pip install 'clep[notebooks]'") from error
    panels = [
        (short.replace("_", " "), [row.metrics.get(name) for row in rows])
        for name, short in zip(metrics, short_names(metrics), strict=True)
    ]
    panels.append(("seconds of training", [row.fit_s for row in rows]))
    longest = max(len(row.name) for row in rows)
    figure = Figure(figsize=(2.6 * len(panels) + 0.075 * longest + 0.3, 0.32 * len(rows) + 1.1), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (name, values) in zip(axes, panels, strict=True):
        for place, value in enumerate(values):
            if value is None:
                continue
            axis.scatter(value.each, [place] * len(value.each), s=14, color=_SEED, zorder=2)
            axis.errorbar(
                value.mean, place, xerr=value.standard_deviation, fmt="o", ms=5, color=_MEAN, capsize=3, zorder=3
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
