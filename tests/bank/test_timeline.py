import numpy as np
import torch

from clep.bank.clock import Explicit, Grid


def test_grid_counts_many_videos_at_once_and_exactly() -> None:
    rng = np.random.default_rng(1)
    n = rng.integers(1, 100_000, 500)
    rate = 24 / 1.001
    starts = (n - 1) / rate
    last = np.where(n > 1, starts - rng.uniform(0, 1 / rate, 500), 0.0)
    grid = Grid(rate, torch.from_numpy(n), torch.from_numpy(last))
    rows = rng.integers(0, n)
    for offset in (0.0, 0.5005):
        for nudge in (-np.inf, None, np.inf):
            second = rows / rate + offset if nudge is None else np.nextafter(rows / rate + offset, nudge)
            counted = grid.count_before(torch.from_numpy(second), offset)
            for i in range(500):
                own = np.arange(n[i]) / rate
                own[-1] = last[i]
                assert counted[i] == (own + offset < second[i]).sum()


def test_explicit_rows_stay_within_their_video() -> None:
    rng = np.random.default_rng(2)
    n = rng.integers(1, 40, 200)
    first = np.concatenate([[0], np.cumsum(n)[:-1]])
    # Neighbouring seconds differ in the last bit only: a combined key of video and second would merge them.
    seconds = np.concatenate([np.sort(900 + rng.integers(0, 5, k) * np.spacing(900.0)) for k in n])
    rows = Explicit(torch.from_numpy(seconds), torch.from_numpy(first), torch.from_numpy(n))
    edges = 900 + rng.integers(-1, 6, (7, 200)) * np.spacing(900.0)
    counted = rows.count_before(torch.from_numpy(edges), 0.0)
    at = rows.row_at(torch.from_numpy(edges))
    for k in range(7):
        for v in range(200):
            own = seconds[first[v] : first[v] + n[v]]
            assert counted[k, v] == np.searchsorted(own, edges[k, v], "left")
            assert at[k, v] == max(0, np.searchsorted(own, edges[k, v], "right") - 1)


def test_start_of_a_row() -> None:
    n = torch.tensor([3, 3])
    grid = Grid(2.0, n, torch.tensor([0.75, 1.0], dtype=torch.float64))
    assert grid.start(torch.tensor([2, 2])).tolist() == [0.75, 1.0]
    assert grid.start(torch.tensor([1, 0])).tolist() == [0.5, 0.0]
    explicit = Explicit(torch.tensor([1.0, 2.0, 9.0], dtype=torch.float64), torch.tensor([0, 2]), torch.tensor([2, 1]))
    assert explicit.start(torch.tensor([1, 0])).tolist() == [2.0, 9.0]


def test_an_empty_batch() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    rows = Explicit(torch.zeros(4, dtype=torch.float64), none, none)
    assert rows.count_before(torch.zeros(2, 0, dtype=torch.float64), 0.0).shape == (2, 0)
