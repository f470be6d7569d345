import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from torchmetrics.functional.retrieval import retrieval_hit_rate, retrieval_reciprocal_rank

from clep.metrics import retrieval_from_embeddings, retrieval_metrics


def slow_ranks(similarity, positives):
    ranks = []
    for row, right in zip(similarity.tolist(), positives.tolist(), strict=True):
        best = max(s for s, ok in zip(row, right, strict=True) if ok)
        ranks.append(1 + sum(s >= best and not ok for s, ok in zip(row, right, strict=True)))
    return np.array(ranks)


def test_hand_computed():
    similarity = torch.tensor([[0.9, 0.1, 0.2], [0.8, 0.5, 0.6], [0.1, 0.2, 0.3]])
    expected = {"r1": 200 / 3, "r5": 100.0, "r10": 100.0, "median_rank": 1.0, "mean_rank": 5 / 3}
    assert retrieval_metrics(similarity) == pytest.approx(expected)


def test_ties_count_against_the_model():
    metrics = retrieval_metrics(np.zeros((20, 20), np.float32))
    assert metrics == {"r1": 0, "r5": 0, "r10": 0, "median_rank": 20, "mean_rank": 20}


def test_other_positives_do_not_lower_the_rank():
    positives = torch.tensor([[True, True, True, False]])
    assert retrieval_metrics(torch.tensor([[0.5, 0.9, 0.9, 0.7]]), positives)["mean_rank"] == 1


def test_equal_sentences_are_positives():
    text = F.normalize(torch.randn(6, 8), dim=-1).repeat(4, 1)
    text_id = torch.arange(6).repeat(4)
    assert retrieval_metrics(text @ text.T)["r1"] < 100
    assert retrieval_from_embeddings(text, text, text_id, text_id)["r1"] == 100


def test_the_median_of_an_even_number_is_the_mean_of_the_middle_two():
    similarity = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert retrieval_metrics(similarity)["median_rank"] == 1.5


@given(st.integers(0, 1000), st.integers(1, 12), st.integers(1, 12))
def test_equals_the_loop(seed, n, m):
    rng = np.random.default_rng(seed)
    similarity = rng.integers(0, 5, (n, m)).astype(np.float32)
    positives = rng.random((n, m)) < 0.3
    positives[:, rng.integers(m)] = True
    ranks = slow_ranks(similarity, positives)
    metrics = retrieval_metrics(similarity, positives)
    assert metrics["r5"] == pytest.approx(100 * (ranks <= 5).mean())
    assert metrics["median_rank"] == np.median(ranks)
    assert metrics["mean_rank"] == pytest.approx(ranks.mean())


def test_agrees_with_torchmetrics_without_ties():
    """torchmetrics ignores answers with a score of 0 or less; the exponential keeps the order and avoids that."""
    query, gallery = torch.randn(50, 6), torch.randn(80, 6)
    query_id, gallery_id = torch.randint(10, (50,)), torch.cat([torch.arange(10), torch.randint(10, (70,))])
    similarity, positives = (query @ gallery.T).exp(), query_id[:, None] == gallery_id[None]
    metrics = retrieval_metrics(similarity, positives)
    pairs = list(zip(similarity, positives, strict=True))
    for k in (1, 5, 10):
        theirs = np.mean([float(retrieval_hit_rate(*pair, top_k=k)) for pair in pairs])
        assert metrics[f"r{k}"] == pytest.approx(100 * theirs)
    ranks = [1 / float(retrieval_reciprocal_rank(*pair)) for pair in pairs]
    assert metrics["mean_rank"] == pytest.approx(np.mean(ranks), rel=1e-5)
    assert metrics["median_rank"] == pytest.approx(np.median(ranks), rel=1e-5)


@pytest.mark.parametrize("chunk", [1, 7, 16, 4096])
def test_chunks_do_not_change_the_result(chunk):
    query, gallery = (F.normalize(torch.randn(rows, 16), dim=-1) for rows in (40, 90))
    query_id, gallery_id = torch.arange(40) % 30, torch.arange(90) % 30
    whole = retrieval_metrics(query @ gallery.T, query_id[:, None] == gallery_id[None])
    assert retrieval_from_embeddings(query, gallery, query_id, gallery_id.numpy(), chunk) == pytest.approx(whole)


def test_autocast_changes_nothing():
    query, gallery = (F.normalize(torch.randn(300, 32), dim=-1) for _ in range(2))
    ids = torch.arange(300)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = retrieval_from_embeddings(query, gallery, ids, ids)
        rough = retrieval_metrics((query @ gallery.T).float())
    assert inside == retrieval_from_embeddings(query, gallery, ids, ids)
    assert inside != rough


def test_invalid_input():
    square = torch.zeros(2, 2)
    with pytest.raises(ValueError, match="1 of 2 queries have no correct answer"):
        retrieval_metrics(square, torch.tensor([[True, False], [False, False]]))
    with pytest.raises(ValueError, match="1 queries have similarities that are NaN"):
        retrieval_metrics(torch.tensor([[0.0, float("nan")], [0.0, 0.0]]))
    with pytest.raises(ValueError, match="2 queries and 3 answers"):
        retrieval_metrics(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="no queries"):
        retrieval_metrics(torch.zeros(0, 0))
    with pytest.raises(ValueError, match="chunk"):
        retrieval_from_embeddings(square, square, torch.arange(2), torch.arange(2), chunk=0)
