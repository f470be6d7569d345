import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clep.bank import Clock
from clep.errors import InputError

EGO4D = Clock()


def centre_by_hand(centres: np.ndarray, start: float, end: float) -> tuple[int, int]:
    """Loop over rows: those with their centre in the span, else the nearest to the middle."""
    inside = [i for i, centre in enumerate(centres) if start <= centre <= end]
    if inside:
        return inside[0], inside[-1] + 1
    middle = (start + end) / 2
    best = 0
    for i, centre in enumerate(centres):
        if abs(centre - middle) < abs(centres[best] - middle):
            best = i
    return best, best + 1


def start_by_hand(rate: float, n: int, start: float, end: float) -> tuple[int, int]:
    return min(max(0, math.floor(start * rate)), n - 1), min(math.floor(end * rate), n - 1) + 1


def starts_by_hand(rate: float, row_seconds: float, n: int, duration: float | None) -> np.ndarray:
    starts = np.arange(n) / rate
    if duration is not None:
        starts[-1] = min(max(duration - row_seconds, max(n - 2, 0) / rate), starts[-1])
    return starts


@st.composite
def spans(draw: st.DrawFn) -> tuple[float, float, int, float | None, Clock]:
    clock = Clock(
        draw(st.sampled_from([30 / 16, 1.0, 30 / 7, 0.3, 24 / 1.001])), draw(st.sampled_from([32 / 30, 1.0, 0.1, 7.7]))
    )
    n = draw(st.integers(1, 60))
    rate = clock.rows_per_second
    assert rate is not None
    duration = draw(st.none() | st.floats(0.01, 70.0))
    # Half of the edges are exactly on a row's start or centre, or the float beside it.
    edges = np.concatenate([np.arange(n) / rate, np.arange(n) / rate + clock.row_seconds / 2])
    edge = st.sampled_from(edges.tolist()).flatmap(
        lambda x: st.sampled_from([x, math.nextafter(x, math.inf), max(0.0, math.nextafter(x, -math.inf))])
    )
    second = st.one_of(edge, st.floats(0, 80), st.floats(-5, 1e7))
    start, end = sorted((draw(second), draw(second)))
    return start, abs(end), n, duration, clock


@settings(max_examples=3 * settings.default.max_examples)
@given(spans())
@example((0.5333333333333333, 0.5333333333333333, 3, None, EGO4D))
@example((-3.0, 0.0, 1, 0.4, EGO4D))
def test_window_equals_the_formula(case: tuple[float, float, int, float | None, Clock]) -> None:
    start, end, n, duration, clock = case
    rate = clock.rows_per_second
    assert rate is not None
    starts = starts_by_hand(rate, clock.row_seconds, n, duration)
    np.testing.assert_array_equal(clock.row_starts(n, duration), starts)
    np.testing.assert_array_equal(clock.row_centres(n, duration), starts + clock.row_seconds / 2)
    centres = starts + clock.row_seconds / 2
    assert clock.window(start, end, n, duration) == centre_by_hand(centres, start, end)
    assert clock.window(start, end, n, duration, align="start") == start_by_hand(rate, n, start, end)


