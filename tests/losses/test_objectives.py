"""Every objective against its definition, value and gradient, for every kind of positives; finite at any scale."""

import pytest
import torch
from torch.nn import functional as F

from clep.losses import BCELoss, ClipLoss, EgoNCELoss, MultiPositiveNCELoss, SigmoidLoss
from tests.losses.slow_losses import SLOW, cases, compare, embeddings

OBJECTIVES = {
    "clip": (ClipLoss(), "clip"),
    "mil_nce": (MultiPositiveNCELoss(), "nce"),
    "egonce": (EgoNCELoss(), "nce"),
    "siglip": (SigmoidLoss(), "sigmoid"),
    "siglip by 2": (SigmoidLoss(chunk=2), "sigmoid"),
    "bce": (BCELoss(), "bce"),
    "bce by 3": (BCELoss(chunk=3), "bce"),
}
CASES = cases()
each_objective = pytest.mark.parametrize("name", list(OBJECTIVES))


@each_objective
@pytest.mark.parametrize("case", list(CASES))
def test_value_and_gradient_equal_the_definition(name, case):
    loss, slow = OBJECTIVES[name]
    n, m, positives, weight = CASES[case]
    for seed in range(3):
        compare(loss, slow, embeddings(n, m, seed=seed), positives, weight)


@each_objective
@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_finite_at_any_scale_for_all_wrong_and_all_correct_pairs(name, scale):
    loss, slow = OBJECTIVES[name]
    _, _, positives, weight = CASES["rows and columns without any"]
    text = F.normalize(torch.randn(7, 4), dim=-1)
    for side in (-text[:5], text[:5]):
        arguments = [t.clone().requires_grad_() for t in (side, text, torch.tensor(scale), torch.tensor(-10.0))]
        value = loss(*arguments[:3], positives, arguments[3])
        slopes = torch.autograd.grad(value, arguments, allow_unused=True)
        assert torch.isfinite(value)
        assert all(torch.isfinite(slope).all() for slope in slopes if slope is not None)
        exact = [t.detach().double() for t in arguments]
        expected = SLOW[slow](*exact[:3], weight, exact[3])
        if torch.isfinite(expected):  # the definition's logarithm of 1 - 1 is not
            torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-5)


@each_objective
def test_autocast_has_no_effect(name):
    loss, _ = OBJECTIVES[name]
    video, text, scale, bias = embeddings(32, 32)
    positives = torch.eye(32, dtype=torch.bool)
    outside = loss(video, text, scale, positives, bias)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(video, text, scale, positives, bias)
        half = loss(video.bfloat16(), text.bfloat16(), scale, positives, bias)
        half.backward()
    assert inside.dtype == half.dtype == torch.float32
    assert torch.equal(outside, inside)
    assert torch.isfinite(video.grad).all()


@each_objective
def test_unequal_sides_need_positives(name):
    loss, _ = OBJECTIVES[name]
    with pytest.raises(ValueError, match="3 videos and 4 texts"):
        loss(*embeddings(3, 4)[:3])


@each_objective
@pytest.mark.parametrize("case", ["the diagonal", "weights", "equal texts"])
def test_shares_add_up_to_the_loss(name, case):
    loss, _ = OBJECTIVES[name]
    video, text, scale, bias = embeddings(6, 6)
    positives = {"the diagonal": None, "weights": torch.rand(6, 6) * (torch.rand(6, 6) < 0.4)}.get(
        case, torch.ones(6, 6, dtype=torch.bool)
    )
    if case == "weights":
        positives[0], positives[1, 1] = 0, 0.7
    sums, counts = 0.0, 0.0
    for first, last in ((0, 1), (1, 4), (4, 6)):
        own = slice(first, last)
        rows = None if positives is None else positives[own]
        columns = None if positives is None else positives[:, own]
        part, count = loss.share(video, text, own, scale, rows, columns, bias)
        sums, counts = sums + part, counts + count
    torch.testing.assert_close((sums / counts).mean(), loss(video, text, scale, positives, bias))
