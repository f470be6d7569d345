"""Frame mAP from files; its steps are tested in test_frame_matching.py and tests/datasets/test_ava.py."""

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clep.datasets.ava import read_annotations, read_label_map
from clep.errors import InputError
from clep.metrics import ava_frame_map
from clep.metrics.ava import AVA_60, measure_ava
from tests.metrics.ava_reference import as_boxes, random_world, slow_ava, write_rows

SAMPLES = Path(__file__).parents[2].parent / "shared/data/ava"
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample annotations of AVA are not there")
A, B = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)


def measure(truth, found, actions=(1, 2, 3), excluded=(), unannotated="ignored"):
    return measure_ava(as_boxes(truth, scored=False), as_boxes(found), actions, excluded, unannotated)


def same(found, expected):
    assert found.mean == pytest.approx(expected[0])
    assert list(found.per_class) == list(expected[1])
    np.testing.assert_allclose(list(found.per_class.values()), list(expected[1].values()), rtol=1e-12)


@given(st.integers(0, 100_000), st.sampled_from([None, 2, 5]), st.booleans(), st.sampled_from(["ignored", "counted"]))
@example(seed=25644, levels=None, crowded=True, unannotated="counted")
def test_equals_the_loop(seed, levels, crowded, unannotated):
    truth, found = random_world(seed, seconds=2, detections=90 if crowded else 12, levels=levels)
    swapped = np.random.default_rng(seed).random(len(found)) < 0.1
    found = [
        (*row[:2], row[4], row[3], row[2], row[5], *row[6:]) if swap else row
        for row, swap in zip(found, swapped, strict=True)
    ]
    excluded = {("video0", 901), ("elsewhere", 900), ("video1", 5)} if seed % 2 else set()
    actions = (3, 1) if seed % 3 else (1, 2, 3, 80)
    if not any(row[6] in actions and row[:2] not in excluded for row in truth if len(row) > 2):
        with pytest.raises(InputError, match="no box has an action"):
            measure(truth, found, actions, excluded, unannotated)
        return
    expected = slow_ava(truth, found, actions, excluded, unannotated=unannotated)
    same(measure(truth, found, actions, excluded, unannotated), expected)


@pytest.mark.parametrize("seed", range(3))
def test_files_equal_the_rows(tmp_path, seed):
    truth, found = random_world(seed, videos=3, levels=4)
    groundtruth, detections = write_rows(tmp_path / "gt.csv", truth), write_rows(tmp_path / "det.csv", found)
    excluded = write_rows(tmp_path / "excluded.csv", [("video0", "0901")])
    (tmp_path / "map.txt").write_text("1: bend\n3: dance\n")
    mean, per_class = ava_frame_map(groundtruth, detections, tmp_path / "map.txt", excluded)
    expected = slow_ava(truth, found, (1, 3), {("video0", 901)})
    assert mean == pytest.approx(expected[0])
    assert per_class == pytest.approx(expected[1])
    assert set(ava_frame_map(groundtruth, detections, None)[1]) == set(AVA_60)


def test_by_hand():
    truth = [("v", 902, *A, 1, 0), ("v", 902, *B, 1, 1), ("v", 902, *A, 2, 0), ("w", 902, *A, 3, 0)]
    found = [
        ("v", 902, *A, 1, 0.9),  # right
        ("v", 902, *A, 1, 0.8),  # the same again
        ("v", 902, *B, 1, 0.7),  # right
        ("v", 902, *B, 2, 0.9),  # the other person
        ("v", 903, *A, 1, 0.1),  # a frame that the ground truth does not list
    ]
    result = measure(truth, found, (1, 2, 3, 4))
    assert result.per_class == pytest.approx({1: 100 * (1 + 2 / 3) / 2, 2: 0.0, 3: 0.0, 4: np.nan}, nan_ok=True)
    assert result.mean == pytest.approx(100 * (1 + 2 / 3) / 2 / 3)
    assert result.coverage["detections in frames that the ground truth does not list"] == 1
    assert result.coverage["detections measured"] == 4


