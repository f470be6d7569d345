import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.classification import multiclass_accuracy

from clep.metrics import egomcq_accuracy, mean_class_accuracy, topk_accuracy


def test_hand_computed():
    scores = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.3, 0.5], [0.1, 0.6, 0.3]])
    assert topk_accuracy(scores, torch.tensor([0, 1, 0]), ks=(1, 2, 3)) == {
        1: pytest.approx(100 / 3),
        2: pytest.approx(200 / 3),
        3: 100.0,
    }


def test_ties_count_against_the_model():
    constant = torch.zeros(4, 10)
    assert topk_accuracy(constant, torch.tensor([0, 3, 5, 9]), ks=(1, 5, 9, 10)) == {1: 0, 5: 0, 9: 0, 10: 100}


@given(st.integers(0, 1000))
def test_ties_do_not_depend_on_the_order_of_classes(seed):
    rng = np.random.default_rng(seed)
    scores, target = rng.integers(0, 3, (20, 7)).astype(np.float32), rng.integers(0, 7, 20)
    order = rng.permutation(7)
    shuffled = topk_accuracy(scores[:, order], np.argsort(order)[target], ks=(1, 2, 5))
    assert shuffled == topk_accuracy(scores, target, ks=(1, 2, 5))


@pytest.mark.parametrize("k", [1, 5])
def test_agrees_with_torchmetrics_without_ties(k):
    scores, target = torch.randn(500, 40), torch.randint(40, (500,))
    theirs = multiclass_accuracy(scores, target, num_classes=40, top_k=k, average="micro")
    assert topk_accuracy(scores, target, ks=(k,))[k] == pytest.approx(100 * float(theirs), abs=1e-4)


def test_k_of_all_classes_gives_100():
    assert topk_accuracy(torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2]), ks=(5,)) == {5: 100.0}


@pytest.mark.parametrize(
    ("scores", "target", "ks", "message"),
    [
        (torch.tensor([[0.0, float("nan")]]), [0], (1,), "1 of 1 items"),
        (torch.zeros(1, 2), [2], (1,), r"\[0, 2\)"),
        (torch.zeros(1, 2), [-1], (1,), r"\[0, 2\)"),
        (torch.zeros(0, 2), [], (1,), "no items"),
        (torch.zeros(1, 2), [0], (0,), "at least 1"),
    ],
)
def test_invalid_input(scores, target, ks, message):
    with pytest.raises(ValueError, match=message):
        topk_accuracy(scores, torch.tensor(target, dtype=torch.int64), ks=ks)


def test_mean_class_accuracy_weighs_classes_alike() -> None:
    target = np.array([0, 0, 0, 2, 2])
    scores = np.eye(4, dtype=np.float32)[[0, 0, 1, 2, 3]]
    assert mean_class_accuracy(scores, target) == pytest.approx(100 * (2 / 3 + 1 / 2) / 2)
    assert mean_class_accuracy(np.zeros((5, 4), np.float32), target) == 0


def test_egomcq_group_names() -> None:
    similarity = np.eye(5, dtype=np.float32)[[0, 1, 2, 3]]
    similarity[3] = 1  # a tie is wrong
    found = egomcq_accuracy(similarity, np.array([0, 0, 2, 3]), [1, 1, 2, 2])
    assert found == {"inter": 50.0, "intra": 50.0}
    assert egomcq_accuracy(similarity[:1], np.array([0]), [1]) == {"inter": 100.0}
    with pytest.raises(ValueError, match="types must be 1 or 2"):
        egomcq_accuracy(similarity, np.array([0, 0, 2, 3]), [0, 1, 2, 2])
