import pytest
import torch

from clep.bank import SlotBuffers
from clep.bank.storage import RowStore


def store(dim: int = 8, dtype: torch.dtype = torch.float32) -> RowStore:
    return RowStore([torch.randn(50, dim).to(dtype)])


@pytest.mark.parametrize("dim", [1, 3, 8, 2048])  # rows of whole words of 16 bytes, of 8, and of neither
@pytest.mark.parametrize("sparse", [0.0, 0.5, 1.0])
def test_slots_are_written_over_and_emptied(dim: int, sparse: float) -> None:
    rows, buffers = store(dim, torch.float16), SlotBuffers(5, 7, dim)
    for _ in range(4):
        row, mask = torch.randint(0, 50, (5, 7)), torch.rand(5, 7) > sparse
        found, real = buffers.fill(rows, torch.where(mask, row, -9), mask)
        assert found.equal(rows.pieces[0][row].float() * mask[..., None])
        assert real.equal(mask)


def test_a_gather_that_fails_half_way_leaves_nothing_behind() -> None:
    rows, buffers = store(), SlotBuffers(2, 3, 8)
    every = torch.ones(2, 3, dtype=torch.bool)
    buffers.fill(rows, torch.arange(6).view(2, 3), every)
    with pytest.raises(ValueError, match="less than 50"):
        buffers.fill(rows, torch.full((2, 3), 50), every)
    found, _ = buffers.fill(rows, torch.arange(6).view(2, 3), ~every)
    assert not found.any()


def test_a_change_by_the_caller_is_cleared() -> None:
    rows, buffers = store(), SlotBuffers(2, 3, 8)
    none = torch.zeros(2, 3, dtype=torch.bool)
    buffers.fill(rows, torch.zeros(2, 3, dtype=torch.int64), none)[0].fill_(7)
    buffers.clear()
    assert not buffers.fill(rows, torch.zeros(2, 3, dtype=torch.int64), none)[0].any()


def test_buffers_of_another_size_or_type() -> None:
    row, mask = torch.zeros(2, 3, dtype=torch.int64), torch.ones(2, 3, dtype=torch.bool)
    for buffers in (SlotBuffers(1, 3, 8), SlotBuffers(2, 4, 8), SlotBuffers(2, 3, 9)):
        with pytest.raises(ValueError, match="have no room for 2 of 3 of 8: make them with bank.long_term_buffers"):
            buffers.fill(store(), row, mask)
    with pytest.raises(ValueError, match=r"torch.float16 on cpu do not fit a bank of torch.float32 on cpu"):
        SlotBuffers(2, 3, 8, torch.float16).fill(store(), row, mask)
