"""Scores of moments for classes, against NumPy and counting by hand."""

import math

import numpy as np
import pytest
import torch

from clep.answers import Classification, Hit, Moment

SCORES = torch.tensor([[0.1, 0.9, 0.5], [0.8, -0.2, 0.3]])


@pytest.fixture
def found() -> Classification:
    moments = [Moment("kitchen", 0.0, 4.0), Moment("garden", 2.5, 6.5)]
    return Classification(["cut", "wash", "open"], moments, SCORES, scale=20.0)


def test_labels_are_the_classes_with_the_highest_score(found: Classification) -> None:
    assert len(found) == 2
    assert found.labels == ["wash", "cut"]


def test_top_is_in_order_and_never_longer_than_the_classes(found: Classification) -> None:
    best = found.top(2)
    assert [[name for name, _ in of_moment] for of_moment in best] == [["wash", "open"], ["cut", "open"]]
    assert [[score for _, score in of_moment] for of_moment in best] == [
        pytest.approx([0.9, 0.5]),
        pytest.approx([0.8, 0.3]),
    ]
    assert [[name for name, _ in of_moment] for of_moment in found.top()] == [
        ["wash", "open", "cut"],
        ["cut", "open", "wash"],
    ]


def test_probabilities_are_a_softmax_of_scaled_scores(found: Classification) -> None:
    exponentials = [[math.exp(20.0 * score) for score in row] for row in SCORES.tolist()]
    expected = [[value / sum(row) for value in row] for row in exponentials]
    np.testing.assert_allclose(found.probabilities.numpy(), expected, rtol=1e-5)


def test_the_frame_has_a_row_per_moment(found: Classification) -> None:
    frame = found.to_frame()
    assert list(frame.columns) == ["video", "start_s", "end_s", "label", "cut", "wash", "open"]
    assert frame[["video", "start_s", "end_s", "label"]].to_numpy().tolist() == [
        ["kitchen", 0.0, 4.0, "wash"],
        ["garden", 2.5, 6.5, "cut"],
    ]
    np.testing.assert_array_equal(frame[["cut", "wash", "open"]].to_numpy(), SCORES.numpy())


def test_nothing_that_is_classified_is_an_empty_frame() -> None:
    nothing = Classification(["cut", "wash"], [], torch.zeros(0, 2), scale=1.0)
    assert (len(nothing), nothing.labels, nothing.top(), nothing.probabilities.shape) == (0, [], [], (0, 2))
    assert list(nothing.to_frame().columns) == ["video", "start_s", "end_s", "label", "cut", "wash"]


def test_a_hit_begins_with_the_fields_of_a_moment() -> None:
    """So that a hit can be given where a moment is expected: `Moment(*hit[:3])`."""
    assert Hit._fields[:3] == Moment._fields
    assert Hit("kitchen", 1.0, 2.0, 0.5).text == ""
