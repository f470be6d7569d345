from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from clep.bank import BankWriter, Clock, FeatureBank
from clep.errors import InputError
from clep.index import MomentIndex, index_path, moment_index
from clep.index.moment_index import IndexSettings

SETTINGS = IndexSettings("model", 4.0, 1.0)


def write_bank(path: Path, seed: int = 0, lengths: tuple[float, ...] = (40.0, 31.5, 2.0)) -> FeatureBank:
    random = np.random.default_rng(seed)
    with BankWriter(path, 8, Clock(2.0, 0.5), "float32") as writer:
        for index, length_s in enumerate(lengths):
            writer.add(f"v{index}", random.standard_normal((int(length_s * 2), 8)), duration_s=length_s)
    return FeatureBank.open(path)


class Embed:
    """Means of the rows of each window; counts the moments."""

    def __init__(self, bank: FeatureBank) -> None:
        self.bank, self.moments = bank, 0

    def __call__(self, video: torch.Tensor, start_s: torch.Tensor, end_s: torch.Tensor) -> torch.Tensor:
        self.moments += len(video)
        return self.bank.mean(*self.bank.window(video, start_s, end_s))


def probes() -> torch.Tensor:
    return torch.randn(20, 8, generator=torch.Generator().manual_seed(0))


def opened(bank: FeatureBank, settings: IndexSettings = SETTINGS, above: int | None = None) -> tuple[MomentIndex, int]:
    embed = Embed(bank)
    return MomentIndex.open(bank, settings, embed, probes, above), embed.moments


@pytest.mark.parametrize("at_once", [7, 10_000])
def test_rows_are_the_unit_embeddings_of_the_moments(
    tmp_path: Path, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moment_index, "MOMENTS_AT_ONCE", at_once)
    bank = write_bank(tmp_path / "bank.h5")
    index, count = opened(bank)
    video, start_s, end_s = index.grid.spans(np.arange(len(index)))
    expected = normalize(Embed(bank)(*map(torch.from_numpy, (video, start_s, end_s))), dim=-1)
    torch.testing.assert_close(index.rows.take(np.arange(len(index))), expected, atol=1e-3, rtol=0)
    assert count == len(index) == index.rows.n_rows
    assert index.rows.videos == bank.videos


def test_it_is_built_once_and_again_where_bank_model_or_window_differ(tmp_path: Path) -> None:
    bank = write_bank(tmp_path / "bank.h5")
    assert opened(bank)[1] > 0
    assert opened(bank)[1] == 0
    assert opened(bank, IndexSettings("model", 4.0, 2.0))[1] > 0
    assert opened(bank, IndexSettings("other model", 4.0, 1.0))[1] > 0
    changed = write_bank(tmp_path / "bank.h5", seed=1)
    index, count = opened(changed)
    assert count == len(index)
    assert index.rows.path == index_path(bank.path, SETTINGS)  # in the place of the outdated one
    assert len(list(tmp_path.glob("bank.*.moments"))) == 3


def test_a_damaged_index_is_built_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bank = write_bank(tmp_path / "bank.h5")
    path = opened(bank)[0].rows.path
    path.write_bytes(path.read_bytes()[:-100])
    index, count = opened(bank)
    assert count == len(index)
    assert "is truncated or damaged" in caplog.text


def test_damage_that_the_first_search_finds_is_named_with_the_remedy(tmp_path: Path) -> None:
    bank = write_bank(tmp_path / "b.h5")
    index, _ = opened(bank)
    path, stored = index_path(bank.path, SETTINGS), index.rows.video_rows(bank.videos[0])[3].half().numpy().tobytes()
    content = bytearray(path.read_bytes())
    content[content.index(stored)] ^= 1
    path.write_bytes(content)
    damaged, built = opened(bank)
    assert built == 0
    with pytest.raises(InputError, match=rf"{path.name} is damaged.*or delete this file: the next search builds it"):
        damaged.search(probes()[0], 3)


def test_a_folder_of_shards_has_its_index_beside_it(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    write_bank(tmp_path / "shards" / "a.h5")
    index, _ = opened(FeatureBank.open(tmp_path / "shards"))
    assert index.rows.path.parent == tmp_path


def test_a_bank_that_cannot_be_written_beside_uses_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bank = write_bank(tmp_path / "bank.h5")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(moment_index.os, "access", lambda *_: False)
    index, _ = opened(bank)
    assert index.rows.path.is_relative_to(tmp_path / "cache")
    assert opened(bank)[1] == 0


@pytest.mark.parametrize("above", [None, 10])
def test_search_equals_sorting_and_striking_out_overlaps(tmp_path: Path, above: int | None) -> None:
    if above is not None:
        pytest.importorskip("faiss")
    index, _ = opened(write_bank(tmp_path / "bank.h5", lengths=(90.0, 60.0, 2.0, 33.0)), above=above)
    rows = index.rows.take(np.arange(len(index)))
    for query in normalize(probes(), dim=-1)[:5]:
        order = (rows @ query).argsort(descending=True).numpy()
        for top in (3, 100):
            moments, scores = index.search(query, top)
            assert moments.tolist() == order[index.grid.without_overlaps(order, top)].tolist()
            np.testing.assert_allclose(scores, rows[moments] @ query, atol=1e-6)
    only = index.search(query, 100, [2, 3])[0]
    assert set(index.grid.video(only).tolist()) == {2, 3}
    assert len(index.search(query, 5, [])[0]) == 0
    assert (index.approximate is None) == (above is None)


def test_scores_and_embedding_of_a_moment(tmp_path: Path) -> None:
    index, _ = opened(write_bank(tmp_path / "bank.h5"))
    queries = normalize(probes(), dim=-1)
    found = index.scores(np.array([0, 5, 6]), queries)
    torch.testing.assert_close(torch.from_numpy(found[1]), queries @ index.embedding(5))
    assert found.shape == (3, 20)


def test_a_bank_without_clock_is_refused(tmp_path: Path) -> None:
    with BankWriter(tmp_path / "texts.h5", 8, None) as writer:
        writer.add("texts", np.ones((2, 8), np.float32))
    with pytest.raises(InputError, match="has no clock"):
        opened(FeatureBank.open(tmp_path / "texts.h5"))
