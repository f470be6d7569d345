import pytest
import torch
from torch.nn import functional as F

from clep.losses import ClipLoss, EgoNCELoss, MultiPositiveNCELoss
from tests.losses.slow_losses import embeddings


def test_with_one_positive_an_item_it_is_clip():
    video, text, scale, _ = embeddings(6, 6)
    order = torch.eye(6, dtype=torch.bool)[torch.randperm(6)]
    for positives in (None, order):
        torch.testing.assert_close(
            MultiPositiveNCELoss()(video, text, scale, positives), ClipLoss()(video, text, scale, positives)
        )


def test_one_similar_positive_is_enough():
    text = torch.eye(4)
    positives = torch.tensor([[True, True, False, False]])
    found = text[:1]
    assert float(MultiPositiveNCELoss()(found, text, 50.0, positives)) == pytest.approx(0, abs=1e-6)
    assert float(ClipLoss()(found, text, 50.0, positives)) > 10


def test_zero_if_everything_is_positive():
    video, text, scale, _ = embeddings(4, 5)
    value = MultiPositiveNCELoss()(video, text, scale, torch.ones(4, 5, dtype=torch.bool))
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert video.grad.abs().max() < 1e-6


def published_egonce(similarity, temperature, mask):
    """EgoVLP's published form: the logarithm of a sum of softmaxes, both directions added."""
    rows, columns = F.softmax(similarity / temperature, dim=1), F.softmax(similarity.T / temperature, dim=1)
    return -torch.log((rows * mask).sum(1)).mean() - torch.log((columns * mask.T).sum(1)).mean()


def test_egonce_is_half_of_the_published_sum_if_that_is_finite():
    video, text, _, _ = embeddings(12, 12)
    mask = (torch.rand(12, 12) < 0.2) | torch.eye(12, dtype=torch.bool)
    ours = EgoNCELoss()(video.double(), text.double(), 1 / 0.05, mask)
    published = published_egonce(video.double() @ text.double().T, 0.05, mask)
    torch.testing.assert_close(ours * 2, published, rtol=1e-12, atol=1e-12)


def test_egonce_is_finite_when_the_published_form_is_not():
    text = F.normalize(torch.randn(4, 8), dim=-1)
    video = -text
    mask = torch.eye(4, dtype=torch.bool)
    assert torch.isinf(published_egonce(video @ text.T, 1 / 100, mask))
    assert 50 < float(EgoNCELoss()(video, text, 100.0, mask)) < 300
