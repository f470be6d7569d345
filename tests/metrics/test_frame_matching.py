import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clep.metrics.ava import average_precision, best_per_frame, intersection_over_union, true_positives
from tests.metrics.ava_reference import area, as_boxes, best_of_frame, overlap, random_world

WHOLE = [0.0, 0.0, 1.0, 1.0]
LEFT = [0.0, 0.0, 0.5, 1.0]
RIGHT = [0.5, 0.0, 1.0, 1.0]


def matched(scores, boxes, true_boxes, groups=None, true_groups=None, least=0.5):
    return true_positives(
        np.zeros(len(boxes), np.int64) if groups is None else np.array(groups),
        np.array(scores, np.float64),
        np.array(boxes, np.float64).reshape(-1, 4),
        np.zeros(len(true_boxes), np.int64) if true_groups is None else np.array(true_groups),
        np.array(true_boxes, np.float64).reshape(-1, 4),
        least,
    ).tolist()


def test_exactly_one_half_matches_and_a_little_less_does_not():
    assert matched([1], [LEFT], [WHOLE]) == [True]
    assert matched([1], [[0, 0, np.nextafter(0.5, 0), 1]], [WHOLE]) == [False]


def test_a_box_matches_the_highest_score_only():
    assert matched([0.2, 0.9, 0.5], [WHOLE] * 3, [WHOLE]) == [False, True, False]


def test_a_detection_whose_best_box_is_matched_does_not_match_another():
    """The official script takes the best overlap among all boxes, also those already matched."""
    near = [0.0, 0.0, 0.75, 1.0]
    assert overlap(near, LEFT) >= 0.5
    assert matched([0.9, 0.8], [WHOLE, WHOLE], [WHOLE, near]) == [True, False]
    assert matched([0.9, 0.8], [WHOLE, near], [WHOLE, near]) == [True, True]


def test_a_detection_is_assigned_only_to_its_best_box():
    """Two ground-truth boxes overlap the better detection, which is assigned to one of them."""
    assert matched([0.9, 0.1], [[0, 0, 0.7, 1], [0, 0, 1, 1]], [[0, 0, 0.8, 1], WHOLE]) == [True, True]


def test_boxes_of_other_frames_and_classes_do_not_match():
    assert matched([1, 1], [WHOLE, WHOLE], [WHOLE], groups=[3, 4], true_groups=[4]) == [False, True]


def test_equal_overlaps_match_the_upper_left_box():
    assert matched([3, 2], [WHOLE, RIGHT], [RIGHT, LEFT]) == [True, True]
    assert matched([3, 2], [WHOLE, LEFT], [RIGHT, LEFT]) == [True, False]
    assert matched([3, 2], [WHOLE, LEFT], [LEFT, RIGHT]) == [True, False]
    lower = [0.0, 0.5, 1.0, 1.0]
    assert matched([3, 2], [WHOLE, lower], [lower, RIGHT]) == [True, True]
    assert matched([3, 2], [WHOLE, RIGHT], [lower, RIGHT]) == [True, False]


@pytest.mark.parametrize(("boxes", "truth"), [([], [WHOLE]), ([WHOLE], []), ([], [])])
def test_no_boxes(boxes, truth):
    assert matched([1.0] * len(boxes), boxes, truth) == [False] * len(boxes)


@given(st.integers(0, 10_000))
def test_overlap_equals_the_formula(seed):
    rng = np.random.default_rng(seed)
    one, other = np.sort(rng.random((2, 6, 2, 2)), axis=2).reshape(2, 6, 4)
    expected = [overlap(a, b) for a, b in zip(one, other, strict=True)]
    assert intersection_over_union(one, other).tolist() == expected


def test_overlap_of_boxes_without_area():
    point, line = np.array([[0.5, 0.5, 0.5, 0.5]]), np.array([[0.0, 0.5, 1.0, 0.5]])
    assert intersection_over_union(point, point).tolist() == [0.0]
    assert intersection_over_union(line, np.array([WHOLE])).tolist() == [0.0]


@pytest.mark.parametrize(
    ("scores", "hits", "positives", "expected"),
    [
        ([0.9, 0.8, 0.7], [1, 0, 1], 2, (1 + 2 / 3) / 2),
        ([0.9, 0.8, 0.7, 0.6], [0, 1, 1, 0], 2, (2 / 3 + 2 / 3) / 2),  # the rank before has 1/2: lifted to 2/3
        ([0.9], [1], 4, 1 / 4),
        ([0.9, 0.1], [0, 0], 4, 0),
        ([], [], 4, 0),
        ([0.5, 0.5], [1, 0], 1, 1 / 2),
        ([0.5, 0.5, 0.5, 0.5], [1, 1, 0, 0], 2, 1 / 2),
    ],
)
def test_average_precision_by_hand(scores, hits, positives, expected):
    found = average_precision(np.array(scores, np.float64), np.array(hits, bool), positives)
    assert found == pytest.approx(100 * expected)


@given(
    st.lists(st.tuples(st.sampled_from([0.1, 0.25, 0.5, 0.75, 1.0, -3.0]), st.booleans()), max_size=30),
    st.integers(0, 5),
    st.randoms(use_true_random=False),
)
def test_average_precision_equals_the_curve_and_not_the_order_of_rows(judged, missed, random):
    positives = max(1, sum(right for _, right in judged) + missed)
    values = []
    for _ in range(2):
        scores, hits = [score for score, _ in judged], [right for _, right in judged]
        values.append(average_precision(np.array(scores, np.float64), np.array(hits, bool), positives))
        random.shuffle(judged)
    assert values[0] == values[1]
    assert values[0] == pytest.approx(100 * area(judged, positives))


@given(st.integers(0, 10_000), st.integers(1, 12), st.sampled_from([None, 2, 4]))
def test_the_best_of_a_frame_equal_the_official_heap(seed, most, levels):
    _, rows = random_world(seed, seconds=2, detections=20, levels=levels)
    found = as_boxes(rows)
    frame = (found.video * 1000 + found.second).astype(np.int64)
    order = np.random.default_rng(seed).permutation(len(rows))
    kept = np.zeros(len(rows), bool)
    kept[order] = best_per_frame(frame[order], found.score[order], found.label[order], found.box[order], most)
    for one in np.unique(frame):
        mine = [rows[i] for i in order if frame[i] == one]
        expected = sorted(best_of_frame(mine, most))
        assert sorted(rows[i] for i in np.flatnonzero(kept & (frame == one))) == expected


def test_ties_at_the_limit_by_hand():
    """A later row of equal score is not added; of the lowest scores, the lowest label is replaced first."""
    score = np.array([0.5, 0.5, 0.5, 0.9])
    label = np.array([7, 3, 9, 1])
    kept = best_per_frame(np.zeros(4, np.int64), score, label, np.zeros((4, 4)), most=2)
    assert kept.tolist() == [True, False, False, True]
