"""Relevancy from verb and noun ids, against the metric's own; sentences drawn by relevancy."""

import numpy as np
import pytest
import torch

from clep.data.relevant_texts import RelevantTexts
from clep.errors import InputError
from clep.losses import RelevancyPositives
from clep.metrics import mir_relevancy


def padded(sets: list[list[int]]) -> torch.Tensor:
    width = max(1, *map(len, sets))
    return torch.tensor([one + [-1] * (width - len(one)) for one in sets])


def actions(count: int, seed: int) -> list[tuple[int, list[int]]]:
    random = np.random.default_rng(seed)
    return [
        (int(random.integers(4)), random.choice(6, random.integers(0, 4), replace=False).tolist()) for _ in range(count)
    ]


def keys_of(found: list[tuple[int, list[int]]], prefix: str = "") -> dict[str, torch.Tensor]:
    return {
        f"{prefix}verb": padded([[verb] for verb, _ in found]),
        f"{prefix}noun": padded([nouns for _, nouns in found]),
    }


def test_weights_are_the_relevancy_of_the_metric() -> None:
    clips, texts = actions(20, 0), actions(13, 1)
    rows = {**keys_of(clips), **keys_of(clips, "video_"), "position": torch.arange(20)}
    columns = {**keys_of(texts), **keys_of(texts, "video_"), "position": torch.arange(13)}
    found = RelevancyPositives()(rows, columns)
    np.testing.assert_allclose(found.numpy(), mir_relevancy(clips, texts), atol=1e-7)


def test_a_clip_with_another_sentence_keeps_its_own_classes() -> None:
    clips, texts = actions(9, 0), actions(9, 1)
    rule = RelevancyPositives()
    batch = {**keys_of(texts), **keys_of(clips, "video_")}
    keys = {**rule.of_batch(batch), "position": torch.arange(9)}
    np.testing.assert_allclose(rule(keys, keys).numpy(), mir_relevancy(clips, texts), atol=1e-7)
    own = {**rule.of_batch(keys_of(texts)), "position": torch.arange(9)}
    np.testing.assert_allclose(rule(own, own).numpy(), mir_relevancy(texts, texts), atol=1e-7)


def test_a_batch_without_classes_names_the_setting() -> None:
    with pytest.raises(InputError, match="data.verb_noun=given"):
        RelevancyPositives().of_batch({"text_id": torch.arange(3)})


def test_texts_are_drawn_uniformly_among_the_relevant_ones() -> None:
    texts = actions(30, 3)
    candidates = torch.ones(30, dtype=torch.bool)
    candidates[::5] = False
    table = keys_of(texts)
    draws = RelevantTexts(table["verb"], table["noun"], candidates, 0.1)
    allowed = (mir_relevancy(texts, texts) > 0.1) & candidates.numpy()
    np.fill_diagonal(allowed, True)
    own = torch.arange(30)
    counts = np.zeros((30, 30))
    for seed in range(400):
        counts[own, draws.draw(own, seed)] += 1
    assert not counts[~allowed].any()
    expected = 400 * allowed / allowed.sum(1, keepdims=True)
    assert (counts[allowed] > 0).mean() > 0.99
    assert np.abs(counts - expected).max() < 6 * np.sqrt(expected.max())
    torch.testing.assert_close(draws.draw(own, 7), draws.draw(own, 7), rtol=0, atol=0)


def test_the_threshold_is_checked() -> None:
    with pytest.raises(InputError, match="data.relevant_texts=1"):
        RelevantTexts(torch.zeros(2, 1).long(), torch.zeros(2, 1).long(), torch.ones(2, dtype=torch.bool), 1)
