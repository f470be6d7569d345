import logging
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clep.data import HardNegatives, MomentKeys
from clep.data.hard_negatives import _shares
from clep.errors import InputError
from tests.data.moment_keys import batches, moment_keys, sampler


def ring(videos: int, near: int) -> torch.Tensor:
    """Say that the videos lie on a ring: the nearest of `v` are `v`, `v + 1`, …"""
    return ((torch.arange(videos)[:, None] + torch.arange(near)) % videos).to(torch.int32)


def of_sizes(sizes: list[int]) -> MomentKeys:
    n = sum(sizes)
    video = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return MomentKeys(torch.arange(n), video, torch.zeros(n, dtype=torch.float64), [n])


def test_a_batch_is_of_some_of_the_nearest_videos_in_equal_parts() -> None:
    keys, strategy = of_sizes([20] * 12), HardNegatives(videos=3)
    strategy.neighbours = ring(12, 6)
    made = sampler(strategy, keys, 24)
    for epoch in range(3):
        for batch in batches(made, epoch):
            counts = Counter(keys.video[batch].tolist())
            assert sorted(counts.values()) == [8, 8, 8]
            assert len(set(batch.tolist())) == 24
            assert any(all((video - first) % 12 < 6 for video in counts) for first in counts)


def test_all_of_the_nearest_are_chosen_in_time() -> None:
    keys, strategy = of_sizes([20] * 12), HardNegatives(videos=3)
    strategy.neighbours = ring(12, 6)
    made = sampler(strategy, keys, 24)
    seen = torch.cat([batch for epoch in range(12) for batch in batches(made, epoch)])
    assert set(seen.tolist()) == set(range(240))


def test_few_moments_are_made_up_for(caplog: pytest.LogCaptureFixture) -> None:
    keys, strategy = of_sizes([2, 2, 2, 2, 30, 30]), HardNegatives(videos=2)
    small, large = [[v, (v + 1) % 4, (v + 2) % 4, -1] for v in range(4)], [[4, 5, -1, -1], [5, 4, -1, -1]]
    strategy.neighbours = torch.tensor(small + large, dtype=torch.int32)
    made = sampler(strategy, keys, 10)
    with caplog.at_level(logging.INFO):
        several = [batch for epoch in range(5) for batch in batches(made, epoch)]
    assert "nearest videos had too few" in caplog.text
    for batch in several:
        assert len(set(batch.tolist())) == 10
        videos = Counter(keys.video[batch].tolist())
        if videos[4] + videos[5] < 10:  # six moments of the three small videos that are near, four drawn as usual
            assert sum(videos[video] for video in range(4)) >= 6


@settings(max_examples=100)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=8), st.integers(1, 60))
def test_shares_are_even_up_to_the_sizes(sizes: list[int], rows: int) -> None:
    share = _shares(np.array(sizes), rows)
    assert share.sum() == min(rows, sum(sizes))
    assert (share <= sizes).all()
    level = share.max()
    assert all(part >= min(size, level - 1) for part, size in zip(share, sizes, strict=True))


def test_sources_have_neighbours_of_their_own() -> None:
    keys, strategy = moment_keys([240, 80]), HardNegatives(videos=2)
    strategy.neighbours = torch.cat([ring(6, 4), 6 + ring(6, 4)])
    made = sampler(strategy, keys, 16, weights=[3.0, 1.0])
    for batch in batches(made):
        for source in (0, 1):
            videos = {video for video in keys.video[batch].tolist() if (video >= 6) == source}
            assert len(videos) <= 2 or (source == 1 and len(videos) <= 4)


def test_moments_of_each_video_for_its_embedding() -> None:
    keys, strategy = of_sizes([2, 9, 5]), HardNegatives()
    strategy.open(keys, 4, 4)
    chosen = strategy.some_of_each(4, seed=1, epoch=0)
    assert keys.video[chosen].tolist() == [0] * 2 + [1] * 4 + [2] * 4
    assert len(set(chosen.tolist())) == 10
    assert not torch.equal(chosen, strategy.some_of_each(4, seed=1, epoch=1))


def test_what_cannot_be_sampled_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InputError, match=r"from 1 video\(s\), at most 1 per source; use sampler=shuffled"):
        sampler(HardNegatives(2), of_sizes([50]), 8)
    with pytest.raises(InputError, match=r"data\.sampler\.videos=1"):
        HardNegatives(1)
    with pytest.raises(InputError, match=r"no callback searches for neighbours; choose it by sampler=hard_negatives"):
        batches(sampler(HardNegatives(2), of_sizes([50] * 8), 8))
    with caplog.at_level(logging.WARNING):
        sampler(HardNegatives(), of_sizes([50] * 8), 8)
    assert "choose data.sampler.videos=2 or less" in caplog.text