@settings(max_examples=3 * settings.default.max_examples // 2)
@given(
    st.lists(st.integers(0, 40).map(lambda x: x / 7), min_size=1, max_size=40).map(sorted),
    st.integers(0, 45).map(lambda x: x / 7),
    st.integers(0, 45).map(lambda x: x / 7),
    st.sampled_from([0.0, 1.0, 2 / 7]),
)
def test_window_of_explicit_seconds_equals_the_formula(
    seconds: list[float], one: float, two: float, row_seconds: float
) -> None:
    start, end = min(one, two), max(one, two)
    values = np.array(seconds)
    clock = Clock.irregular(row_seconds)
    got = clock.window(start, end, len(values), seconds=values)
    assert got == centre_by_hand(values + row_seconds / 2, start, end)
    first = max([i for i, second in enumerate(values) if second <= start], default=0)
    last = max([i for i, second in enumerate(values) if second <= end], default=0) + 1
    assert clock.window(start, end, len(values), seconds=values, align="start") == (first, last)


def test_39_frames_give_rows_at_frames_0_and_7() -> None:
    np.testing.assert_allclose(EGO4D.row_starts(2, 39 / 30) * 30, [0, 7])
    # Centres at frames 16 and 23: a span around frame 20 to 22 is nearest to the second.
    assert EGO4D.window(20 / 30, 22 / 30, 2, 39 / 30) == (1, 2)
    assert EGO4D.window(22 / 30, 24 / 30, 2, 39 / 30) == (1, 2)
    # Without back-padding the second row would be centred at frame 32, and the first row chosen.
    assert EGO4D.window(20 / 30, 22 / 30, 2) == (0, 1)


def test_fewer_than_32_frames_give_one_row_at_0() -> None:
    np.testing.assert_array_equal(EGO4D.row_starts(1, 20 / 30), [0.0])
    assert EGO4D.window(0.5, 0.6, 1, 20 / 30) == (0, 1)


def test_a_wrong_duration_keeps_rows_in_order() -> None:
    grid = np.arange(5) / 1.875
    np.testing.assert_array_equal(EGO4D.row_starts(5, 1000.0), grid)
    np.testing.assert_array_equal(EGO4D.row_starts(5, 0.1)[-2:], [grid[3], grid[3]])


def test_tutorial_windows_lie_late_by_a_quarter_of_a_second() -> None:
    middle = np.random.default_rng(0).uniform(20, 400, 20_000)
    centres = EGO4D.row_centres(1000)
    lateness = {}
    for align in ("start", "centre"):
        first, last = EGO4D.window(middle - 2, middle + 2, 1000, align=align)
        lateness[align] = float(np.mean((centres[first] + centres[last - 1]) / 2 - middle))
    assert lateness["start"] == pytest.approx(0.27, abs=0.02)
    assert lateness["centre"] == pytest.approx(0.0, abs=0.01)


def test_beyond_the_end_is_the_last_row() -> None:
    for align in ("start", "centre"):
        assert EGO4D.window(100.0, 104.0, 8, align=align) == (7, 8)
        assert EGO4D.window(0.0, math.inf, 8, align=align) == (0, 8)
        assert EGO4D.window(math.inf, math.inf, 8, align=align) == (7, 8)
        assert EGO4D.window(-math.inf, math.inf, 8, align=align) == (0, 8)


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        (-3.0, -1.0, "second 0"),
        (5.0, 4.0, "before it starts"),
        (math.nan, 4.0, "not a number"),
        (1.0, math.nan, "not a number"),
    ],
)
@pytest.mark.parametrize("align", ["start", "centre"])
def test_invalid_spans_are_refused(start: float, end: float, words: str, align: str) -> None:
    with pytest.raises(InputError, match=f"span 1 of 2.*{words}"):
        EGO4D.window(np.array([0.0, start]), np.array([1.0, end]), 5, align=align)


def test_array_types_shapes_and_videos_of_different_lengths() -> None:
    start, end = np.array([[0.0, 3.0, 9.0], [1.0, 2.0, 50.0]]), np.array([[1.0, 4.0, 9.0], [5.0, 2.0, 60.0]])
    n, duration = np.array([3, 10, 20]), np.array([math.nan, 5.5, 11.1])
    first, last = EGO4D.window(start, end, n, duration)
    assert isinstance(first, np.ndarray)
    assert first.shape == (2, 3)
    assert first.dtype == last.dtype == np.int64
    for i in range(2):
        for j in range(3):
            assert EGO4D.window(start[i, j], end[i, j], n[j], duration[j]) == (first[i, j], last[i, j])
    as_torch = EGO4D.window(torch.from_numpy(start), torch.from_numpy(end), torch.from_numpy(n), duration)
    assert all(isinstance(x, torch.Tensor) and x.dtype == torch.int64 for x in as_torch)
    np.testing.assert_array_equal(as_torch[0], first)
    assert EGO4D.window(np.zeros(0), np.zeros(0), 5)[0].shape == (0,)
    single = EGO4D.window(np.float32(1.0), 2, 10)
    assert all(isinstance(x, np.integer) for x in single)


def test_invalid_clocks_and_arguments_are_refused() -> None:
    for rate in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="rows_per_second"):
            Clock(rate)
    with pytest.raises(InputError, match="row_seconds"):
        Clock(1.0, -1.0)
    with pytest.raises(InputError, match="align='middle'"):
        EGO4D.window(0.0, 1.0, 5, align="middle")
    with pytest.raises(InputError, match="without rows"):
        EGO4D.window(0.0, 1.0, 0)
    with pytest.raises(InputError, match="regular"):
        EGO4D.window(0.0, 1.0, 1, seconds=np.zeros(1))
    with pytest.raises(InputError, match="irregular"):
        Clock.irregular(1.0).window(0.0, 1.0, 1)
    with pytest.raises(InputError, match="one second per row"):
        Clock.irregular(1.0).window(0.0, 1.0, 2, seconds=np.zeros(1))
    assert str(EGO4D) == "rows_per_second=1.875, row_seconds=1.06667"
    assert str(Clock.irregular(1.0)) == "a second per row, row_seconds=1"
