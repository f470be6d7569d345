import torch
from hypothesis import given
from hypothesis import strategies as st

from clep.losses import TextIdPositives, text_id_positives


def test_equal_sentences_are_positives_and_unknown_ones_match_by_position():
    video, text = torch.tensor([4, 9, -1, 4, -1]), torch.tensor([4, 9, -1, 4, -1, 9])
    expected = torch.tensor(
        [
            [1, 0, 0, 1, 0, 0],
            [0, 1, 0, 0, 0, 1],
            [0, 0, 1, 0, 0, 0],
            [1, 0, 0, 1, 0, 0],
            [0, 0, 0, 0, 1, 0],
        ]
    ).bool()
    assert torch.equal(text_id_positives(video, text), expected)


@given(st.lists(st.integers(-2, 4), min_size=1, max_size=12))
def test_the_diagonal_is_positive_and_the_matrix_symmetric(ids):
    ids = torch.tensor(ids)
    positives = text_id_positives(ids, ids)
    assert positives.diagonal().all()
    assert torch.equal(positives, positives.T)
    for i, a in enumerate(ids.tolist()):
        for j, b in enumerate(ids.tolist()):
            assert bool(positives[i, j]) == ((a == b and a >= 0) or i == j)


def test_the_rule_equals_the_function():
    ids = torch.tensor([3, -1, 3, -1, 5, 3], dtype=torch.int32)
    keys = {"text_id": ids, "position": torch.arange(6)}
    assert torch.equal(TextIdPositives()(keys, keys), text_id_positives(ids, ids))
