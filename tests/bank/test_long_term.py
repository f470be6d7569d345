import math

import numpy as np
import pytest
import torch

from clep.bank.clock import Explicit, Grid
from clep.bank.long_term import MOST_SECONDS, FirstRows, long_term_rows


def by_hand(starts: np.ndarray, second: float, window_s: int, per_second: int) -> list[list[int]]:
    """For each second, the rows that start in it, in stored order, at most per_second."""
    begin = math.floor(second) - window_s // 2
    return [[i for i, s in enumerate(starts) if math.floor(s) == begin + k][:per_second] for k in range(window_s)]


def slots(row: torch.Tensor, mask: torch.Tensor, window_s: int) -> list[list[int]]:
    pairs = zip(row.view(window_s, -1).tolist(), mask.view(window_s, -1).tolist(), strict=True)
    return [[r for r, real in zip(rows, reals, strict=True) if real] for rows, reals in pairs]


def explicit(seconds: list[np.ndarray]) -> Explicit:
    sizes = torch.tensor([len(s) for s in seconds])
    return Explicit(torch.from_numpy(np.concatenate(seconds)), sizes.cumsum(0) - sizes, sizes)


@pytest.mark.parametrize(("window_s", "per_second"), [(60, 5), (7, 1), (1, 3)])
def test_explicit_seconds_agree_with_a_loop(window_s: int, per_second: int) -> None:
    rng = np.random.default_rng(0)
    seconds = [np.sort(rng.integers(0, 400, rng.integers(1, 300)) / 4) for _ in range(20)]
    moments = rng.uniform(-10, 110, 20)
    row, mask = long_term_rows(explicit(seconds), torch.from_numpy(moments), window_s, per_second)
    assert row.shape == mask.shape == (20, window_s * per_second)
    for v in range(20):
        assert slots(row[v], mask[v], window_s) == by_hand(seconds[v], moments[v], window_s, per_second)
        # The rows of a second fill its first slots.
        assert (mask[v].view(window_s, per_second).int().diff() <= 0).all()


def bank_of(seconds: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    sizes = torch.tensor([0, *(len(one) for one in seconds)])
    return torch.from_numpy(np.concatenate(seconds)), sizes.cumsum(0)


def test_a_table_of_seconds_counts_as_a_search() -> None:
    rng = np.random.default_rng(5)
    seconds = [np.sort(rng.uniform(-5, 300, rng.integers(100, 300))) for _ in range(19)]
    seconds += [np.array([902.0] * 150 + [903.0]), np.array([7.999])]
    table = FirstRows.of_bank(*bank_of(seconds))
    assert table is not None
    video = torch.from_numpy(rng.integers(0, len(seconds), 500))
    edges = torch.from_numpy(rng.integers(-20, 320, (7, 500)).astype(np.float64))
    edges[:2, :9] = torch.tensor([-1e300, -1e18, -1e15, 1e15, 1e18, 1e300, 902, 903, 904], dtype=torch.float64)
    search = explicit(seconds)
    search = Explicit(search.seconds, search.first_row[video], search.n_rows[video])
    for offset in (0.0, 2.0):
        assert table.of(video).count_before(edges, offset).equal(search.count_before(edges, offset))
    moments = torch.from_numpy(rng.uniform(-10, 1000, 500))
    for generator in (None, 1):
        of_table, of_search = (
            long_term_rows(one, moments, 60, 5, generator and torch.Generator().manual_seed(generator))
            for one in (table.of(video), search)
        )
        assert of_table[1].equal(of_search[1])
        assert of_table[0][of_table[1]].equal(of_search[0][of_search[1]])


@pytest.mark.parametrize(
    "seconds",
    [
        [np.array([0.0, 1.0]), np.array([0.0, 4.0 * MOST_SECONDS])],
        [np.array([0.0, 1e300])],
        [np.array([-1e300, 1e300])],
        [np.array([0.0]), np.array([]), np.array([1.0])],
    ],
)
def test_no_table_where_it_would_be_large_or_a_video_is_empty(seconds: list[np.ndarray]) -> None:
    assert FirstRows.of_bank(*bank_of(seconds)) is None


@pytest.mark.parametrize("rate", [30 / 16, 7.3, 0.25])
def test_a_grid_agrees_with_a_loop(rate: float) -> None:
    rng = np.random.default_rng(1)
    n = rng.integers(1, 200, 20)
    starts = [np.arange(k) / rate for k in n]
    last = torch.tensor([s[-1] - (0.3 / rate if len(s) > 1 else 0.0) for s in starts], dtype=torch.float64)
    for s, x in zip(starts, last, strict=True):
        s[-1] = x
    moments = rng.uniform(0, 100, 20)
    row, mask = long_term_rows(Grid(rate, torch.from_numpy(n), last), torch.from_numpy(moments), 60, 5)
    for v in range(20):
        assert slots(row[v], mask[v], 60) == by_hand(starts[v], moments[v], 60, 5)


def test_random_choice_is_without_replacement_and_in_order() -> None:
    seconds = np.repeat([10.0, 11.0, 12.0], [2, 6, 3])
    rows = explicit([seconds] * 3000)
    generator = torch.Generator().manual_seed(0)
    row, mask = long_term_rows(rows, torch.full((3000,), 11.5, dtype=torch.float64), 3, 3, generator)
    assert mask.tolist() == [[True, True, False] + [True] * 6] * 3000
    assert row[:, :2].unique(dim=0).tolist() == [[0, 1]]
    assert row[:, 6:].unique(dim=0).tolist() == [[8, 9, 10]]
    chosen, counts = row[:, 3:6].unique(dim=0, return_counts=True)
    assert len(chosen) == 20  # every way to choose 3 of 6, each about as often
    assert (chosen.diff(dim=1) > 0).all()
    assert chosen.min() == 2
    assert chosen.max() == 7
    assert counts.min() > 100
    again = long_term_rows(rows, torch.full((3000,), 11.5, dtype=torch.float64), 3, 3, torch.Generator().manual_seed(0))
    assert again[0].equal(row)


def test_empty_batches_and_invalid_sizes() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    grid = Grid(1.0, none, none.double())
    row, _ = long_term_rows(grid, none.double(), 60, 5, torch.Generator())
    assert row.shape == (0, 300)
    with pytest.raises(ValueError, match="window_s=0"):
        long_term_rows(grid, none.double(), 0, 5)