def test_detections_in_frames_that_the_ground_truth_does_not_list_by_hand():
    truth = [("v", 902, *A, 1, 0), ("v", 904.5, *A, 2, 0)]
    right, wrong, unlisted = ("v", 902, *A, 1, 0.5), ("v", 904.5, *A, 1, 0.9), ("v", 903, *A, 1, 0.9)
    assert measure(truth, [right, unlisted], (1,)).per_class == {1: 100}
    assert measure(truth, [right, unlisted], (1,), unannotated="counted").per_class == {1: 50}
    # A box of any action lists the frame, evaluated or not, and so does a row without a box.
    assert measure(truth, [right, wrong], (1,)).per_class == {1: 50}
    assert measure([*truth, ("v", 903)], [right, unlisted], (1,)).per_class == {1: 50}
    assert measure([*truth, ("w", 903)], [right, unlisted], (1,)).per_class == {1: 100}
    assert measure([*truth, ("v", 903)], [right, unlisted], (1,), [("v", 903)]).per_class == {1: 100}
    # Seconds are compared to the microsecond.
    assert measure(truth, [("v", 904.5000001, *A, 2, 0.1)], (2,)).per_class == {2: 100}
    assert measure(truth, [("v", 904.50001, *A, 2, 0.1)], (2,)).per_class == {2: 0}
    with pytest.raises(InputError, match="unannotated='no'; choose ignored or counted"):
        measure(truth, [right], (1,), unannotated="no")


@pytest.mark.parametrize(("rule", "expected"), [("ignored", 50), ("counted", 50)])
def test_files_in_the_layout_of_ava_kinetics(tmp_path, rule, expected):
    """A row of two columns, seconds with a fraction, and a detection whose corners are swapped."""
    groundtruth, detections = tmp_path / "gt.csv", tmp_path / "det.csv"
    groundtruth.write_text("vid,0902,0.1,0.1,0.5,0.5,80,1\nvid,0903\nvid,904.5,0.1,0.1,0.5,0.5,79,\n")
    detections.write_text(
        "vid,0902,0.1,0.1,0.5,0.5,80,0.5\nvid,0903,0.1,0.1,0.5,0.5,80,0.8\nvid,904.500,0.1,0.1,0.5,0.5,79,0.1\n"
        "vid,0902,0.5,0.1,0.1,0.5,80,0.9\nvid,0907\n"
    )
    per_class = ava_frame_map(groundtruth, detections, None, unannotated=rule)[1]
    assert (per_class[80], per_class[79]) == (expected, 100)


def test_the_fifty_best_are_over_all_evaluated_classes():
    truth = [("v", 902, *A, 1, 0)]
    crowd = [("v", 902, *B, 2, 0.5 + i / 1000) for i in range(50)]
    late = [("v", 902, *A, 1, 0.4)]
    assert measure(truth, crowd + late, (1, 2)).per_class[1] == 0
    assert measure(truth, crowd[1:] + late, (1, 2)).per_class[1] == 100
    assert measure(truth, crowd + late, (1,)).per_class[1] == 100
    elsewhere = [("v", 903, *row[2:]) for row in crowd]
    assert measure(truth, elsewhere + late, (1, 2)).per_class[1] == 100


def test_dropped_boxes_are_counted():
    truth = [("v", 902, *A, 1, 0), ("v", 902, *A, 2, 0), ("w", 7, *A, 1, 0)]
    found = [
        ("v", 902, *A, 1, 0.9),
        ("v", 902, *A, 2, 0.9),
        ("w", 7, *A, 1, 0.9),
        ("v", 902, 0.0, 0.0, 0.0, 1.0, 1, 1.0),
    ] + [("u", 1, *A, 1, float(i)) for i in range(51)]
    coverage = {
        "ground-truth boxes": 3,
        "ground-truth boxes of actions not in the label map": 1,
        "ground-truth boxes in excluded frames": 1,
        "detections": 55,
        "detections of actions not in the label map": 1,
        "detections in excluded frames": 1,
        "detections beyond the 50 best of their frame": 1,
        "detections without area": 1,
        "detections in frames that the ground truth does not list": 50,
        "detections measured": 1,
    }
    assert measure(truth, found, (1,), [("w", 7)]).coverage == coverage
    older = measure(truth, found, (1,), [("w", 7)], "counted").coverage
    assert older == coverage | {"detections measured": 51}


@given(st.integers(0, 100_000))
def test_the_order_of_rows_and_any_rising_change_of_scores_do_not_matter(seed):
    truth, found = random_world(seed, levels=4)
    truth.append(("video0", 900, *A, 1, 0))
    rng = np.random.default_rng(seed)
    mixed = [found[i] for i in rng.permutation(len(found))]
    changed = [(*row[:7], float(np.exp(3 * row[7]) - 20)) for row in mixed]
    expected = measure(truth, found)
    for one in (mixed, changed):
        same(measure([truth[i] for i in rng.permutation(len(truth))], one), (expected.mean, expected.per_class))


