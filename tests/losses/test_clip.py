"""ClipLoss against a loop that writes the definition out, values and gradients."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from clep.losses import ClipLoss


def slow_clip_loss(video, text, scale, weight):
    """The definition, pair by pair: each item's cross-entropy to its normalised targets, averaged by direction."""

    def direction(queries, items, weight):
        losses = []
        for i, query in enumerate(queries):
            total = sum(float(w) for w in weight[i])
            if total == 0:
                continue
            logits = [scale * torch.dot(query, item) for item in items]
            log_sum = torch.logsumexp(torch.stack(logits), 0)
            losses.append(sum(float(weight[i, j]) / total * (log_sum - logits[j]) for j in range(len(items))))
        return sum(losses) / len(losses)

    return (direction(video, text, weight) + direction(text, video, weight.T)) / 2


def embeddings(n, m, dim=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    video, text = torch.randn(n, dim, generator=generator), torch.randn(m, dim, generator=generator)
    scale = torch.tensor(7.0)
    return tuple(side.requires_grad_() for side in (F.normalize(video, dim=-1), F.normalize(text, dim=-1), scale))


def compare(n, m, positives, weight, seed=0):
    fast, slow = embeddings(n, m, seed=seed), embeddings(n, m, seed=seed)
    value, expected = ClipLoss()(*fast, positives), slow_clip_loss(*slow, weight)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(torch.autograd.grad(value, fast), torch.autograd.grad(expected, slow), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_diagonal_is_the_definition():
    compare(6, 6, None, torch.eye(6))


def test_identity_positives_are_the_fast_path():
    video, text, scale = embeddings(8, 8)
    plain = ClipLoss()(video, text, scale)
    torch.testing.assert_close(plain, ClipLoss()(video, text, scale, torch.eye(8, dtype=torch.bool)))


def test_several_positives_and_items_without_any():
    positives = torch.zeros(5, 7, dtype=torch.bool)
    positives[0, [0, 3]] = positives[1, 1] = positives[3, [3, 4, 5]] = positives[4, 3] = True
    compare(5, 7, positives, positives.float())


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 10_000))
def test_weights_are_normalised_by_row_and_by_column(n, m, seed):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.rand(n, m, generator=generator) * (torch.rand(n, m, generator=generator) < 0.6)
    weight[0, 0] = 0.5
    compare(n, m, weight, weight, seed=seed)


def test_targets_sum_to_one_so_that_repeated_sentences_do_not_weigh_more():
    video, text, scale = embeddings(4, 4)
    equal = torch.ones(4, 4, dtype=torch.bool)
    logits = scale * video @ text.T
    unnormalised = -(F.log_softmax(logits, 1).sum(1).mean() + F.log_softmax(logits, 0).sum(0).mean()) / 2
    torch.testing.assert_close(ClipLoss()(video, text, scale, equal) * 4, unnormalised)


def test_hand_computed():
    video = text = torch.eye(2)
    expected = math.log(math.exp(3.0) + 1) - 3.0
    assert float(ClipLoss()(video, text, 3.0)) == pytest.approx(expected, abs=1e-6)


def test_scale_is_the_multiplier_not_its_logarithm():
    video, text, _ = embeddings(5, 5)
    log_scale = torch.tensor(2.0)
    loss = ClipLoss()
    torch.testing.assert_close(loss(video, text, log_scale.exp()), loss(video * log_scale.exp(), text, 1.0))
    assert not torch.isclose(loss(video, text, log_scale.exp()), loss(video, text, log_scale))


def test_autocast_does_not_reach_it():
    video, text, scale = embeddings(32, 32)
    outside = ClipLoss()(video, text, scale)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = ClipLoss()(video, text, scale)
        rough = F.cross_entropy(scale * video @ text.T, torch.arange(32))
        half = ClipLoss()(video.bfloat16(), text.bfloat16(), scale)
    assert inside.dtype == half.dtype == torch.float32
    assert torch.equal(outside, inside)
    assert not torch.isclose(rough.float(), outside, rtol=1e-5)


def test_stays_finite_at_a_large_scale():
    video, text, _ = embeddings(16, 16)
    value = ClipLoss()(video, text, 1e4, torch.eye(16, dtype=torch.bool))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(video.grad).all()


def test_float64_stays_float64():
    video, text, scale = (value.detach().double().requires_grad_() for value in embeddings(4, 4))
    positives = torch.eye(4, dtype=torch.bool) | (torch.arange(16).reshape(4, 4) % 3 == 0)
    assert torch.autograd.gradcheck(lambda *a: ClipLoss()(*a, positives), (video, text, scale))


@pytest.mark.parametrize("with_positives", [False, True])
def test_shares_add_up_to_the_loss(with_positives):
    video, text, scale = embeddings(6, 6)
    positives = torch.rand(6, 6) < 0.4 if with_positives else None
    if positives is not None:
        positives[0], positives[1, 1] = False, True
    sums, counts = torch.zeros(2), torch.zeros(2)
    for first, last in ((0, 1), (1, 4), (4, 6)):
        own = slice(first, last)
        rows = None if positives is None else positives[own]
        columns = None if positives is None else positives[:, own]
        part, count = ClipLoss().share(video, text, own, scale, rows, columns)
        sums, counts = sums + part, counts + count
    torch.testing.assert_close((sums / counts).mean(), ClipLoss()(video, text, scale, positives))


def test_unequal_sides_need_positives():
    video, text, scale = embeddings(3, 4)
    with pytest.raises(ValueError, match="3 videos and 4 texts"):
        ClipLoss()(video, text, scale)


def test_nothing_to_learn_from_is_an_error():
    video, text, scale = embeddings(3, 4)
    with pytest.raises(ValueError, match="nothing to learn"):
        ClipLoss()(video, text, scale, torch.zeros(3, 4, dtype=torch.bool))
