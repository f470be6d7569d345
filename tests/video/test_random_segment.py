"""Random clips for training."""

from itertools import pairwise

import pytest

from clep.errors import InputError
from clep.video import RandomSegment


@pytest.mark.parametrize("views", [1, 3])
def test_one_instant_in_each_piece_of_a_part(views: int) -> None:
    starts = []
    for seed in range(200):
        instants = RandomSegment(views=views, seed=seed).instants(0, 4, 12.0)
        assert instants == RandomSegment(views=views, seed=seed).instants(0, 4, 12.0)
        piece = 12.0 / views / 4
        assert list(instants) == sorted(instants)
        assert instants[0] >= 0
        assert instants[-1] <= 12.0
        assert all(0 < later - now < 2 * piece for now, later in pairwise(instants))
        starts.append(instants[0])
    assert len(set(starts)) == 200
    assert max(starts) > (2.5 if views == 1 else 8.0)  # near the last start that there can be
    assert min(starts) < 0.5


def test_it_is_one_row() -> None:
    assert RandomSegment().rows == 1
    with pytest.raises(InputError, match=r"not 2 of 1"):
        RandomSegment(rows=2)
    with pytest.raises(InputError, match=r"not 1 of 0"):
        RandomSegment(views=0)
