import pytest
import torch

from clep.bank import gather
from clep.bank.gather import masked_maxima, masked_means
from clep.bank.storage import RowStore


@pytest.mark.parametrize("sizes", [(50,), (20, 1, 29)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_means_and_maxima_agree_with_a_loop(
    dtype: torch.dtype, sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "_GROUP_BYTES", 300)  # several groups
    rows = RowStore([(torch.randn(size, 8) - 3).to(dtype) for size in sizes])  # a padded zero would be the maximum
    whole = torch.cat(rows.pieces).double()
    row, mask = torch.randint(0, 50, (40, 30)), torch.rand(40, 30) > torch.linspace(0, 1, 40)[:, None]
    mask[::7] = False
    row = torch.where(mask, row, -9)
    mean, most = masked_means(rows, row, mask), masked_maxima(rows, row, mask)
    assert mean.dtype == most.dtype == torch.float32
    tolerance = {torch.float16: 2**-11, torch.bfloat16: 2**-8, torch.float32: 1e-6}[dtype]
    for i in range(40):
        own = whole[row[i][mask[i]]] if mask[i].any() else torch.zeros(1, 8).double()
        torch.testing.assert_close(mean[i].double(), own.mean(0), rtol=1.01 * tolerance, atol=2e-7)
        assert most[i].double().equal(own.amax(0))


def test_empty_batches_and_rows_out_of_bounds() -> None:
    rows = RowStore([torch.randn(5, 8).half()])
    for reduce in (masked_means, masked_maxima):
        assert reduce(rows, torch.zeros(0, 4, dtype=torch.int64), torch.zeros(0, 4, dtype=torch.bool)).shape == (0, 8)
        nothing = reduce(rows, torch.zeros(3, 4, dtype=torch.int64), torch.zeros(3, 4, dtype=torch.bool))
        assert nothing.equal(torch.zeros(3, 8))
        with pytest.raises(ValueError, match="less than 5"):
            reduce(rows, torch.full((1, 1), 5), torch.ones(1, 1, dtype=torch.bool))


def test_nan_rows_propagate_unless_masked() -> None:
    rows = RowStore([torch.tensor([[1.0], [torch.nan], [torch.inf]])])
    row = torch.tensor([[0, 1], [0, 1]])
    mask = torch.tensor([[True, True], [True, False]])
    for reduce in (masked_means, masked_maxima):
        assert reduce(rows, row, mask).isnan().tolist() == [[True], [False]]
