"""Degenerate features are reported when a bank is opened."""

from pathlib import Path

import numpy as np
import pytest
import torch

from clep.bank import BankWriter, Clock, FeatureBank
from clep.data import feature_check
from clep.data.feature_check import check_features, sampled_rows
from clep.errors import InputError
from tests.tiny_source import TEXT_DIM, write_tiny_files
from tests.training.tiny_run import tiny_data


def bank_of(path: Path, rows: np.ndarray, videos: int = 4) -> FeatureBank:
    with BankWriter(path, rows.shape[1], Clock(), "float32", allow_nonfinite=True) as writer:
        for index, part in enumerate(np.array_split(rows, videos)):
            writer.add(f"v{index}", part.astype(np.float32))
    return FeatureBank.open(path)


def good_rows(count: int = 80) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 6))


@pytest.mark.parametrize(
    ("value", "problem"),
    [(np.nan, "not finite"), (np.inf, "not finite"), (1e30, "larger than 1,000,000"), (0.0, "zero"), (0.7, "equal")],
)
def test_a_bank_of_degenerate_rows_is_refused(tmp_path: Path, value: float, problem: str) -> None:
    bank = bank_of(tmp_path / "a.h5", np.full((80, 6), value))
    with pytest.raises(InputError, match=rf"a\.h5: all text embeddings are {problem}; embed again"):
        check_features(bank, "text embedding", "embed again")


def test_some_degenerate_rows_are_counted_with_their_videos(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = good_rows()
    rows[[3, 5, 41], 2] = np.nan
    rows[70] = -1e20
    check_features(bank_of(tmp_path / "a.h5", rows), "row", "extract again")
    assert "a.h5: 3 rows of 2 videos (the first is v0) are not finite; extract again" in caplog.text
    assert "a.h5: 1 row of 1 video (the first is v3) is larger than 1,000,000; extract again" in caplog.text


def test_good_rows_give_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    check_features(bank_of(tmp_path / "a.h5", good_rows()), "row", "")
    check_features(bank_of(tmp_path / "b.h5", good_rows(1), 1), "row", "")
    assert not caplog.records


def test_a_large_bank_is_sampled_from_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    row = sampled_rows(10**9)
    assert (int(row[0]), int(row[-1]), len(row.unique())) == (0, 10**9 - 1, 1024)
    monkeypatch.setattr(feature_check, "ALL_ROWS", 100)
    rows = good_rows(4000)
    rows[:8] = np.nan
    check_features(bank_of(tmp_path / "a.h5", rows), "row", "extract again")
    assert "8 rows of 1 video (the first is v0) are not finite (of 1,024 that were sampled from 4,000)" in caplog.text


def test_the_data_module_checks_both_banks(tmp_path: Path) -> None:
    write_tiny_files(tmp_path)
    texts = FeatureBank.open(tmp_path / "texts.h5")
    count, source = texts.n_rows, texts.source
    with BankWriter(tmp_path / "texts.h5", TEXT_DIM, None, "float32", source=source) as writer:
        writer.add("texts", torch.ones(count, TEXT_DIM))
    with pytest.raises(InputError, match=r"texts\.h5: all text embeddings are equal; embed the texts of .*narrations"):
        tiny_data(tmp_path).setup()
