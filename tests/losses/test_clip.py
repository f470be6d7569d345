"""Properties of ClipLoss; test_objectives.py compares all objectives with their definitions."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from clep.losses import ClipLoss
from tests.losses.slow_losses import compare, embeddings


def test_identity_positives_equal_the_fast_path():
    video, text, scale, _ = embeddings(8, 8)
    plain = ClipLoss()(video, text, scale)
    torch.testing.assert_close(plain, ClipLoss()(video, text, scale, torch.eye(8, dtype=torch.bool)))


@settings(max_examples=15)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 10_000))
def test_weights_are_normalised_by_row_and_by_column(n, m, seed):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.rand(n, m, generator=generator) * (torch.rand(n, m, generator=generator) < 0.6)
    weight[0, 0] = 0.5
    compare(ClipLoss(), "clip", embeddings(n, m, seed=seed), weight, weight)


def test_targets_sum_to_one_so_that_repeated_sentences_do_not_weigh_more():
    video, text, scale, _ = embeddings(4, 4)
    equal = torch.ones(4, 4, dtype=torch.bool)
    logits = scale * video @ text.T
    unnormalised = -(F.log_softmax(logits, 1).sum(1).mean() + F.log_softmax(logits, 0).sum(0).mean()) / 2
    torch.testing.assert_close(ClipLoss()(video, text, scale, equal) * 4, unnormalised)


def test_hand_computed():
    video = text = torch.eye(2)
    expected = math.log(math.exp(3.0) + 1) - 3.0
    assert float(ClipLoss()(video, text, 3.0)) == pytest.approx(expected, abs=1e-6)


def test_scale_is_the_multiplier_not_its_logarithm():
    video, text, *_ = embeddings(5, 5)
    log_scale = torch.tensor(2.0)
    loss = ClipLoss()
    torch.testing.assert_close(loss(video, text, log_scale.exp()), loss(video * log_scale.exp(), text, 1.0))
    assert not torch.isclose(loss(video, text, log_scale.exp()), loss(video, text, log_scale))


def test_computed_in_float32_under_autocast():
    video, text, scale, _ = embeddings(32, 32)
    outside = ClipLoss()(video, text, scale)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside, rough = ClipLoss()(video, text, scale), F.cross_entropy(scale * video @ text.T, torch.arange(32))
    assert torch.equal(outside, inside)
    assert not torch.isclose(rough.float(), outside, rtol=1e-5)


def test_stays_finite_at_a_large_scale():
    video, text, *_ = embeddings(16, 16)
    value = ClipLoss()(video, text, 1e4, torch.eye(16, dtype=torch.bool))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(video.grad).all()


def test_gradients_are_exact():
    video, text, scale = (value.detach().double().requires_grad_() for value in embeddings(4, 4)[:3])
    positives = torch.eye(4, dtype=torch.bool) | (torch.arange(16).reshape(4, 4) % 3 == 0)
    assert torch.autograd.gradcheck(lambda *a: ClipLoss()(*a, positives), (video, text, scale))


def test_a_batch_without_positives_is_refused():
    video, text, scale, _ = embeddings(3, 4)
    with pytest.raises(ValueError, match="no video has a positive text"):
        ClipLoss()(video, text, scale, torch.zeros(3, 4, dtype=torch.bool))
