"""Banks of uint8 rows, such as pixels."""

from pathlib import Path

import numpy as np
import pytest
import torch

from clep.bank import BankWriter, Clock, FeatureBank, copy_video
from clep.errors import InputError
from tests.bank.banks import opened

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 12)).astype(np.uint8)


def written(path: Path) -> Path:
    with BankWriter(path, 12, Clock(2.0, 0.5), "uint8", encoder="pixels-2") as writer:
        writer.add("a", PIXELS[:25])
        writer.add("b", torch.from_numpy(PIXELS[25:]).float() + 1e-4)
    return path


@pytest.mark.parametrize("device", ["disk", "cpu", "lmdb"])
def test_gathers_of_uint8_rows_equal_numpy_in_float32(tmp_path: Path, device: str) -> None:
    bank = opened(written(tmp_path / "bank.h5"), device)
    assert bank.dtype == torch.uint8
    first, last = torch.tensor([0, 3, 30]), torch.tensor([25, 9, 31])
    means = [PIXELS[a:b].astype(np.float64).mean(0) for a, b in zip(first, last, strict=True)]
    torch.testing.assert_close(bank.mean(first, last), torch.from_numpy(np.stack(means)).float())
    rows, mask = bank.rows(first, last, 6)
    assert rows.dtype == torch.float32
    np.testing.assert_array_equal(rows[1][mask[1]], PIXELS[3:9])
    np.testing.assert_array_equal(rows[2, 1:], 0)
    slots, slot_mask = bank.long_term(torch.tensor([0]), torch.tensor([6.0]), window_s=4, per_second=2)
    np.testing.assert_array_equal(slots[0][slot_mask[0]], PIXELS[8:16])
    mean, _ = bank.long_term_pooled(torch.tensor([0]), torch.tensor([6.0]), 4, 2, pool="mean")
    torch.testing.assert_close(mean[0], torch.from_numpy(PIXELS[8:16].astype(np.float64).mean(0)).float())
    largest, _ = bank.long_term_pooled(torch.tensor([0]), torch.tensor([6.0]), 4, 2, pool="max")
    np.testing.assert_array_equal(largest[0], PIXELS[8:16].max(0))


def test_several_files_and_copies(tmp_path: Path) -> None:
    bank = FeatureBank.open(written(tmp_path / "one" / "a.h5"))
    with BankWriter(tmp_path / "one" / "b.h5", 12, Clock(2.0, 0.5), "uint8", encoder="pixels-2") as writer:
        writer.add("c", PIXELS[::-1].copy())
    both = FeatureBank.open(tmp_path / "one")
    whole = both.mean(both.first_row[:-1], both.first_row[1:])
    expected = [PIXELS[:25].mean(0), PIXELS[25:].mean(0), PIXELS.mean(0)]
    torch.testing.assert_close(whole, torch.from_numpy(np.stack(expected)).float())
    with BankWriter(tmp_path / "copy.h5", 12, Clock(2.0, 0.5), "uint8") as writer:
        copy_video(bank, "b", writer)
    np.testing.assert_array_equal(FeatureBank.open(tmp_path / "copy.h5").video_rows("b"), PIXELS[25:])


@pytest.mark.parametrize("value", [-1.0, 256.0, 0.5, np.nan, np.inf, 1e9])
def test_values_outside_uint8_are_refused(tmp_path: Path, value: float) -> None:
    rows = PIXELS.astype(np.float32)
    rows[3, 4] = value
    with (
        pytest.raises(InputError, match=r"'a' has rows that are not integers from 0 to 255"),
        BankWriter(tmp_path / "bank.h5", 12, Clock(), "uint8") as writer,
    ):
        writer.add("a", rows)


def test_float_rows_are_not_loaded_as_uint8(tmp_path: Path) -> None:
    with BankWriter(tmp_path / "bank.h5", 12, Clock(), "float32") as writer:
        writer.add("a", PIXELS.astype(np.float32) / 2)
    with pytest.raises(InputError, match=r"dtype='uint8' is unknown"):
        FeatureBank.open(tmp_path / "bank.h5", "cpu", "uint8")
    half = FeatureBank.open(written(tmp_path / "bytes.h5"), "cpu", "float16")  # integers to 2,048 are exact
    np.testing.assert_array_equal(half.video_rows("a"), PIXELS[:25])