@given(st.integers(0, 100_000))
def test_an_added_detection_never_helps_unless_it_is_correct(seed):
    truth, found = random_world(seed)
    truth.append(("video0", 900, *A, 1, 0))
    more = [*found, ("nowhere", 900, *A, 1, 0.5)]
    same(measure(truth, more), (measure(truth, found).mean, measure(truth, found).per_class))
    before, after = (measure(truth, rows, unannotated="counted") for rows in (found, more))
    assert after.per_class[1] <= before.per_class[1]
    assert (after.per_class[2], after.per_class[3]) == pytest.approx(
        (before.per_class[2], before.per_class[3]), nan_ok=True
    )


def test_detections_without_scores_are_refused():
    boxes = as_boxes([("v", 1, *A, 1, 0)], scored=False)
    with pytest.raises(ValueError, match="no scores"):
        measure_ava(boxes, boxes)


def test_an_action_of_the_label_map_beyond_those_of_ava_is_known(tmp_path):
    rows = write_rows(tmp_path / "rows.csv", [("v", 1, *A, 81, 1)])
    (tmp_path / "map.txt").write_text("81: juggle\n")
    assert ava_frame_map(rows, rows, tmp_path / "map.txt") == (100.0, {81: 100.0})
    with pytest.raises(InputError, match=r"rows\.csv, line 1: unknown action id; the ids are 1 to 80"):
        ava_frame_map(rows, rows, None)


def test_no_ground_truth_left_is_an_error(tmp_path):
    rows = write_rows(tmp_path / "rows.csv", [("v", 1, *A, 2, 1)])
    with pytest.raises(InputError, match=r"rows\.csv: no box has an action of the label map"):
        ava_frame_map(rows, rows, None)


@needs_samples
def test_real_annotations_as_their_own_detections_are_perfect_unless_shifted(tmp_path):
    file = SAMPLES / "ava_val_v2.2_head.csv"
    for label_map in (SAMPLES / "label_map.txt", SAMPLES / "ava_action_list_v2.1.pbtxt", None):
        mean, per_class = ava_frame_map(file, file, label_map)
        assert mean == 100
        assert {label for label, value in per_class.items() if value == value} == {1, 6, 11, 12, 14, 17, 74, 79, 80}
    excluded = write_rows(tmp_path / "excluded.csv", [("1j20qq1JyX4", 905), ("1j20qq1JyX4", "0942")])
    assert {k for k, value in ava_frame_map(file, file, None, excluded)[1].items() if value != value} >= {11}
    real = read_annotations(file)
    rows = [
        (real.videos[0], int(second), *map(float, box), int(label), float(index % 3))
        for index, (second, box, label) in enumerate(zip(real.second, real.box * 0.75, real.label, strict=True))
    ]
    truth = [
        (real.videos[0], int(second), *map(float, box), int(label), 0)
        for second, box, label in zip(real.second, real.box, real.label, strict=True)
    ]
    mean, per_class = ava_frame_map(file, write_rows(tmp_path / "shrunk.csv", rows), SAMPLES / "label_map.txt")
    expected = slow_ava(truth, rows, list(read_label_map(SAMPLES / "label_map.txt")))
    assert 0 < mean < 100
    assert mean == pytest.approx(expected[0])
    assert per_class == pytest.approx(expected[1], nan_ok=True)


@needs_samples
def test_the_sixty_actions_are_those_of_the_label_maps():
    assert tuple(read_label_map(SAMPLES / "label_map.txt")) == AVA_60
    assert tuple(read_label_map(SAMPLES / "ava_action_list_v2.1.pbtxt")) == AVA_60


def test_a_tenth_of_the_validation_set_takes_less_than_a_tenth_of_a_minute(tmp_path):
    rng = np.random.default_rng(0)
    frames = np.repeat(np.arange(5_700), 18)
    corner = rng.random((len(frames), 2)) * 0.5
    box = np.round(np.hstack([corner, corner + 0.1 + rng.random((len(frames), 2)) * 0.4]), 3)
    label, score = rng.choice(AVA_60, len(frames)), rng.random(len(frames)).round(3)
    rows = [
        (f"v{frame // 900}", frame % 900, *map(float, one), int(action), float(value))
        for frame, one, action, value in zip(frames, box, label, score, strict=True)
    ]
    detections, groundtruth = write_rows(tmp_path / "det.csv", rows), write_rows(tmp_path / "gt.csv", rows[::3])
    start = time.process_time()
    ava_frame_map(groundtruth, detections, None)
    assert time.process_time() - start < 6
