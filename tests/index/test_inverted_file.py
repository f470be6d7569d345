from pathlib import Path

import numpy as np
import pytest
import torch

from clep.bank import FeatureBank
from clep.errors import InputError
from clep.index import exact, inverted_file
from clep.index.inverted_file import InvertedFile
from tests.index.test_exact import bank_of, unit

faiss = pytest.importorskip("faiss", reason="needs faiss-cpu: pip install 'clep[search]'")


def clustered(folder: Path) -> tuple[FeatureBank, torch.Tensor]:
    """3,000 rows around 60 directions, and queries near some of these."""
    random = np.random.default_rng(0)
    concepts = unit(random.standard_normal((60, 24)))
    rows = unit(concepts[random.integers(0, 60, 3000)] + 0.1 * random.standard_normal((3000, 24)))
    rows[17] = np.nan
    queries = unit(concepts[:20] + 0.05 * random.standard_normal((20, 24)))
    return bank_of(folder, rows.astype(np.float32)), torch.from_numpy(queries.astype(np.float32))


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[FeatureBank, torch.Tensor, Path, InvertedFile]:
    monkeypatch.setattr(inverted_file, "ROWS_AT_ONCE", 700)
    bank, queries = clustered(tmp_path)
    return bank, queries, tmp_path / "a.ivf", InvertedFile.build(tmp_path / "a.ivf", "these", bank, queries)


def test_search_finds_what_exact_search_finds_with_exact_scores(
    built: tuple[FeatureBank, torch.Tensor, Path, InvertedFile],
) -> None:
    bank, queries, path, inverted = built
    assert inverted.recall >= 0.98
    opened = InvertedFile.open(path, "these")
    assert opened is not None
    assert (opened.recall, opened.probes) == (inverted.recall, inverted.probes)
    shares = []
    for query in queries:
        found, scores = opened.search(bank, query, 10)
        expected, _ = exact.nearest(bank, query, 10)
        shares.append(len(np.intersect1d(found, expected)) / 10)
        np.testing.assert_allclose(scores, bank.take(found) @ query, atol=1e-6)
        assert (np.diff(scores) <= 0).all()
    assert np.mean(shares) == pytest.approx(inverted.recall)


def test_codes_stay_in_the_file(built: tuple[FeatureBank, torch.Tensor, Path, InvertedFile]) -> None:
    lists = faiss.extract_index_ivf(built[3]._index).invlists
    assert isinstance(faiss.downcast_InvertedLists(lists), faiss.OnDiskInvertedLists)


def test_an_index_of_other_rows_is_none(built: tuple[FeatureBank, torch.Tensor, Path, InvertedFile]) -> None:
    assert InvertedFile.open(built[2], "others") is None
    assert InvertedFile.open(built[2].with_name("b.ivf"), "these") is None


@pytest.mark.parametrize("suffix", ["", ".json"])
def test_damage_is_an_error_that_names_the_file(
    built: tuple[FeatureBank, torch.Tensor, Path, InvertedFile], suffix: str
) -> None:
    path = built[2].with_name(f"a.ivf{suffix}")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"a\.ivf"):
        InvertedFile.open(built[2], "these")
