"""Ranking losses against loops over pairs and items in float64, value and gradient, and by hand."""

import pytest
import torch
from torch import Tensor

from clep.errors import InputError
from clep.losses import AdaptiveMaxMarginLoss, MaxMarginLoss, SymmetricMultiSimilarityLoss
from tests.losses.slow_losses import embeddings


def slow(of_item):
    """The mean over both directions, pairs and items; `of_item` gives None for an item that is left out."""

    def loss(video: Tensor, text: Tensor, weight: Tensor) -> Tensor:
        means = []
        for queries, items, relevancy in ((video, text, weight), (text, video, weight.T)):
            terms = []
            for i in range(len(queries)):
                for k in range(len(items)):
                    if k != i:
                        gap = torch.dot(queries[i], items[i]) - torch.dot(queries[i], items[k])
                        term = of_item(gap, float(relevancy[i, i]), float(relevancy[i, k]))
                        terms += [] if term is None else [term]
            means.append(sum(terms) / len(terms))
        return sum(means) / 2

    return loss


def positive(value: Tensor) -> Tensor:
    return value.clamp(min=0)


def symmetric(gap: Tensor, own: float, other: float) -> Tensor:
    excess = (own - other) * 0.6 - gap
    if own - other > 0.01:
        return positive(excess)
    return positive(excess.abs() - 0.1) if abs(own - other) <= 0.01 else positive(-excess)


LOSSES = {
    "max margin": (MaxMarginLoss(0.2), slow(lambda gap, own, other: positive(0.2 - gap) if other < own else None)),
    "adaptive": (AdaptiveMaxMarginLoss(0.4), slow(lambda gap, own, other: positive(0.4 * own - gap))),
    "symmetric": (SymmetricMultiSimilarityLoss(0.6, 0.1, 0.01), slow(symmetric)),
}


def relevancies() -> dict[str, tuple[Tensor | None, Tensor]]:
    """Name to what the loss is given, and the matrix."""
    generator = torch.Generator().manual_seed(2)
    graded = torch.randint(0, 5, (6, 6), generator=generator) / 4
    graded[torch.arange(6), torch.arange(6)] = torch.tensor([1, 1, 0.75, 0.5, 1, 1])
    same = torch.eye(6, dtype=torch.bool)
    same[0, 2] = same[2, 0] = True
    return {"diagonal": (None, torch.eye(6)), "graded": (graded, graded), "equal texts": (same, same.float())}


@pytest.mark.parametrize("name", list(LOSSES))
@pytest.mark.parametrize("case", list(relevancies()))
def test_value_and_gradient_are_the_definition(name: str, case: str) -> None:
    loss, reference = LOSSES[name]
    given, weight = relevancies()[case]
    for seed in range(3):
        video, text, scale, _ = embeddings(6, 6, seed=seed)
        exact = [side.detach().double().requires_grad_() for side in (video, text)]
        expected = reference(*exact, weight)
        slopes = torch.autograd.grad(expected, exact)
        for dtype, close in ((torch.float32, 1e-6), (torch.float64, 1e-12)):
            ours = [side.detach().to(dtype).requires_grad_() for side in (video, text)]
            value = loss(*ours, scale, given)
            assert value.dtype == dtype
            torch.testing.assert_close(value.double(), expected, rtol=0, atol=close)
            for found, wanted in zip(torch.autograd.grad(value, ours), slopes, strict=True):
                torch.testing.assert_close(found.double(), wanted, rtol=0, atol=close)


def test_by_hand_as_the_published_code() -> None:
    """Similarities [[0.9, 0.8], [0.1, 0.5]]: of four differences 0.1, 0.4, 0.8 and -0.3, two are below 0.2."""
    video, text = torch.eye(2), torch.tensor([[0.9, 0.1], [0.8, 0.5]])
    assert MaxMarginLoss(0.2)(video, text, 1.0).item() == pytest.approx((0.1 + 0 + 0 + 0.5) / 4)
    weight = torch.tensor([[1.0, 0.2], [0.2, 0.5]])
    found = AdaptiveMaxMarginLoss(0.4)(video, text, 1.0, weight)
    assert found.item() == pytest.approx((0.3 + 0 + 0 + 0.5) / 4)


def test_relevancies_0_and_1_make_the_symmetric_loss_a_max_margin_loss() -> None:
    video, text, scale, _ = embeddings(8, 8)
    expected = MaxMarginLoss(0.3)(video, text, scale, torch.eye(8))
    torch.testing.assert_close(SymmetricMultiSimilarityLoss(0.3)(video, text, scale, torch.eye(8)), expected)


def test_similarities_that_differ_as_the_relevancies_do_cost_nothing() -> None:
    """Similarities 0.6 times the relevancy, here by coordinates: the optimum of the symmetric loss."""
    weight = torch.tensor([[1.0, 0.5, 0.0], [0.5, 1.0, 0.25], [0.0, 0.25, 1.0]])
    assert SymmetricMultiSimilarityLoss(0.6)(torch.eye(3), 0.6 * weight, 1.0, weight).item() < 1e-7
    assert SymmetricMultiSimilarityLoss(0.6)(torch.eye(3), 0.6 * weight.flip(0), 1.0, weight).item() > 0.05


def test_the_scale_has_a_gradient_of_zero() -> None:
    """DDP waits for the gradient of every parameter."""
    video, text, scale, _ = embeddings(4, 4)
    MaxMarginLoss()(video, text, scale.requires_grad_()).backward()
    assert scale.grad is not None
    assert scale.grad.item() == 0


def test_what_cannot_be_ranked_is_refused() -> None:
    video, text, scale, _ = embeddings(3, 3)
    with pytest.raises(ValueError, match="every item is as relevant as the paired one"):
        MaxMarginLoss()(video, text, scale, torch.ones(3, 3))
    with pytest.raises(ValueError, match="3 videos and 2 texts"):
        MaxMarginLoss()(video, text[:2], scale)
    with pytest.raises(InputError, match="margin=0 must be above 0"):
        MaxMarginLoss(0)
    with pytest.raises(InputError, match="slack=-1"):
        SymmetricMultiSimilarityLoss(slack=-1)
