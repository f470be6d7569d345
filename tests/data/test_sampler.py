import pytest
import torch

from clep.data import Draw, MomentBatchSampler
from clep.errors import InputError


def draws(sampler: MomentBatchSampler, epoch: int = 0) -> list[Draw]:
    sampler.set_epoch(epoch)
    return list(sampler)


def test_an_epoch_visits_each_moment_once() -> None:
    seen = torch.cat([draw.moments for draw in draws(MomentBatchSampler([103], 10, drop_last=False))])
    assert sorted(seen.tolist()) == list(range(103))


def test_epochs_differ_and_repeat_under_a_seed() -> None:
    sampler, again = MomentBatchSampler([100], 10, seed=3), MomentBatchSampler([100], 10, seed=3)
    first, second = draws(sampler, 0), draws(sampler, 1)
    assert not torch.equal(first[0].moments, second[0].moments)
    for one, other in zip(first, draws(again, 0), strict=True):
        assert torch.equal(one.moments, other.moments)
        assert one.seed == other.seed


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_together_see_the_batches_of_one_process(world_size: int) -> None:
    whole = draws(MomentBatchSampler([100], 12))
    ranks = [
        draws(MomentBatchSampler([100], 12 // world_size, rank=r, world_size=world_size)) for r in range(world_size)
    ]
    for batch, *pieces in zip(whole, *ranks, strict=True):
        assert torch.equal(batch.moments, torch.cat([piece.moments for piece in pieces]))
        assert len({piece.seed for piece in pieces}) == world_size


def test_resume_continues_one_epoch_and_the_next_is_complete() -> None:
    uninterrupted = [draws(MomentBatchSampler([100], 10, seed=1), epoch) for epoch in (2, 3)]
    resumed = MomentBatchSampler([100], 10, seed=1)
    resumed.resume(2, 4)
    for epoch, whole in zip((2, 3), uninterrupted, strict=True):
        got = draws(resumed, epoch)
        expected = whole[4:] if epoch == 2 else whole
        assert [d.seed for d in got] == [d.seed for d in expected]
        assert all(torch.equal(a.moments, b.moments) for a, b in zip(got, expected, strict=True))


def test_weights_set_the_share_of_each_source() -> None:
    sampler = MomentBatchSampler([900, 100], 50, weights=[1, 1])
    seen = torch.cat([draw.moments for draw in draws(sampler)])
    assert (seen >= 900).float().mean() == pytest.approx(0.5, abs=0.01)
    assert sampler.state()["counts"] == [500, 500]


def test_a_partly_used_source_continues_with_other_moments() -> None:
    sampler = MomentBatchSampler([900, 100], 50, weights=[1, 1], drop_last=False)
    two_epochs = torch.cat([draw.moments for epoch in (0, 1) for draw in draws(sampler, epoch)])
    large = two_epochs[two_epochs < 900]
    assert len(large.unique()) == 900


def test_unshuffled_keeps_the_stored_order() -> None:
    seen = torch.cat([draw.moments for draw in draws(MomentBatchSampler([25], 10, shuffle=False, drop_last=False))])
    assert torch.equal(seen, torch.arange(25))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": [7], "batch_size": 8}, "batch_size=7 or less"),
        ({"sizes": [7], "batch_size": 4, "world_size": 2}, "2 rank.*batch_size=3 or less"),
        ({"sizes": [3], "batch_size": 2, "world_size": 2}, "use fewer devices, or more data"),
        ({"sizes": [50], "batch_size": 4, "world_size": 2, "drop_last": False}, "drop_last"),
        ({"sizes": [50, 50], "batch_size": 4, "weights": [1, 0]}, "positive"),
        ({"sizes": [50, 50], "batch_size": 4, "weights": [1, 2], "shuffle": False}, "shuffle"),
        ({"sizes": [0], "batch_size": 4, "drop_last": False}, "no training moments"),
    ],
)
def test_bad_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        MomentBatchSampler(**options)
