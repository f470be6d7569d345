from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clep.errors import InputError
from clep.text import egovlp_spans, fixed_spans


def test_fixed_spans() -> None:
    start, end = fixed_spans(np.array([0.0, 1.5, 10.0]), 2)
    assert start.tolist() == [0.0, 0.0, 8.0]
    assert end.tolist() == [2.0, 3.5, 12.0]


def test_egovlp_spans_by_hand() -> None:
    video = np.array([0, 0, 0, 1, 1, 2])
    passes = np.array([1, 1, 1, 1, 1, 1])
    second = np.array([10.0, 12.0, 16.0, 5.0, 6.0, 0.25])
    # beta: 3 and 1, unknown for the last; alpha 2; half widths 0.75, 0.25, 0.5
    start, end = egovlp_spans(video, passes, second)
    assert start.tolist() == [9.25, 11.25, 15.25, 4.75, 5.75, 0.0]
    assert end.tolist() == [10.75, 12.75, 16.75, 5.25, 6.25, 0.75]
    # alpha of video 1 alone is 1: half widths 1.5, 0.5, 0.5
    for training in (np.array([False, False, False, True, False, False]), np.array([3])):
        start, _ = egovlp_spans(video, passes, second, training)
        assert start.tolist() == [8.5, 10.5, 14.5, 4.5, 5.5, 0.0]


def test_passes_are_not_merged() -> None:
    one = np.array([10.0, 14.0, 18.0])
    video, passes = np.zeros(6, int), np.array([1, 1, 1, 2, 2, 2])
    start, end = egovlp_spans(video, passes, np.concatenate([one, one + 1]))
    np.testing.assert_allclose(end - start, 1.0)  # every gap is the mean gap, 4 s; merged it would be 1.8 s


def slow_spans(rows: list[tuple[int, int, float]], training: list[bool]) -> list[tuple[float, float]]:
    gaps: dict[tuple[int, int], float] = {}
    chosen: set[tuple[int, int]] = set()
    for key in {row[:2] for row in rows}:
        seconds = sorted(row[2] for row in rows if row[:2] == key)
        differences = [later - earlier for earlier, later in pairwise(seconds)]
        if differences:
            gaps[key] = sum(differences) / len(differences)
        if any(flag for row, flag in zip(rows, training, strict=True) if row[:2] == key):
            chosen.add(key)
    known = [gap for key, gap in gaps.items() if key in chosen]
    alpha = sum(known) / len(known)
    half = [gaps.get(row[:2], alpha) / (2 * alpha) for row in rows]
    return [(max(0.0, row[2] - h), row[2] + h) for row, h in zip(rows, half, strict=True)]


ROW = st.tuples(st.integers(0, 3), st.integers(1, 2), st.floats(0, 1000), st.booleans())


@given(st.lists(ROW, max_size=30), st.randoms(use_true_random=False))
def test_equals_a_slow_loop_in_any_order(rows: list[tuple[int, int, float, bool]], random) -> None:
    rows = [*rows, (9, 1, 0.0, True), (9, 1, 7.0, False)]
    expected = slow_spans([row[:3] for row in rows], [row[3] for row in rows])
    order = list(range(len(rows)))
    random.shuffle(order)
    for places in (list(range(len(rows))), order):
        video, passes, second, training = (np.array([rows[i][k] for i in places]) for k in range(4))
        start, end = egovlp_spans(video, passes, second, training)
        assert (end >= start).all()
        wanted = np.array([expected[i] for i in places])
        np.testing.assert_allclose(np.stack([start, end], 1), wanted, rtol=1e-9, atol=1e-9)


def test_no_gap_raises() -> None:
    with pytest.raises(InputError, match=r"alpha.*fixed offset"):
        egovlp_spans(np.array([0, 1]), np.array([1, 1]), np.array([1.0, 2.0]))
    with pytest.raises(InputError, match="alpha"):
        egovlp_spans(np.array([0, 0]), np.array([1, 1]), np.array([2.0, 2.0]))
    start, end = egovlp_spans(np.zeros(0, int), np.zeros(0, int), np.zeros(0))
    assert len(start) == len(end) == 0


@pytest.mark.parametrize("wrong", [-0.1, np.nan, np.inf])
def test_invalid_times_are_refused(wrong: float) -> None:
    second = np.array([1.0, wrong])
    with pytest.raises(InputError, match=r"1 of 2 narrations have a time that is negative or not a number.*index 1"):
        fixed_spans(second, 2.0)
    with pytest.raises(InputError, match="1 of 2"):
        egovlp_spans(np.array([0, 0]), np.array([1, 1]), second)
    with pytest.raises(InputError, match="offset_s"):
        fixed_spans(np.array([1.0]), float(wrong))
