"""Damaged banks: flipped bits and lost pages raise an InputError in bounded time, and never give wrong values."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from clep.bank import BankWriter, Clock, FeatureBank, build_lmdb, convert_per_video, copy_video
from clep.bank.format import BLOCK_BYTES, HEADER_BYTES, read_header
from clep.errors import InputError
from tests.bank.banks import edited, random_videos, write, write_per_video

DIM, PAGE = 700, 4096


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An irregular bank of a few hundred kB: 6 blocks of rows."""
    path = tmp_path_factory.mktemp("whole") / "b.h5"
    rng = np.random.default_rng(0)
    with BankWriter(path, DIM, Clock.irregular(1.0), encoder="e", source="s") as writer:
        for video in range(12):
            n = int(rng.integers(5, 30))
            rows = rng.standard_normal((n, DIM)).astype(np.float16)
            writer.add(f"video-{video}", rows, np.sort(rng.uniform(0, 60, n)), 60.0 if video % 2 else None)
    return path


def content(bank: FeatureBank) -> list[object]:
    """All tables and rows of a bank, as comparable values."""
    durations = bank.duration_s.nan_to_num(-1).tolist()
    seconds = [bank.video_seconds(uid).tolist() for uid in bank.videos]  # type: ignore[union-attr]
    stored = [bank.videos, bank.dim, str(bank.clock), bank.encoder, bank.source, bank.first_row.tolist()]
    rows = bank.take(torch.arange(bank.n_rows)).numpy().tobytes()
    return [*stored, durations, seconds, bank.mean(bank.first_row[:-1], bank.first_row[1:]).tolist(), rows]


