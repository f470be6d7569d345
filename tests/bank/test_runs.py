import pytest
import torch

from clep.bank.storage import MOST_THREADS, copy_runs


@pytest.fixture(autouse=True)
def few_threads() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.uint8])
@pytest.mark.parametrize("dim", [1, 3, 2048])
def test_runs_are_copied_to_their_slots_and_nothing_else_changes(dtype: torch.dtype, dim: int) -> None:
    rows = (torch.rand(500, dim) * 200).to(dtype)
    row = torch.cat([torch.arange(40, 70), torch.arange(70, 71), torch.arange(10, 45), torch.arange(499, 500)])
    slot = torch.randperm(90)[: len(row)]
    out = torch.full((90, dim), 7).to(dtype)
    expected = out.clone()
    for taken, at in zip(row.tolist(), slot.tolist(), strict=True):
        expected[at] = rows[taken]
    assert copy_runs(rows, row, slot, out)
    assert out.equal(expected)


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_runs_are_converted(dtype: torch.dtype, threads: int) -> None:
    torch.set_num_threads(threads)
    rows = torch.rand(500, 6).to(dtype)
    row = torch.cat([torch.arange(40, 70), torch.arange(70, 90), torch.arange(90, 130)])
    slot = torch.cat([torch.arange(5, 35), torch.arange(40, 60), torch.arange(60, 100)])  # a gap within a run of rows
    out = torch.full((100, 6), 7.0)
    expected = out.clone()
    expected[slot] = rows[row].float()
    assert copy_runs(rows, row, slot, out)
    assert out.equal(expected)


def test_cases_left_to_a_gather_change_nothing() -> None:
    rows, out = torch.rand(50, 4), torch.zeros(50, 4)
    run, scattered = torch.arange(20), torch.arange(0, 40, 2)
    assert not copy_runs(rows, scattered, run, out)
    assert not copy_runs(rows.half(), run, torch.arange(19, -1, -1), out)
    assert not copy_runs(rows, run[:0], run[:0], out)
    assert not copy_runs(rows.T.contiguous().T, run, run, out)
    torch.set_num_threads(MOST_THREADS + 1)
    assert not copy_runs(rows, run, torch.arange(19, -1, -1), out)
    assert not out.any()
