import numpy as np
import pytest

from clep.errors import InputError
from clep.index import MomentGrid


def by_hand(end_s: float, window_s: float, stride_s: float) -> list[tuple[float, float]]:
    """Slide a window until less than half of it is left, at least once."""
    spans, number = [], 0
    while number * stride_s < max(end_s - window_s / 2, stride_s / 2):
        spans.append((number * stride_s, min(number * stride_s + window_s, end_s)))
        number += 1
    return spans


@pytest.mark.parametrize(("window_s", "stride_s"), [(4.0, 1.0), (5.0, 2.5), (0.7, 0.3), (90.0, 1.0), (2.0, 7.0)])
def test_spans_equal_a_loop(window_s: float, stride_s: float) -> None:
    ends = [40.0, 31.5, 2.0, 0.4, 7.3, 100.25]
    grid = MomentGrid(np.array(ends), window_s, stride_s)
    expected = [(v, *span) for v, end_s in enumerate(ends) for span in by_hand(end_s, window_s, stride_s)]
    video, start_s, end_s = grid.spans(np.arange(len(grid)))
    assert len(grid) == len(expected)
    assert video.tolist() == [one[0] for one in expected]
    assert start_s.tolist() == pytest.approx([one[1] for one in expected])
    assert end_s.tolist() == pytest.approx([one[2] for one in expected])


def test_moments_of_videos_and_nearest_moment() -> None:
    grid = MomentGrid(np.array([10.0, 20.0, 5.0]), 4.0, 1.0)
    assert set(grid.video(grid.moments_of([2, 0])).tolist()) == {0, 2}
    assert len(grid.moments_of([])) == 0
    for start_s in (0.0, 3.0, 7.0):
        moment = grid.nearest(1, start_s, start_s + 4.0)
        assert grid.spans(np.array([moment]))[1][0] == start_s
    assert grid.nearest(1, 500.0, 504.0) == grid.first[2] - 1
    assert grid.nearest(1, 0.0, 0.0) == grid.first[1]


def test_overlapping_moments_are_left_out_best_first() -> None:
    grid = MomentGrid(np.array([20.0, 20.0]), 4.0, 1.0)
    second = int(grid.first[1])
    order = np.array([5, 6, 2, 1, second + 5, 9])  # 5-9 s; overlaps; overlaps; 1-5 s; other video; 9-13 s
    assert grid.without_overlaps(order, 10).tolist() == [0, 3, 4, 5]
    assert grid.without_overlaps(order, 2).tolist() == [0, 3]


@pytest.mark.parametrize(("window_s", "stride_s"), [(0.0, 1.0), (4.0, -1.0), (float("nan"), 1.0), (4.0, float("inf"))])
def test_lengths_must_be_positive(window_s: float, stride_s: float) -> None:
    with pytest.raises(InputError, match=r"positive seconds.*window_s=.*stride_s="):
        MomentGrid(np.array([10.0]), window_s, stride_s)


@pytest.mark.parametrize("stride_s", [1e-9, 1e-300])
def test_more_moments_than_a_file_can_hold_are_refused(stride_s: float) -> None:
    with pytest.raises(InputError, match="stride_s=.* moments of these videos, more than .*give a larger stride_s"):
        MomentGrid(np.array([60.0, 3.0]), 4.0, stride_s)