def mutated(data: bytes, kind: str, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    at = int(rng.integers(len(data)))
    if kind == "flip":
        changed[at] ^= 1 << int(rng.integers(8))
    elif kind == "page":
        page = at // PAGE * PAGE
        changed[page : page + PAGE] = bytes(len(changed[page : page + PAGE]))
    elif kind == "cut":
        del changed[at:]
    else:  # another page of the file, as after a lost write
        page, other = at // PAGE * PAGE, int(rng.integers(len(data) // PAGE)) * PAGE
        changed[page : page + PAGE] = data[other : other + len(changed[page : page + PAGE])]
    return bytes(changed)


MANY = 40


@pytest.mark.parametrize("kind", ["flip", "page", "cut", "misplaced"])
@pytest.mark.parametrize("options", [("disk", True), ("disk", "first_read"), ("cpu", "first_read")], ids=str)
def test_no_damage_gives_a_wrong_value(tmp_path: Path, whole: Path, kind: str, options: tuple[str, bool | str]) -> None:
    device, verify = options
    expected, data = content(FeatureBank.open(whole)), whole.read_bytes()
    rng = np.random.default_rng([len(kind), len(device), verify is True])
    refused = 0
    for _ in range(MANY):
        (tmp_path / "b.h5").write_bytes(changed := mutated(data, kind, rng))
        try:
            assert content(FeatureBank.open(tmp_path / "b.h5", device, verify=verify)) == expected
            assert changed == data
        except InputError as error:
            refused += "b.h5" in str(error)
    assert refused > MANY // 2  # the other changes had no effect: a page of zeros, or the same page


@pytest.mark.parametrize("kind", ["flip", "page", "cut", "misplaced"])
@pytest.mark.parametrize("verify", [True, "first_read"])
def test_no_damage_of_an_lmdb_gives_a_wrong_value(tmp_path: Path, whole: Path, kind: str, verify: bool | str) -> None:
    pytest.importorskip("lmdb")
    where = build_lmdb(whole, tmp_path / "whole" / "b.lmdb")
    expected, data = content(FeatureBank.open(where, "lmdb")), where.read_bytes()
    rng = np.random.default_rng([len(kind), verify is True])
    refused = 0
    for index in range(MANY):
        path = tmp_path / f"{index}.lmdb"  # a new inode, since an open file is not verified again
        path.write_bytes(mutated(data, kind, rng))
        try:
            assert content(FeatureBank.open(path, "lmdb", verify=verify)) == expected
        except InputError as error:
            refused += f"{index}.lmdb" in str(error)
    assert refused > MANY // 3  # the others hit the padding after a value


def flipped_row(path: Path, row: int) -> None:
    header = read_header(path)
    assert header is not None
    with path.open("r+b") as file:
        file.seek(header.rows_begin + row * DIM * 2)
        file.write(b"\x12\x34")


def test_each_verify_option_verifies_its_rows(tmp_path: Path, whole: Path) -> None:
    path = Path(shutil.copy(whole, tmp_path / "b.h5"))
    n_rows, block_rows = FeatureBank.open(path).n_rows, BLOCK_BYTES // (2 * DIM)
    flipped_row(path, n_rows - 1)
    words = rf"b\.h5 is damaged: the data of rows \d+ to {n_rows - 1} does not match the stored checksum; copy it"
    for device, verify in (("disk", True), ("disk", "sample"), ("cpu", True), ("cpu", "first_read"), ("cpu", "sample")):
        with pytest.raises(InputError, match=words):
            FeatureBank.open(path, device, verify=verify)
    bank = FeatureBank.open(path)
    bank.take([0, block_rows])
    bank.mean([0], [2 * block_rows])
    last = bank.index([bank.videos[-1]])
    for read in (
        lambda: bank.take([n_rows - 1]),
        lambda: bank.mean([0], [n_rows]),  # a window of many blocks
        lambda: bank.mean([n_rows - 2], [n_rows]),
        lambda: bank.rows([n_rows - 3], [n_rows], 5),
        lambda: bank.long_term(last, [30.0]),
        lambda: bank.long_term_pooled(last, [30.0]),
        lambda: bank.long_term_pooled(last, [30.0], pool="max"),
        lambda: bank.video_rows(bank.videos[-1]),
        lambda: bank.verify(),
    ):
        with pytest.raises(InputError, match=words):
            read()
    for device in ("disk", "cpu"):
        FeatureBank.open(path, device, verify=False).take([n_rows - 1])
    with pytest.raises(InputError, match="verify='always' is unknown: choose 'first_read', true, 'sample' or false"):
        FeatureBank.open(path, verify="always")


def test_a_block_is_verified_once(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bank = FeatureBank.open(whole)
    bank.take([0, 1])
    monkeypatch.setattr("clep.bank.format.block_digest", lambda rows: pytest.fail("verified again"))
    bank.take([0, 1])
    bank.mean([0], [5])


def test_shards_are_verified_each(tmp_path: Path) -> None:
    for name, seed in (("a.h5", 1), ("b.h5", 2)):
        write(tmp_path / "bank" / name, random_videos(9, seed, DIM))
    bank = FeatureBank.open(tmp_path / "bank")
    second = int(bank.first_row[9])
    flipped_row(tmp_path / "bank" / "b.h5", 0)
    bank.take([0, second - 1])
    bank.mean([0], [second])
    for read in (lambda: bank.take([0, second]), lambda: bank.mean([0, second - 1], [1, second + 1])):
        with pytest.raises(InputError, match=r"b\.h5 is damaged"):
            read()


def test_copies_are_verified_even_with_verify_false(tmp_path: Path, whole: Path) -> None:
    pytest.importorskip("lmdb")
    path = Path(shutil.copy(whole, tmp_path / "b.h5"))
    flipped_row(path, 0)
    bank = FeatureBank.open(path, verify=False)
    with BankWriter(tmp_path / "copy.h5", DIM, bank.clock) as writer:
        with pytest.raises(InputError, match=r"b\.h5 is damaged"):
            copy_video(bank, bank.videos[0], writer)
        copy_video(bank, bank.videos[-1], writer)
    with pytest.raises(InputError, match=r"b\.h5 is damaged"):
        build_lmdb(path)
    assert not (tmp_path / "b.lmdb").exists()


def test_files_of_version_1_open_with_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    videos = random_videos()
    path = write(tmp_path / "old.h5", videos)
    with edited(path):
        pass
    with caplog.at_level(logging.WARNING):
        for verify in (True, "first_read", "sample", False):
            bank = FeatureBank.open(path, verify=verify)
            bank.verify()
            np.testing.assert_array_equal(bank.video_rows("v0_2"), videos["v0_2"])
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "old.h5 has no checksums" in caplog.text
    assert bank.nonfinite_rows is None
    caplog.clear()
    FeatureBank.open(write_per_video(tmp_path / "tutorial.h5", videos), clock=Clock())
    assert not caplog.records  # the tutorial's layout never has checksums


def test_a_bank_that_lost_its_header_is_damaged(tmp_path: Path) -> None:
    path = write(tmp_path / "b.h5", random_videos())
    with path.open("r+b") as file:
        file.write(bytes(HEADER_BYTES))
    with pytest.raises(InputError, match=r"b\.h5 is damaged: it lacks the header with its checksums"):
        FeatureBank.open(path)


@pytest.mark.parametrize("n_rows", [40, None])
def test_digests_are_of_the_rows_in_memory(tmp_path: Path, n_rows: int | None) -> None:
    """Also after refused videos, with videos that span blocks, and with rows added in pieces."""
    rng = np.random.default_rng(4)
    rows = rng.standard_normal((30, 9000)).astype(np.float16)
    bad = rows[:5].copy()
    bad[4, 7] = np.nan
    with BankWriter(tmp_path / "b.h5", 9000, None, n_rows=n_rows) as writer:
        writer.add("a", rows[:4])
        for given in (bad, iter([rows[:9], bad])):
            with pytest.raises(InputError, match="'b' has NaN"):
                writer.add("b", given)
        writer.add("c", (rows[i : i + 5] for i in range(4, 30, 5)))
        with pytest.raises(InputError, match="'d' has NaN"):
            writer.add("d", iter([rows[:2], bad]))
    bank = FeatureBank.open(tmp_path / "b.h5", verify=True)
    np.testing.assert_array_equal(bank.take(torch.arange(30)), rows)


def test_rows_that_are_not_finite_are_counted_and_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("lmdb")
    rows = np.ones((6, 4), np.float32)
    rows[1, 2], rows[3, 0] = np.nan, np.inf
    with BankWriter(tmp_path / "b.h5", 4, Clock(), allow_nonfinite=True) as writer:
        for uid, some in (("a", rows[:1]), ("b", rows), ("c", rows[3:4])):
            writer.add(uid, some)
    build_lmdb(tmp_path / "b.h5")
    for device in ("disk", "lmdb"):
        caplog.clear()
        assert FeatureBank.open(tmp_path / "b.h5", device).nonfinite_rows == {"b": 2, "c": 1}
        assert "b.h5: 3 rows of 2 videos are NaN or infinite, the first in 'b': leave these videos out" in caplog.text
    assert FeatureBank.open(write(tmp_path / "good.h5", random_videos())).nonfinite_rows == {}


def test_a_bank_that_is_truncated_while_it_is_open(tmp_path: Path) -> None:
    path = write(tmp_path / "b.h5", random_videos())
    bank = FeatureBank.open(path)
    bank.check_length()
    replacement = write(tmp_path / "new.h5", random_videos(2))
    kept = path.read_bytes()
    with path.open("r+b") as file:
        file.truncate(len(kept) - 10)
    with pytest.raises(InputError, match=r"b\.h5 was truncated while it was in use: it has .* bytes of .*rename it"):
        bank.check_length()
    replacement.rename(path)
    bank.check_length()  # another file: the mapping is of the old one, whose pages stay
    path.unlink()
    bank.check_length()


def external_link(file: h5py.File, other: Path) -> None:
    del file["rows"]
    file["rows"] = h5py.ExternalLink(str(other), "rows")


def soft_link(file: h5py.File, other: Path) -> None:
    file["elsewhere"] = h5py.ExternalLink(str(other), "/")
    del file["video/id"]
    file["video/id"] = h5py.SoftLink("/elsewhere/video/id")


def external_storage(file: h5py.File, other: Path) -> None:
    shape = file["rows"].shape
    del file["rows"]
    file.create_dataset("rows", shape, "f2", external=[(str(other), 0, h5py.h5f.UNLIMITED)])


def virtual(file: h5py.File, other: Path) -> None:
    shape = file["rows"].shape
    layout = h5py.VirtualLayout(shape, "f2")
    layout[...] = h5py.VirtualSource(str(other), "rows", shape)
    del file["rows"]
    file.create_virtual_dataset("rows", layout)


@pytest.mark.parametrize("kind", [external_link, soft_link, external_storage, virtual])
@pytest.mark.parametrize("device", ["disk", "cpu"])
def test_rows_of_other_files_are_refused(tmp_path: Path, kind: Callable[[h5py.File, Path], None], device: str) -> None:
    other = write(tmp_path / "other.h5", random_videos(seed=0))
    path = write(tmp_path / "b.h5", random_videos(seed=0))
    with edited(path) as file:
        kind(file, other)
    with pytest.raises(InputError, match=r"b\.h5: .*'(rows|elsewhere|video/id)' is (a link to|stored in an).*refused"):
        FeatureBank.open(path, device)


def test_a_tutorial_file_may_not_point_elsewhere_either(tmp_path: Path) -> None:
    write_per_video(tmp_path / "other.h5", random_videos())
    path = write_per_video(tmp_path / "old.h5", random_videos())
    with h5py.File(path, "r+") as file:
        file.create_dataset("zz", (3, 6), "f4", external=[(str(tmp_path / "other.h5"), 0, 72)])
    for read in (
        lambda: FeatureBank.open(path, clock=Clock()),
        lambda: convert_per_video(path, tmp_path / "out.h5", Clock()),
    ):
        with pytest.raises(InputError, match=r"old\.h5: the dataset 'zz' is stored in another file"):
            read()
