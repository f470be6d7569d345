import ast
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from clep.metrics import mir_metrics, mir_relevancy

SAMPLES = Path(__file__).parents[2].parent / "shared/data/epic_kitchens"


def slow(similarity: np.ndarray, relevancy: np.ndarray) -> dict[str, float]:
    """Loop over queries and answers by the definition; among ties the least relevant answer is first."""
    out = {}
    for name, scores, relevant in (("v2t", similarity, relevancy), ("t2v", similarity.T, relevancy.T)):
        found = []
        for s, r in zip(scores, relevant, strict=True):
            order = sorted(range(len(s)), key=lambda i: (-s[i], r[i]))
            total, hits, official, binary, gain = 0.0, 0, [], [], 0.0
            counting = sum(value > 0 for value in r)
            for rank, i in enumerate(order, start=1):
                total += r[i]
                if r[i] == 1:
                    hits += 1
                    official.append(total / rank)
                    binary.append(hits / rank)
                if rank <= counting:
                    gain += r[i] / np.log2(rank + 1)
            best = sum(v / np.log2(rank + 1) for rank, v in enumerate(sorted(r, reverse=True)[:counting], start=1))
            found.append((np.mean(official), np.mean(binary), gain / best))
        for metric, value in zip(("mAP", "mAP_binary", "nDCG"), np.mean(found, axis=0), strict=True):
            out[f"{name}/{metric}"] = 100 * value
    return out | {f"mean/{m}": (out[f"v2t/{m}"] + out[f"t2v/{m}"]) / 2 for m in ("mAP", "mAP_binary", "nDCG")}


def actions(n: int, random: np.random.Generator) -> list[tuple[int, list[int]]]:
    return [
        (int(random.integers(3)), random.choice(5, random.integers(1, 4), replace=False).tolist()) for _ in range(n)
    ]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("levels", [None, 4])
def test_equals_the_definition(dtype: type, levels: int | None) -> None:
    random = np.random.default_rng(3)
    sentences = actions(40, random)
    clips = [*sentences, *(sentences[i] for i in random.integers(40, size=30))]
    relevancy = mir_relevancy(clips, sentences)
    similarity = random.standard_normal(relevancy.shape).astype(dtype) - 0.5
    if levels:  # many ties, both signs and both zeros
        similarity = np.round(similarity * levels) / levels
    found, expected = mir_metrics(similarity, relevancy), slow(similarity, relevancy)
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, abs=1e-9)
    assert mir_metrics(torch.from_numpy(similarity), torch.from_numpy(relevancy)) == found


def test_relevancy_by_hand() -> None:
    clips = [(1, [2, 3]), (1, []), (4, [2])]
    sentences = [(1, [3, 2]), (1, [2]), (5, []), (4, [2, 3, 9])]
    expected = [[1, 0.75, 0, 1 / 3], [0.5, 0.5, 0, 0], [0.25, 0.5, 0, (1 + 1 / 3) / 2]]
    np.testing.assert_allclose(mir_relevancy(clips, sentences), expected, rtol=1e-15)


def test_a_perfect_ranking_has_100_and_ties_count_against_the_model() -> None:
    relevancy = np.array([[1, 0.5, 0], [0.5, 1, 0], [0, 0, 1.0]])
    perfect = mir_metrics(relevancy, relevancy)
    assert perfect["mean/nDCG"] == pytest.approx(100)
    assert perfect["mean/mAP"] == pytest.approx(100)
    constant = mir_metrics(np.zeros((3, 3)), relevancy)
    assert constant["v2t/mAP_binary"] == pytest.approx(100 / 3)


@pytest.mark.parametrize(
    ("similarity", "relevancy", "message"),
    [
        (np.zeros((2, 3)), np.ones((3, 2)), r"similarity is \(2, 3\), relevancy \(3, 2\)"),
        (np.full((2, 2), np.nan), np.eye(2), "4 similarities are NaN"),
        (np.zeros((2, 2)), 2 * np.eye(2), "between 0 and 1"),
        (np.zeros((2, 2)), np.array([[1.0, 0.5], [0.0, 0.5]]), "v2t: query 1 has no answer of relevancy 1"),
    ],
)
def test_invalid_input_is_refused(similarity: np.ndarray, relevancy: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mir_metrics(similarity, relevancy)


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="needs the EPIC-KITCHENS samples, which the project does not ship")
@pytest.mark.slow  # 37 million similarities
def test_a_random_ranking_of_the_real_validation_set_has_the_known_figures() -> None:
    clips = pd.read_csv(SAMPLES / "EPIC_100_validation.csv")
    sentences = pd.read_csv(SAMPLES / "EPIC_100_retrieval_test_sentence.csv")
    about = {row.narration_id: (row.verb_class, ast.literal_eval(row.all_noun_classes)) for row in clips.itertuples()}
    relevancy = mir_relevancy(list(about.values()), [about[name] for name in sentences.narration_id])
    assert relevancy.shape == (9668, 3842)
    similarity = np.random.default_rng(0).standard_normal(relevancy.shape, dtype=np.float32)
    found = mir_metrics(similarity, relevancy)
    assert found["mean/mAP"] == pytest.approx(5.65, abs=0.1)
    assert found["mean/nDCG"] == pytest.approx(10.9, abs=0.1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_few_and_many_equal_similarities_put_the_least_relevant_answer_first(dtype: type) -> None:
    """Queries with pairs, triples and hundreds of equal similarities, as random float32 values and coarse ones have."""
    random = np.random.default_rng(5)
    relevancy = random.integers(0, 5, (12, 300)) / 4
    relevancy[:, 0] = 1
    similarity = random.permutation(300 * 12).reshape(12, 300).astype(dtype)
    for query in range(12):
        for size in (2, 3, 5) if query < 8 else (150, 100):
            same = random.choice(300, size, replace=False)
            similarity[query, same] = similarity[query, same[0]]
    relevancy[random.integers(0, 12, 300), np.arange(300)] = 1
    assert mir_metrics(similarity, relevancy) == pytest.approx(slow(similarity, relevancy), abs=1e-9)
