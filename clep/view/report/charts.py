"""Charts as SVG that follows the page's colours, light or dark: no library, no script.

All charts are 420 units wide, so that their text is readable in a column of a wide page and on a phone. Each has a
sentence for screen readers and, where it helps, its values as a table.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from markupsafe import Markup, escape

WIDTH, HEIGHT = 420, 250
LEFT, RIGHT, TOP, BOTTOM = 44, 18, 18, 36
DOT_ROW = 32  # a name, and below it its dots
COLOURS = 9
"""Number of the page's colours `c0` to `c8`; the last one is grey."""


Real = float | int


@dataclass(frozen=True)
class Chart:
    """A drawing and what goes with it.

    Attributes:
        title: shown above it.
        svg: the drawing.
        note: shown below it.
        legend: (colour, label) of its series, where there are several.
        header, rows: its values as a table.
    """

    title: str
    svg: Markup
    note: str = ""
    legend: list[tuple[int, str]] = field(default_factory=list)
    header: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)


class Series(NamedTuple):
    """A line of a chart."""

    label: str
    points: Sequence[tuple[Real, Real]]


class Scale:
    """Linear or logarithmic map from values to positions.

    Args:
        low, high: values at the ends; equal ones are moved apart.
        start, end: positions of the ends.
        log: logarithmic; `low` must be positive.
    """

    def __init__(self, low: Real, high: Real, start: Real, end: Real, log: bool = False) -> None:
        self.log = log
        if high <= low:
            low, high = (low / 2, low * 2) if log else (low - 0.5, low + 0.5)
        self.low, self.high, self.start, self.end = low, high, start, end

    def __call__(self, value: Real) -> Real:
        """Return the position of a value; one beyond an end is drawn at the end."""
        low, high, value = (math.log(x) if self.log else x for x in (self.low, self.high, max(value, self.low)))
        return round(self.start + (self.end - self.start) * (min(value, high) - low) / (high - low), 1)

    def ticks(self) -> list[Real]:
        """Return round values between the ends."""
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            return [10.0**power for power in powers if self.low <= 10.0**power <= self.high]
        step = round_step((self.high - self.low) / 4)
        first = math.ceil(self.low / step - 1e-9)
        return [index * step for index in range(first, math.floor(self.high / step + 1e-9) + 1)]


