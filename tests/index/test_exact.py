from pathlib import Path

import numpy as np
import pytest
import torch

from clep.bank import BankWriter, FeatureBank
from clep.index import exact


def bank_of(folder: Path, rows: np.ndarray) -> FeatureBank:
    with BankWriter(folder / "rows.h5", rows.shape[1], None, "float16", allow_nonfinite=True) as writer:
        writer.add("all", rows)
    return FeatureBank(folder / "rows.h5")


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def sorted_products(bank: FeatureBank, query: torch.Tensor) -> np.ndarray:
    products = bank.take(np.arange(bank.n_rows)).double() @ query.double()
    return np.sort(products.numpy())[::-1]


@pytest.mark.parametrize("count", [1, 10, 500, 999_999])
def test_nearest_rows_are_those_of_sorted_products(tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "BLOCK_BYTES", 100 * 64)  # many blocks
    rows = unit(np.random.default_rng(0).standard_normal((3000, 32)).astype(np.float32))
    rows[700:800] = rows[700] + 2e-4 * rows[800:900]  # nearer to one another than half precision tells apart
    bank, query = bank_of(tmp_path, rows), torch.from_numpy(rows[700])
    found, scores = exact.nearest(bank, query, count)
    products = sorted_products(bank, query)
    assert len(found) == min(count, 3000)
    assert scores == pytest.approx(products[: len(found)], abs=1e-6)
    np.testing.assert_allclose(bank.take(found).double() @ query.double(), products[: len(found)], atol=1e-6)
    assert len(set(found.tolist())) == len(found)


def test_half_precision_is_within_the_margin() -> None:
    """Otherwise a near row could be missed: `nearest` relies on it on every processor."""
    random = np.random.default_rng(1)
    for dim in (3, 64, 512, 2048):
        rows = torch.from_numpy(unit(random.standard_normal((400, dim)))).half()
        query = torch.from_numpy(unit(random.standard_normal(dim)))
        rows[0] = query.half()
        coarse = torch.mv(rows, query.float().half()).double()
        assert float((coarse - rows.double() @ query).abs().max()) < exact.MARGIN


def test_rows_that_are_not_finite_are_never_found(tmp_path: Path) -> None:
    rows = -np.ones((6, 4), np.float32) / 2
    rows[2] = np.nan
    found, scores = exact.nearest(bank_of(tmp_path, rows), torch.full((4,), 0.5), 4)
    assert found.tolist() == [0, 1, 3, 4]
    assert scores.tolist() == pytest.approx([-1.0] * 4)


def test_nearest_of_many_queries_equals_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "BLOCK_BYTES", 64 * 64)
    random = np.random.default_rng(2)
    bank = bank_of(tmp_path, unit(random.standard_normal((500, 16))).astype(np.float32))
    queries = torch.from_numpy(unit(random.standard_normal((7, 16))).astype(np.float32))
    together = exact.nearest_of_many(bank, queries, 10)
    for query, found in zip(queries, together, strict=True):
        assert set(found.tolist()) == set(exact.nearest(bank, query, 10)[0].tolist())
