"""Properties of all strategies: seeded, independent of the number of ranks, and resumable within an epoch."""

from collections.abc import Callable

import pytest
import torch

from clep.data import HardNegatives, MomentBatchSampler, SamplingStrategy, SceneAware, UniqueTexts
from clep.errors import InputError
from tests.data.moment_keys import batches, moment_keys, sampler

KEYS = moment_keys([300])
TWO_SOURCES = moment_keys([240, 80])


def hard_negatives() -> HardNegatives:
    made = HardNegatives(videos=2)
    videos = torch.arange(12)
    ring = [videos // 6 * 6 + (videos + step) % 6 for step in range(3)]
    made.neighbours = torch.stack(ring, 1).to(torch.int32)
    return made


MAKERS: list[Callable[[], SamplingStrategy]] = [UniqueTexts, SceneAware, hard_negatives]


@pytest.mark.parametrize("make", MAKERS)
def test_epochs_differ_and_repeat_under_a_seed(make: Callable[[], SamplingStrategy]) -> None:
    one, again = sampler(make(), KEYS, 12, seed=3), sampler(make(), KEYS, 12, seed=3)
    first, second = batches(one, 0), batches(one, 1)
    assert len(first) == len(second) == len(one)
    assert all(len(batch) == 12 for batch in first + second)
    assert not torch.equal(torch.cat(first), torch.cat(second))
    assert torch.equal(torch.cat(second), torch.cat(batches(again, 1)))
    assert not torch.equal(torch.cat(first), torch.cat(batches(sampler(make(), KEYS, 12, seed=4))))


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_together_see_the_batches_of_one_process(make: Callable[[], SamplingStrategy], world_size: int) -> None:
    whole = batches(sampler(make(), KEYS, 12), 1)
    ranks = [batches(sampler(make(), KEYS, 12 // world_size, rank, world_size), 1) for rank in range(world_size)]
    for batch, *pieces in zip(whole, *ranks, strict=True):
        assert torch.equal(batch, torch.cat(pieces))


@pytest.mark.parametrize("make", MAKERS)
def test_resume_continues_one_epoch_and_the_next_is_complete(make: Callable[[], SamplingStrategy]) -> None:
    whole = sampler(make(), KEYS, 12)
    resumed = sampler(make(), KEYS, 12)
    resumed.resume(1, 4)
    assert torch.equal(torch.cat(batches(resumed, 1)), torch.cat(batches(whole, 1)[4:]))
    assert torch.equal(torch.cat(batches(resumed, 2)), torch.cat(batches(whole, 2)))


@pytest.mark.parametrize("make", MAKERS)
def test_mixed_sources_keep_their_shares(make: Callable[[], SamplingStrategy]) -> None:
    made = sampler(make(), TWO_SOURCES, 16, weights=[1.0, 1.0])
    seen = torch.cat([moment for epoch in (0, 1) for moment in batches(made, epoch)])
    assert (seen < 240).float().mean() == pytest.approx(0.5, abs=0.05)
    assert len(batches(made, 2)) == len(made)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("options", [{"shuffle": False}, {"drop_last": False}])
def test_contradictory_options_are_refused(make: Callable[[], SamplingStrategy], options: dict) -> None:
    with pytest.raises(InputError, match=r"needs data\.shuffle=true and data\.drop_last=true"):
        sampler(make(), KEYS, 12, **options)


@pytest.mark.parametrize("make", MAKERS)
def test_fewer_moments_than_one_batch_of_all_ranks(make: Callable[[], SamplingStrategy]) -> None:
    with pytest.raises(InputError, match=r"200 x 2 rank\(s\), but there are only 300"):
        MomentBatchSampler([300], 200, world_size=2, strategy=make())


def test_a_checkpoint_stores_the_strategy() -> None:
    states = [sampler(make(), KEYS, 12).state()["strategy"] for make in MAKERS]
    assert [state["sampler"] for state in states] == ["unique_texts", "scene_aware", "hard_negatives"]
    assert sampler(SceneAware(30), KEYS, 12).state()["strategy"]["within_s"] == 30
    assert MomentBatchSampler([300], 12).state()["strategy"] is None
