import logging
from collections import Counter

import numpy as np
import pytest
import torch

from clep.data import MomentKeys, SceneAware
from clep.errors import InputError
from tests.data.moment_keys import batches, moment_keys, sampler


def neighbours(keys: MomentKeys, within_s: float) -> list[set[int]]:
    near = (keys.video[:, None] == keys.video) & ((keys.second[:, None] - keys.second).abs() <= within_s)
    return [set(row.nonzero()[:, 0].tolist()) - {i} for i, row in enumerate(near)]


def test_every_other_moment_is_a_neighbour_of_the_one_before() -> None:
    keys = moment_keys([400])
    near = neighbours(keys, 20)
    made = sampler(SceneAware(20), keys, 40)
    pairs = torch.cat([batch.view(-1, 2) for epoch in range(3) for batch in batches(made, epoch)]).tolist()
    alone = {i for i, others in enumerate(near) if not others}
    assert len(pairs) == 3 * 200
    for moment, neighbour in pairs:
        assert neighbour != moment
        assert neighbour in near[moment] or moment in alone


def test_two_epochs_draw_each_moment_once() -> None:
    made = sampler(SceneAware(), moment_keys([400]), 40)
    drawn = torch.cat([batch[::2] for epoch in (0, 1) for batch in batches(made, epoch)])
    assert sorted(drawn.tolist()) == list(range(400))


def test_no_moment_is_its_own_negative() -> None:
    """A neighbour that is in the batch already is drawn again, as long as its scene has others."""
    keys = moment_keys([4000], videos=20)
    made = sampler(SceneAware(60), keys, 400)
    repeated = [len(batch) - len(batch.unique()) for epoch in range(3) for batch in batches(made, epoch)]
    assert sum(repeated) == 0


def test_a_scene_without_others_left_repeats_a_neighbour() -> None:
    """Two moments of one second that are drawn together have only each other."""
    seconds = torch.tensor([0.0, 0.0, 300.0, 300.0], dtype=torch.float64)
    keys = MomentKeys(torch.arange(4), torch.zeros(4, dtype=torch.int64), seconds, [4])
    near = neighbours(keys, 1)
    both = [
        batch.view(-1, 2).tolist() for epoch in range(20) for batch in batches(sampler(SceneAware(1), keys, 4), epoch)
    ]
    assert all(neighbour in near[moment] for pairs in both for moment, neighbour in pairs)
    assert any(len({moment for pair in pairs for moment in pair}) < 4 for pairs in both)


def test_neighbours_are_drawn_uniformly() -> None:
    n = 6
    seconds = torch.tensor([0.0, 30.0, 59.0, 70.0, 200.0, 230.0], dtype=torch.float64)
    keys = MomentKeys(torch.arange(n), torch.zeros(n, dtype=torch.int64), seconds, [n])
    made = sampler(SceneAware(60), keys, 2)
    seen = Counter(
        tuple(pair) for epoch in range(600) for batch in batches(made, epoch) for pair in batch.view(-1, 2).tolist()
    )
    near = neighbours(keys, 60)
    assert set(seen) == {(i, j) for i in range(n) for j in near[i]}
    for i in range(n):
        share = np.array([seen[i, j] for j in near[i]]) / sum(seen[i, j] for j in near[i])
        np.testing.assert_allclose(share, 1 / len(near[i]), atol=0.05)


def test_moments_without_a_neighbour_are_counted_and_paired_with_any_of_their_source(
    caplog: pytest.LogCaptureFixture,
) -> None:
    narrated, images = moment_keys([200]), 100
    keys = MomentKeys(
        torch.cat([narrated.text, torch.arange(images)]),
        torch.cat([narrated.video, 6 + torch.arange(images)]),
        torch.cat([narrated.second, torch.zeros(images, dtype=torch.float64)]),
        [200, images],
    )
    with caplog.at_level(logging.INFO):
        made = sampler(SceneAware(600), keys, 30, weights=[1.0, 1.0])
    assert "100 of 300 moments have no neighbour" in caplog.text
    partners = Counter[int]()
    for epoch in range(20):
        for moment, other in torch.cat(batches(made, epoch)).view(-1, 2).tolist():
            assert (moment < 200) == (other < 200)
            assert moment != other
            partners[other] += 1
    assert sum(partners[i] > 0 for i in range(200, 300)) > 95


@pytest.mark.parametrize(
    ("within_s", "batch_size", "message"),
    [
        (60, 7, r"data\.batch_size=7 must be even"),
        (1e-9, 8, r"none of the 50 training moments .* raise data\.sampler\.within_s"),
        (0, 8, r"data\.sampler\.within_s=0 must be positive"),
    ],
)
def test_bad_options_are_refused(within_s: float, batch_size: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        sampler(SceneAware(within_s), moment_keys([50]), batch_size)
