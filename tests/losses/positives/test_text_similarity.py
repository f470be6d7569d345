import pytest
import torch
from torch.nn import functional as F

from clep.errors import InputError
from clep.losses import ClipLoss, TextSimilarityPositives


def keys(text):
    return {"text": text, "position": torch.arange(len(text))}


def test_weights_are_cosines_above_the_threshold():
    text = torch.randn(9, 3) * torch.arange(1, 10)[:, None]
    found = TextSimilarityPositives(0.5)(keys(text), keys(text))
    hard = TextSimilarityPositives(0.5, soft=False)(keys(text), keys(text))
    for i in range(9):
        for j in range(9):
            cosine = float(F.cosine_similarity(text[i], text[j], dim=0))
            assert float(found[i, j]) == pytest.approx(cosine if cosine >= 0.5 else 0.0, abs=1e-5)
            assert bool(hard[i, j]) == (cosine >= 0.5)


def test_equal_texts_are_positives_at_threshold_1_and_zero_embeddings_of_their_own_video():
    text = torch.randn(64, 768)[torch.arange(64) // 2]
    text[5] = 0
    found = TextSimilarityPositives(1.0, soft=False)(keys(text), keys(text))
    expected = torch.arange(64)[:, None] // 2 == torch.arange(64) // 2
    expected[5], expected[:, 5] = torch.arange(64) == 5, torch.arange(64) == 5
    assert torch.equal(found, expected)


def test_half_precision_embeddings_are_compared_in_float32():
    text = torch.randn(20, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = TextSimilarityPositives(0.3)(keys(text), keys(text))
    assert torch.equal(found, TextSimilarityPositives(0.3)(keys(text), keys(text)))
    assert TextSimilarityPositives(0.3)(keys(text.half()), keys(text.half())).dtype == torch.float32


@pytest.mark.parametrize("soft", [True, False])
def test_targets_sum_to_1_unlike_in_the_research_code(soft):
    """There the labels are (1 + cosine) / 2, not normalised: a moment with many similar texts has a larger weight."""
    text, video = F.normalize(torch.randn(1, 6), dim=-1).repeat(5, 1), F.normalize(torch.randn(5, 6), dim=-1)
    weights = TextSimilarityPositives(0.9, soft)(keys(text), keys(text))
    ours, logits = ClipLoss()(video, text, 10.0, weights), 10 * video @ text.T
    labels = (1 + text @ text.T) / 2
    existing = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
    torch.testing.assert_close(ours * 5, existing)
    torch.testing.assert_close(ours, ClipLoss()(video, text, 10.0, weights.float() * 3))


@pytest.mark.parametrize("threshold", [0, -0.5, 1.5])
def test_a_threshold_out_of_range_is_refused(threshold):
    with pytest.raises(InputError, match=r"positives\.threshold"):
        TextSimilarityPositives(threshold)


def test_tokens_instead_of_embeddings_are_refused():
    with pytest.raises(ValueError, match=r"not \(3, 4, 5\)"):
        TextSimilarityPositives()(keys(torch.ones(3, 4, 5)), keys(torch.ones(3, 4, 5)))
