import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.classification import multilabel_average_precision

from clep.metrics import charades_map


def slow_map(scores, targets):
    """Loop over classes and videos; ties count against the model."""
    scores = np.array(scores, dtype=np.float64)
    per_class = []
    for row, labels in zip(scores, targets, strict=True):
        if not labels.any():
            row[:] = -np.inf
    for c in range(scores.shape[1]):
        order = sorted(range(len(scores)), key=lambda i: (-scores[i, c], targets[i, c]))
        found, precisions = 0, []
        for rank, i in enumerate(order, start=1):
            if targets[i, c]:
                found += 1
                precisions.append(found / rank)
        per_class.append(100 * np.mean(precisions) if precisions else np.nan)
    return np.nanmean(per_class), np.array(per_class)


def random_case(n, classes, rate, seed=0, levels=None):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n, classes)) if levels is None else rng.integers(0, levels, (n, classes)) / 2.0
    return scores.astype(np.float32), rng.random((n, classes)) < rate


def test_hand_computed():
    scores = np.array([[0.9], [0.8], [0.7], [0.6]])
    targets = np.array([[1, 0], [0, 1], [1, 0], [0, 1]])
    both = np.hstack([scores, scores])
    mean, per_class = charades_map(both, targets)
    assert per_class == pytest.approx([100 * (1 + 2 / 3) / 2, 100 * (1 / 2 + 2 / 4) / 2])
    assert mean == pytest.approx(np.mean(per_class))


def test_a_class_without_positives_is_excluded_and_reported():
    scores, targets = random_case(30, 4, 0.3)
    targets[:, 2] = False
    mean, per_class = charades_map(scores, targets)
    assert np.isnan(per_class).tolist() == [False, False, True, False]
    assert mean == pytest.approx(np.nanmean(per_class))


def test_videos_without_labels_rank_last():
    scores = np.array([[0.9], [0.5], [0.1]])
    targets = np.array([[0, 0], [0, 1], [1, 0]])
    two = np.hstack([scores, -scores])
    mean, per_class = charades_map(two, targets)
    assert per_class[0] == pytest.approx(50.0)
    assert charades_map(two[1:], targets[1:])[0] == pytest.approx(mean)


def test_scores_are_compared_across_videos_without_a_softmax_per_video():
    scores = np.array([[9.0, 9.0], [1.0, -9.0]])
    targets = np.array([[1, 1], [0, 1]])
    softmaxed = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    assert charades_map(scores, targets)[1][0] == 100.0
    assert charades_map(softmaxed, targets)[1][0] == 50.0


def test_ties_count_against_the_model():
    targets = np.array([[1, 0], [0, 1], [0, 1], [0, 1]])
    assert charades_map(np.zeros((4, 2)), targets)[1][0] == pytest.approx(25.0)


@given(st.integers(0, 500))
def test_ties_do_not_depend_on_the_order_of_videos(seed):
    scores, targets = random_case(15, 3, 0.3, seed, levels=3)
    order = np.random.default_rng(seed).permutation(15)
    np.testing.assert_array_equal(charades_map(scores, targets)[1], charades_map(scores[order], targets[order])[1])


@pytest.mark.parametrize("levels", [None, 4])
@pytest.mark.parametrize("seed", range(5))
def test_equals_the_loop(levels, seed):
    scores, targets = random_case(60, 9, 0.08, seed, levels)
    mean, per_class = charades_map(scores, targets)
    expected_mean, expected = slow_map(scores, targets)
    np.testing.assert_allclose(per_class, expected, rtol=1e-12)
    assert mean == pytest.approx(expected_mean, rel=1e-12)


@pytest.mark.filterwarnings("ignore:No positive samples")
def test_agrees_with_torchmetrics_where_definitions_agree():
    scores, targets = random_case(300, 12, 0.1)
    targets[:, 5] = False
    targets[:, 0] |= ~targets.any(1)
    scores = 1 / (1 + np.exp(-scores))
    theirs = multilabel_average_precision(
        torch.from_numpy(scores), torch.from_numpy(targets).long(), num_labels=12, average=None
    ).numpy()
    mean, per_class = charades_map(scores, targets)
    defined = ~np.isnan(per_class)
    np.testing.assert_allclose(per_class[defined], 100 * theirs[defined], rtol=1e-5)
    assert mean == pytest.approx(100 * theirs[defined].mean(), rel=1e-5)


def test_real_size_is_fast_and_equals_the_loop():
    scores, targets = random_case(7860, 157, 0.04)
    took = []
    for _ in range(3):
        start = time.perf_counter()
        mean, per_class = charades_map(scores, targets)
        took.append(time.perf_counter() - start)
    assert min(took) < 0.6
    kept = targets.any(1)
    assert charades_map(scores[kept], targets[kept])[0] == pytest.approx(mean)
    for c in range(0, 157, 40):
        hits = targets[kept, c][np.argsort(-scores[kept, c])]
        precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
        assert per_class[c] == pytest.approx(100 * precision[hits].mean(), rel=1e-9)


def test_tensors_and_half_precision_are_accepted():
    scores, targets = random_case(40, 5, 0.2)
    mean, _ = charades_map(torch.from_numpy(scores), torch.from_numpy(targets))
    assert mean == charades_map(scores, targets.astype(np.uint8))[0]
    charades_map(torch.from_numpy(scores).bfloat16(), targets)


def test_the_inputs_are_not_changed():
    scores, targets = random_case(10, 3, 0.1)
    scores = scores.astype(np.float64)
    before = scores.copy()
    charades_map(scores, targets)
    np.testing.assert_array_equal(scores, before)


def test_invalid_input_and_no_labels():
    scores, targets = random_case(5, 3, 0.5)
    scores[2, 1] = np.nan
    with pytest.raises(ValueError, match="1 of 5 videos"):
        charades_map(scores, targets)
    with pytest.raises(ValueError, match="0 or 1"):
        charades_map(np.zeros((2, 2)), np.array([[0, 2], [1, 0]]))
    mean, per_class = charades_map(np.zeros((2, 2)), np.zeros((2, 2), bool))
    assert np.isnan(mean)
    assert np.isnan(per_class).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_minus_infinity_and_every_dtype_equal_the_loop(dtype):
    rng = np.random.default_rng(3)
    scores, targets = rng.integers(-3, 4, (40, 6)).astype(dtype), rng.random((40, 6)) < 0.4
    scores[rng.random(scores.shape) < 0.2] = -np.inf
    scores[0] = -0.0  # equal to 0
    np.testing.assert_allclose(charades_map(scores, targets)[1], slow_map(scores, targets)[1], rtol=1e-12)
