import logging
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clep.data import MomentKeys, UniqueTexts
from clep.data.unique_texts import most_batches
from clep.errors import InputError
from tests.data.moment_keys import batches, moment_keys, sampler


def of_texts(texts: list[int]) -> MomentKeys:
    n = len(texts)
    return MomentKeys(torch.tensor(texts), torch.zeros(n, dtype=torch.int64), torch.zeros(n, dtype=torch.float64), [n])


def most_by_dealing(counts: list[int], rows: int) -> int:
    """Fill batch after batch with the texts that have most moments left, which is known to be best."""
    left, made = sorted(counts, reverse=True), 0
    while sum(count > 0 for count in left) >= rows:
        left = sorted([count - 1 for count in left[:rows]] + left[rows:], reverse=True)
        made += 1
    return made


@settings(max_examples=60)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=12), st.integers(2, 6))
def test_the_number_of_batches_is_the_largest_possible(counts: list[int], rows: int) -> None:
    assert most_batches(torch.tensor(counts), rows) == most_by_dealing(counts, rows)


@settings(max_examples=30)
@given(st.lists(st.integers(0, 8), min_size=60, max_size=120), st.integers(0, 3))
def test_texts_are_unique_in_a_batch_and_moments_in_an_epoch(texts: list[int], epoch: int) -> None:
    if len(set(texts)) < 4:
        texts = [*texts, 0, 1, 2, 3]
    made = sampler(UniqueTexts(), of_texts(texts), 4, seed=1)
    epochs = batches(made, epoch)
    assert len(epochs) == most_by_dealing(list(Counter(texts).values()), 4)
    for batch in epochs:
        assert len({texts[i] for i in batch.tolist()}) == 4
    seen = torch.cat(epochs).tolist()
    assert len(set(seen)) == len(seen)


def test_different_texts_all_come_in_every_epoch() -> None:
    seen = torch.cat(batches(sampler(UniqueTexts(), of_texts(list(range(40))), 8)))
    assert sorted(seen.tolist()) == list(range(40))


def test_dropped_moments_differ_between_epochs(caplog: pytest.LogCaptureFixture) -> None:
    texts = [0] * 60 + list(range(1, 41))  # 13 batches of 4: 39 of the 40 other texts, and 13 of the 60 equal ones
    with caplog.at_level(logging.INFO):
        made = sampler(UniqueTexts(), of_texts(texts), 4)
    assert len(made) == 13
    assert "48 of 100 moments (48.0 %) are dropped" in caplog.text
    seen = Counter(moment for epoch in range(40) for batch in batches(made, epoch) for moment in batch.tolist())
    rare, frequent = np.array([seen[i] for i in range(60, 100)]), np.array([seen[i] for i in range(60)])
    assert rare.min() >= 36
    assert frequent.min() >= 1
    assert frequent.mean() == pytest.approx(40 * 13 / 60, rel=0.03)


def test_the_moments_of_a_batch_are_random() -> None:
    keys = of_texts(list(range(30)))
    made = sampler(UniqueTexts(), keys, 10)
    met = np.zeros((30, 30))
    for epoch in range(400):
        for batch in batches(made, epoch):
            met[np.ix_(batch, batch)] += 1
    together = met[~np.eye(30, dtype=bool)] / 400
    assert together.mean() == pytest.approx(9 / 29)
    assert together.std() < 1.3 * np.sqrt(9 / 29 * 20 / 29 / 400)  # what chance gives


def test_weighted_sources_keep_the_number_of_batches() -> None:
    keys = moment_keys([400, 30], texts=60)
    made = sampler(UniqueTexts(), keys, 20, weights=[1.0, 3.0])
    for epoch in range(4):
        epochs = batches(made, epoch)
        assert len(epochs) == len(made)
        assert all(len(keys.text[batch].unique()) == 20 for batch in epochs)


def test_too_few_texts_are_refused() -> None:
    with pytest.raises(InputError, match=r"only 1; choose sampler=shuffled"):
        sampler(UniqueTexts(), of_texts([5] * 100), 4)
    with pytest.raises(InputError, match=r"batch of 12 moments .* only 10; choose data\.batch_size=5 or less"):
        sampler(UniqueTexts(), of_texts([i % 10 for i in range(100)]), 6, 0, 2)
