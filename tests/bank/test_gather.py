import pytest
import torch

from clep.bank.gather import mean_rows, padded_rows, sample_rows, select_rows
from clep.bank.storage import RowStore


def store(dtype: torch.dtype, sizes: tuple[int, ...] = (50,), dim: int = 8) -> RowStore:
    return RowStore([torch.randn(size, dim).to(dtype) for size in sizes])


def windows(n_rows: int, count: int, longest: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    first = torch.randint(0, n_rows, (count,))
    return first, (first + torch.randint(1, longest, (count,))).clamp(max=n_rows)


@pytest.mark.parametrize("sizes", [(50,), (20, 1, 29), (1,) * 50])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_means_agree_with_a_loop_in_float64(dtype: torch.dtype, sizes: tuple[int, ...]) -> None:
    rows = store(dtype, sizes)
    whole = torch.cat(rows.pieces).double()
    first, last = windows(50, 300)  # with several pieces, many of them cross an edge
    mean = mean_rows(rows, first, last)
    assert mean.dtype == torch.float32
    slow = torch.stack([whole[a:b].mean(0) for a, b in zip(first.tolist(), last.tolist(), strict=True)])
    # One rounding to the stored type of a sum that is exact to float32.
    tolerance = {torch.float16: 2**-11, torch.bfloat16: 2**-8, torch.float32: 1e-6}[dtype]
    torch.testing.assert_close(mean.double(), slow, rtol=1.01 * tolerance, atol=2e-7)


def test_a_mean_of_one_row_is_the_row_to_the_last_bit() -> None:
    tiny = torch.arange(1, 2000).reshape(-1, 1).to(torch.int16).view(torch.float16)  # subnormals and small numbers
    mean = mean_rows(RowStore([tiny]), torch.arange(1999), torch.arange(1, 2000))
    assert mean.equal(tiny.float())


def test_long_windows_of_half_precision_do_not_overflow() -> None:
    rows = RowStore([torch.full((5000, 3), 60_000.0, dtype=torch.float16)])
    mean = mean_rows(rows, torch.tensor([0, 7]), torch.tensor([5000, 10]))
    torch.testing.assert_close(mean, torch.full((2, 3), 60_000.0), rtol=2**-11, atol=0)


def test_half_precision_is_summed_in_float32() -> None:
    rows = torch.full((4097, 1), 0.5, dtype=torch.float16)
    rows[0] = 2048  # adding 0.5 to it in half precision changes nothing
    mean = mean_rows(RowStore([rows]), torch.tensor([0]), torch.tensor([4097]))
    assert mean.item() == pytest.approx((2048 + 4096 * 0.5) / 4097, rel=2**-11)


@pytest.mark.parametrize("sizes", [(50,), (20, 1, 29)])
def test_single_and_padded_rows(sizes: tuple[int, ...]) -> None:
    rows = store(torch.float16, sizes)
    whole = torch.cat(rows.pieces).float()
    row = torch.randint(0, 50, (6, 9))
    assert select_rows(rows, row[0]).equal(whole[row[0]])
    mask = torch.rand(6, 9) > 0.5
    mask[2] = False
    got = padded_rows(rows, torch.where(mask, row, -7), mask)
    assert got.equal(whole[row] * mask[..., None])
    assert padded_rows(rows, row, torch.zeros_like(mask)).equal(torch.zeros(6, 9, 8))


def test_results_are_copies() -> None:
    rows = store(torch.float32)
    before = rows.pieces[0].clone()
    select_rows(rows, torch.arange(50)).zero_()
    padded_rows(rows, torch.arange(50)[None], torch.ones(1, 50, dtype=torch.bool)).zero_()
    mean_rows(rows, torch.arange(50), torch.arange(1, 51)).zero_()
    assert rows.pieces[0].equal(before)


@pytest.mark.parametrize("sizes", [(50,), (25, 25)])
def test_empty_batches_and_rows_out_of_bounds(sizes: tuple[int, ...]) -> None:
    rows = store(torch.float16, sizes)
    none = torch.zeros(0, dtype=torch.int64)
    assert mean_rows(rows, none, none).shape == select_rows(rows, none).shape == (0, 8)
    assert padded_rows(rows, torch.zeros(0, 4, dtype=torch.int64), torch.zeros(0, 4, dtype=torch.bool)).shape == (
        0,
        4,
        8,
    )
    for first, last in ((0, 51), (-1, 3), (4, 4), (5, 4)):
        with pytest.raises(ValueError, match="0 <= first < last <= 50"):
            mean_rows(rows, torch.tensor([first]), torch.tensor([last]))
    for row in (-1, 50):
        with pytest.raises(ValueError, match="less than 50"):
            select_rows(rows, torch.tensor([row]))
        with pytest.raises(ValueError, match="less than 50"):
            padded_rows(rows, torch.tensor([[row]]), torch.tensor([[True]]))


def test_uniform_samples_are_the_middles_of_equal_parts() -> None:
    first, last = torch.tensor([100, 100, 100, 100]), torch.tensor([103, 104, 112, 110])
    row, mask = sample_rows(first, last, 4, "uniform")
    assert (row - 100)[1:].tolist() == [[0, 1, 2, 3], [1, 4, 7, 10], [1, 3, 6, 8]]
    assert row[0, :3].tolist() == [100, 101, 102]
    assert mask.tolist() == [[True, True, True, False]] + [[True] * 4] * 3
    again, _ = sample_rows(first, last, 4, "uniform")
    assert again.equal(row)


def test_random_samples_take_one_row_of_each_part() -> None:
    generator = torch.Generator().manual_seed(1)
    first, last = torch.full((4000,), 5), torch.full((4000,), 15)
    row, mask = sample_rows(first, last, 4, "random", generator)
    assert mask.all()
    # Ten rows in four parts: 0 1 | 2 3 4 | 5 6 | 7 8 9
    for part, members in enumerate(([0, 1], [2, 3, 4], [5, 6], [7, 8, 9])):
        values, counts = (row[:, part] - 5).unique(return_counts=True)
        assert values.tolist() == members
        assert (counts / 4000 - 1 / len(members)).abs().max() < 0.04
    assert sample_rows(first, last, 4, "random", torch.Generator().manual_seed(1))[0].equal(row)
    short, mask = sample_rows(first, first + 3, 4, "random")
    assert (short[:, :3] - 5).unique(dim=0).tolist() == [[0, 1, 2]]
    assert not mask[:, 3].any()


def test_invalid_samples_are_refused() -> None:
    one = torch.ones(1, dtype=torch.int64)
    with pytest.raises(ValueError, match="'all' is unknown"):
        sample_rows(one, one + 1, 4, "all")
    with pytest.raises(ValueError, match="max_rows=0"):
        sample_rows(one, one + 1, 0, "uniform")