def round_step(rough: Real) -> Real:
    """Return the nearest of 1, 2, 5 times a power of ten that is not below `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


def number(value: Real | None) -> str:
    """Format a value with about three digits."""
    if value is None or math.isnan(value):
        return "–"
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def line_chart(
    title: str,
    series: Sequence[Series],
    x_label: str,
    mark: tuple[Real, str] | None = None,
    log_x: bool = False,
    percent: bool = False,
    note: str = "",
    colours: Sequence[int] | None = None,
) -> Chart:
    """Draw lines.

    Args:
        title: of the chart.
        series: at least one with a point.
        x_label: of the horizontal axis.
        mark: a vertical line at a value, and its label.
        log_x: logarithmic horizontal axis.
        percent: the vertical axis is 0 to 100.
        note: below the chart.
        colours: of the series; default: the first ones.
    """
    colours = list(range(len(series))) if colours is None else list(colours)
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points]
    low, high = (0.0, 100.0) if percent else _padded(min(ys), max(ys))
    x = Scale(min(xs), max(xs), LEFT, WIDTH - RIGHT, log_x)
    y = Scale(low, high, HEIGHT - BOTTOM, TOP)
    parts = [_axes(x, y, x_label)]
    if mark is not None:
        at = x(mark[0])
        side = 'text-anchor="end"' if at > WIDTH / 2 else ""
        parts.append(f'<line class="mark" x1="{at}" x2="{at}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text x="{at}" y="{TOP - 6}" {side}>{escape(mark[1])}</text>')
    for one, colour in zip(series, colours, strict=True):
        positions = [(x(a), y(b)) for a, b in one.points]
        path = " ".join(f"{a},{b}" for a, b in positions)
        parts.append(f'<polyline class="line s{colour % COLOURS}" points="{path}"/>')
        if len(positions) <= 40:
            for (a, b), (value_x, value_y) in zip(positions, one.points, strict=True):
                tip = escape(f"{one.label}: {number(value_y)} at {number(value_x)}")
                parts.append(
                    f'<circle class="dot f{colour % COLOURS}" cx="{a}" cy="{b}" r="2.5"><title>{tip}</title></circle>'
                )
    ends = ", ".join(
        f"{one.label} from {number(one.points[0][1])} to {number(one.points[-1][1])}" for one in series if one.points
    )
    legend = [(c % COLOURS, one.label) for one, c in zip(series, colours, strict=True)] if len(series) > 1 else []
    rows = [[one.label, number(a), number(b)] for one in series for a, b in thinned(one.points, 40)]
    return Chart(title, _svg(f"{title}: {ends}", parts), note, legend, ["", x_label, title], rows)


def histogram(title: str, series: Sequence[tuple[str, np.ndarray]], x_label: str, note: str = "") -> Chart:
    """Draw the distributions of several samples, each as its share in equal bins."""
    everything = np.concatenate([values for _, values in series])
    edges = np.linspace(float(everything.min()), float(everything.max()) + 1e-6, 41)
    shares = [100 * np.histogram(values, edges)[0] / max(1, len(values)) for _, values in series]
    x = Scale(edges[0], edges[-1], LEFT, WIDTH - RIGHT)
    y = Scale(0, max(float(share.max()) for share in shares), HEIGHT - BOTTOM, TOP)
    parts = [_axes(x, y, x_label)]
    for index, share in enumerate(shares):
        steps = [(x(edges[0]), y(0))]
        for bin_index, value in enumerate(share):
            steps += [(x(edges[bin_index]), y(value)), (x(edges[bin_index + 1]), y(value))]
        steps.append((x(edges[-1]), y(0)))
        path = " ".join(f"{a},{b}" for a, b in steps)
        parts.append(f'<polygon class="area f{index} s{index}" points="{path}"/>')
    means = [(name, float(values.mean()), float(values.std())) for name, values in series]
    said = ", ".join(f"{name}: mean {mean:.2f}, standard deviation {std:.2f}" for name, mean, std in means)
    rows = [[name, f"{mean:.3f}", f"{std:.3f}"] for name, mean, std in means]
    legend = [(index, name) for index, (name, _) in enumerate(series)]
    return Chart(title, _svg(f"{title}. {said}", parts), note, legend, ["", "mean", "standard deviation"], rows)


def skyline(title: str, names: Sequence[str], values: Sequence[Real], note: str = "") -> Chart:
    """Draw one bar for each value, from the highest to the lowest, on an axis from 0 to 100."""
    order = sorted(range(len(values)), key=lambda index: -values[index])
    x = Scale(0, len(values), LEFT, WIDTH - RIGHT)
    y = Scale(0, 100, HEIGHT - BOTTOM, TOP)
    parts = [_axes(x, y, f"{len(values)} classes, best first", x_ticks=False)]
    width = max(0.4, (WIDTH - LEFT - RIGHT) / len(values) * (0.8 if len(values) < 120 else 1.0))
    for at, index in enumerate(order):
        top = y(values[index])
        tip = escape(f"{names[index]}: {values[index]:.1f} %")
        height = max(0.6, HEIGHT - BOTTOM - top)
        shape = f'x="{x(at)}" width="{width:.2f}" y="{top}" height="{height:.1f}"'
        parts.append(f'<rect class="f0" {shape}><title>{tip}</title></rect>')
    mean = float(np.mean(values))
    parts.append(f'<line class="mark" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(mean)}" y2="{y(mean)}"/>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{y(mean) - 4}" text-anchor="end">mean {mean:.1f}</text>')
    best, worst = order[0], order[-1]
    said = f"{title}: mean {mean:.1f}, best {names[best]} {values[best]:.1f}, worst {names[worst]} {values[worst]:.1f}"
    return Chart(title, _svg(said, parts), note)


def scatter(
    title: str,
    points: np.ndarray,
    groups: Sequence[int],
    labels: Sequence[str],
    tips: Sequence[str],
    note: str = "",
    opposite: np.ndarray | None = None,
) -> Chart:
    """Draw points in two dimensions without axes.

    Args:
        title: of the chart.
        points: `[n, 2]`.
        groups: index into `labels` of each point; the last label is drawn in grey, first.
        labels: of the groups.
        tips: of each point, shown on hovering.
        note: below the chart.
        opposite: `[m, 2]` further points, drawn as small hollow squares.
    """
    side = WIDTH - 12
    both = points if opposite is None else np.concatenate([points, opposite])
    low, high = both.min(0), both.max(0)
    placed = 6 + (points - low) / np.maximum(high - low, 1e-9) * side
    grey = len(labels) - 1
    parts = []
    for index in sorted(range(len(points)), key=lambda one: groups[one] != grey):
        colour = COLOURS - 1 if groups[index] == grey else groups[index]
        a, b = placed[index].round(1)
        parts.append(
            f'<circle class="point f{colour}" cx="{a}" cy="{b}" r="3.6"><title>{escape(tips[index])}</title></circle>'
        )
    legend = [(COLOURS - 1 if at == grey else at, label) for at, label in enumerate(labels) if at in set(groups)]
    said = f"{title}: {len(points)} points in {len(legend)} groups: " + ", ".join(label for _, label in legend)
    return Chart(title, _svg(said, parts, WIDTH), note, legend)


def reliability_chart(title: str, bins: np.ndarray, note: str = "") -> Chart:
    """Draw accuracy against confidence; `bins` as of `clep.evaluation.details.reliability`."""
    x, y = Scale(0, 1, LEFT, WIDTH - RIGHT), Scale(0, 1, HEIGHT - BOTTOM, TOP)
    parts = [_axes(x, y, "confidence"), f'<line class="mark" x1="{x(0)}" y1="{y(0)}" x2="{x(1)}" y2="{y(1)}"/>']
    most = float(bins[:, 0].max())
    for count, confidence, accuracy in bins.tolist():
        tip = f"{int(count):,} with a mean confidence of {confidence:.2f}: {100 * accuracy:.1f} % right"
        radius = 3 + 7 * math.sqrt(count / most)
        centre = f'cx="{x(confidence)}" cy="{y(accuracy)}" r="{radius:.1f}"'
        parts.append(f'<circle class="point f0" {centre}><title>{tip}</title></circle>')
    total = bins[:, 0].sum()
    error = float((bins[:, 0] * np.abs(bins[:, 1] - bins[:, 2])).sum() / total)
    rows = [[f"{int(n):,}", f"{c:.2f}", f"{a:.2f}"] for n, c, a in bins.tolist()]
    said = f"{title}: expected calibration error {error:.3f}"
    note = f"Expected calibration error {error:.3f}; on the diagonal, confidence equals accuracy. {note}"
    return Chart(title, _svg(said, parts), note, [], ["predictions", "confidence", "accuracy"], rows)


def gain_chart(title: str, names: Sequence[str], one: np.ndarray, other: np.ndarray, labels: tuple[str, str]) -> Chart:
    """Draw values of two runs against each other, 0 to 100; above the diagonal the second is better."""
    x, y = Scale(0, 100, LEFT, WIDTH - RIGHT), Scale(0, 100, HEIGHT - BOTTOM, TOP)
    parts = [_axes(x, y, labels[0]), f'<line class="mark" x1="{x(0)}" y1="{y(0)}" x2="{x(100)}" y2="{y(100)}"/>']
    for name, a, b in zip(names, one.tolist(), other.tolist(), strict=True):
        colour = 2 if b > a else 1 if b < a else COLOURS - 1
        tip = escape(f"{name}: {a:.1f} → {b:.1f}")
        parts.append(f'<circle class="point f{colour}" cx="{x(a)}" cy="{y(b)}" r="3.6"><title>{tip}</title></circle>')
    better, worse = int((other > one).sum()), int((other < one).sum())
    said = f"{title}: {better} classes better, {worse} worse, {len(names) - better - worse} equal"
    legend = [(2, f"{better} better"), (1, f"{worse} worse"), (COLOURS - 1, f"{len(names) - better - worse} equal")]
    return Chart(title, _svg(said, parts), f"Vertical: {labels[1]}.", legend)


def dot_rows(title: str, rows: Sequence[tuple[str, Sequence[Real]]], note: str = "") -> Chart:
    """Draw the values of each row as dots, with their mean and standard deviation."""
    present = [value for _, values in rows for value in values]
    height = DOT_ROW * len(rows) + BOTTOM + TOP
    x = Scale(*_padded(min(present), max(present)), 12, WIDTH - 12)
    parts = [
        f'<g class="grid"><line x1="{x(tick)}" x2="{x(tick)}" y1="{TOP}" y2="{height - BOTTOM}"/>'
        f'<text x="{x(tick)}" y="{height - BOTTOM + 14}" text-anchor="middle">{_tick(tick)}</text></g>'
        for tick in x.ticks()
    ]
    listed = []
    for index, (name, values) in enumerate(rows):
        at = TOP + DOT_ROW * index + 22
        parts.append(f'<text class="strong" x="12" y="{at - 9}">{escape(name[:60])}</text>')
        if not values:
            continue
        mean, spread = float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        parts += [f'<circle class="seed" cx="{x(value)}" cy="{at}" r="2.5"/>' for value in values]
        parts.append(f'<line class="line s0" x1="{x(mean - spread)}" x2="{x(mean + spread)}" y1="{at}" y2="{at}"/>')
        parts.append(
            f'<circle class="f0" cx="{x(mean)}" cy="{at}" r="4"><title>{escape(name)}: {mean:.2f}</title></circle>'
        )
        listed.append(f"{name} {mean:.1f}")
    return Chart(title, _svg(f"{title}: {', '.join(listed)}", parts, height), note)


def thinned(points: Sequence[tuple[Real, Real]], most: int) -> list[tuple[Real, Real]]:
    """Return at most `most` of the points, evenly spaced, the first and the last among them."""
    if len(points) <= most:
        return list(points)
    return [points[int(index)] for index in np.linspace(0, len(points) - 1, most).round()]


def _tick(value: Real) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _padded(low: Real, high: Real) -> tuple[Real, Real]:
    margin = 0.06 * (high - low) or 0.5
    return (0.0 if 0 <= low < 0.5 * high else low - margin), high + margin


def _axes(x: Scale, y: Scale, x_label: str, x_ticks: bool = True) -> str:
    bottom = HEIGHT - BOTTOM
    lines = [
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick)}" y2="{y(tick)}"/>'
        f'<text x="{LEFT - 6}" y="{y(tick) + 4}" text-anchor="end">{_tick(tick)}</text>'
        for tick in y.ticks()
    ]
    ticks = x.ticks() if x_ticks else []
    lines += [f'<text x="{x(tick)}" y="{bottom + 15}" text-anchor="middle">{_tick(tick)}</text>' for tick in ticks]
    lines.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">{escape(x_label)}</text>')
    return f'<g class="grid">{"".join(lines)}</g>'


def _svg(said: str, parts: Sequence[str], height: int = HEIGHT) -> Markup:
    content = "".join(parts)
    return Markup(f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(said)}">{content}</svg>')
