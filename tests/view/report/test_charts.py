"""Charts: positions of values, ticks, and shapes that stand for them."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from clep.view.report.charts import (
    Scale,
    Series,
    dot_rows,
    histogram,
    line_chart,
    round_step,
    scatter,
    skyline,
    thinned,
)


def test_a_scale_maps_ends_and_middle() -> None:
    scale = Scale(10, 20, 100, 0)
    assert [scale(value) for value in (10, 15, 20, 25, 5)] == [100, 50, 0, 0, 100]
    assert Scale(1, 100, 0, 10, log=True)(10) == 5
    assert Scale(3, 3, 0, 10)(3) == 5


@pytest.mark.parametrize(("rough", "step"), [(0.7, 1), (1, 1), (1.1, 2), (23, 50), (0.03, 0.05), (6, 10)])
def test_steps_are_round(rough: float, step: float) -> None:
    assert round_step(rough) == pytest.approx(step)


@pytest.mark.parametrize(("low", "high"), [(0, 100), (-0.3, 0.9), (1e-4, 3e-4), (17, 18), (5, 5)])
def test_ticks_lie_inside(low: float, high: float) -> None:
    scale = Scale(low, high, 0, 1)
    ticks = scale.ticks()
    assert 1 <= len(ticks) <= 6
    assert all(scale.low - 1e-9 <= tick <= scale.high + 1e-9 for tick in ticks)


def test_a_line_goes_through_its_points() -> None:
    chart = line_chart("loss", [Series("a", [(0, 0.0), (10, 100.0)])], "steps", percent=True)
    line = ET.fromstring(chart.svg).find(".//polyline")
    (x0, y0), (x1, y1) = [tuple(map(float, point.split(","))) for point in line.get("points").split()]
    assert x0 < x1
    assert y0 > y1
    assert chart.rows == [["a", "0", "0"], ["a", "10.0", "100.0"]]


def test_areas_of_a_histogram_are_equal() -> None:
    """Both samples have one area, whatever their sizes."""
    generator = np.random.default_rng(0)
    values = [generator.normal(size=size) for size in (100, 10_000)]
    chart = histogram("h", [("a", values[0]), ("b", values[1])], "x")
    areas = []
    for polygon in ET.fromstring(chart.svg).findall(".//polygon"):
        points = np.array([tuple(map(float, point.split(","))) for point in polygon.get("points").split()])
        x, y = points.T
        areas.append(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)
    assert areas[0] == pytest.approx(areas[1], rel=0.03)


def test_bars_are_sorted_and_names_are_escaped() -> None:
    chart = skyline("s", ["<i>", "b", "c"], [10.0, 90.0, 50.0])
    bars = ET.fromstring(chart.svg).findall(".//rect")
    heights = [float(bar.get("height")) for bar in bars]
    assert heights == sorted(heights, reverse=True)
    assert "<i>" not in chart.svg


def test_points_stay_inside_and_grey_ones_are_drawn_first() -> None:
    chart = scatter("m", np.array([[0.0, 0.0], [5.0, 1.0], [2.0, 9.0]]), [0, 1, 0], ["a", "other"], ["x", "y", "z"])
    circles = ET.fromstring(chart.svg).findall(".//circle")
    assert "f8" in circles[0].get("class")
    assert all(0 <= float(circle.get(axis)) <= 420 for circle in circles for axis in ("cx", "cy"))
    assert chart.legend == [(0, "a"), (8, "other")]


def test_rows_without_values_are_named() -> None:
    chart = dot_rows("d", [("one", [1.0, 3.0]), ("none", [])])
    assert "none" in chart.svg
    assert len(ET.fromstring(chart.svg).findall('.//circle[@class="seed"]')) == 2


def test_thinning_keeps_the_ends() -> None:
    points = [(float(i), 0.0) for i in range(100)]
    few = thinned(points, 7)
    assert (len(few), few[0], few[-1]) == (7, points[0], points[-1])
    assert thinned(points, 100) == points
