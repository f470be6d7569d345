"""LMDB banks, compared with the same bank on disk; `test_feature_bank` runs on both storages."""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from clep.bank import BankWriter, Clock, FeatureBank, build_lmdb
from clep.bank.lmdb import LmdbFile, lmdb_path
from clep.errors import InputError
from clep.preprocess.__main__ import main
from clep.preprocess.bank_lmdb import BankLmdb
from tests.bank.banks import random_videos, write

lmdb = pytest.importorskip("lmdb")

COMMAND = r"python -m clep\.preprocess bank_lmdb bank=\S*b\.h5 overwrite=true"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """40 videos of up to 40 rows of dimension 1024: several blocks."""
    return write(tmp_path / "b.h5", random_videos(40, dim=1024))


def irregular(path: Path, dtype: str) -> Path:
    rng = np.random.default_rng(3)
    with BankWriter(path, 700, Clock.irregular(1.0), dtype, "enc", "src") as writer:
        for video in range(30):
            n = int(rng.integers(1, 200))
            rows = rng.standard_normal((n, 700)).astype(np.float32)
            writer.add(f"v{video}", rows, np.sort(rng.integers(900, 960, n)), 1800.0 if video % 2 else None)
    return path


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_lmdb_equals_the_bank_on_disk(tmp_path: Path, dtype: str) -> None:
    path = irregular(tmp_path / "b.h5", dtype)
    assert build_lmdb(path) == tmp_path / "b.lmdb" == lmdb_path(path)
    disk, lmdb_bank = FeatureBank.open(path), FeatureBank.open(path, "lmdb")
    assert lmdb_bank.storage == "lmdb"
    for name in ("videos", "dim", "n_rows", "clock", "encoder", "source", "dtype", "device"):
        assert getattr(lmdb_bank, name) == getattr(disk, name), name
    assert lmdb_bank.first_row.equal(disk.first_row)
    assert lmdb_bank.duration_s.nan_to_num(-1).equal(disk.duration_s.nan_to_num(-1))
    assert lmdb_bank.end_s.equal(disk.end_s)
    video, second = torch.randint(0, 30, (50,)), 900 + torch.rand(50, dtype=torch.float64) * 60
    windows = [bank.window(video, second, second + 9) for bank in (disk, lmdb_bank)]
    assert windows[0][0].equal(windows[1][0])
    assert disk.mean(*windows[0]).equal(lmdb_bank.mean(*windows[0]))
    for sample in ("uniform", "random"):
        drawn = [b.rows(*windows[0], 4, sample, torch.Generator().manual_seed(1)) for b in (disk, lmdb_bank)]
        assert drawn[0][0].equal(drawn[1][0])
    row = torch.randint(0, disk.n_rows, (99,))  # in no order
    assert disk.take(row).equal(lmdb_bank.take(row))
    for look, options in (
        ("long_term", {}),
        ("long_term_pooled", {"pool": "mean"}),
        ("long_term_pooled", {"pool": "max"}),
        ("long_term_shared", {}),
    ):
        drawn = [
            getattr(b, look)(video, second, 20, 3, torch.Generator().manual_seed(1), **options)
            for b in (disk, lmdb_bank)
        ]
        assert drawn[0][0].equal(drawn[1][0])
        assert drawn[0][1].equal(drawn[1][1])
    assert disk.video_rows("v7").equal(lmdb_bank.video_rows("v7"))
    assert torch.equal(*(bank.video_seconds("v7") for bank in (disk, lmdb_bank)))


@pytest.mark.parametrize("stored", ["float16", "float32"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("order", ["runs", "scattered rows", "scattered slots"])
def test_rows_are_converted_and_put_in_their_slots(tmp_path: Path, stored: str, dtype: torch.dtype, order: str) -> None:
    path = irregular(tmp_path / "b.h5", stored)
    build_lmdb(path)
    disk, rows = FeatureBank.open(path), FeatureBank.open(path, "lmdb")._contents.rows
    row = torch.cat([torch.arange(3, 250), torch.arange(100, 120), torch.arange(disk.n_rows - 90, disk.n_rows)])
    slot = torch.arange(len(row)) + 5 * (torch.arange(len(row)) > 300)
    if order == "scattered rows":
        row = row[torch.randperm(len(row))]
    elif order == "scattered slots":
        slot = slot[torch.randperm(len(slot))]
    out = torch.full((len(row) + 9, disk.dim), 7.0).to(dtype)
    expected = out.clone()
    expected[slot] = disk.take(row).to(dtype)
    assert rows.copy_to(row, slot, out)
    assert out.equal(expected)
    assert rows.copy_to(row[:0], slot[:0], out)
    assert out.equal(expected)


def test_half_precision_is_half_the_size(tmp_path: Path) -> None:
    videos = random_videos(40, dim=1024)
    half, whole = (write(tmp_path / f"{dtype}.h5", videos, dtype=dtype) for dtype in ("float16", "float32"))
    for smaller, larger in ((half, whole), (build_lmdb(half), build_lmdb(whole))):
        assert smaller.stat().st_size / larger.stat().st_size == pytest.approx(0.5, abs=0.02)


def test_a_folder_of_shards_and_a_bank_of_texts(tmp_path: Path) -> None:
    (tmp_path / "bank").mkdir()
    for seed in (1, 2):
        write(tmp_path / "bank" / f"{seed}.h5", random_videos(9, seed))
    assert build_lmdb(tmp_path / "bank") == tmp_path / "bank.lmdb"
    disk, lmdb_bank = FeatureBank.open(tmp_path / "bank"), FeatureBank.open(tmp_path / "bank", "lmdb")
    assert lmdb_bank.videos == disk.videos
    assert lmdb_bank.video_rows("v2_3").equal(disk.video_rows("v2_3"))
    with BankWriter(tmp_path / "texts.h5", 3, None) as writer:
        writer.add("texts", np.eye(3))
    build_lmdb(tmp_path / "texts.h5")
    texts = FeatureBank.open(tmp_path / "texts.h5", "lmdb")
    assert texts.clock is None
    assert texts.take([1]).tolist() == [[0, 1, 0]]


def test_lmdb_opens_without_the_bank(path: Path) -> None:
    build_lmdb(path)
    wanted = FeatureBank.open(path).video_rows("v0_3")
    path.unlink()
    for name in (path, lmdb_path(path)):
        assert FeatureBank.open(name, "lmdb").video_rows("v0_3").equal(wanted)
    with pytest.raises(InputError, match=r"b\.lmdb is an LMDB bank: open it with device='lmdb'"):
        FeatureBank.open(lmdb_path(path))


def test_a_missing_or_wrong_lmdb_is_refused_with_the_build_command(path: Path) -> None:
    with pytest.raises(InputError, match=rf"b\.lmdb does not exist: build it with {COMMAND}"):
        FeatureBank.open(path, "lmdb")
    shutil.copy(build_lmdb(write(path.with_name("c.h5"), random_videos(2))), lmdb_path(path))
    with pytest.raises(InputError, match=rf"b\.lmdb was made from c\.h5, not from b\.h5: build .* {COMMAND}"):
        FeatureBank.open(path, "lmdb")


@pytest.mark.parametrize("content", [b"", b"not an lmdb " * 1000])
def test_a_foreign_file_is_refused(path: Path, content: bytes) -> None:
    lmdb_path(path).write_bytes(content)
    with pytest.raises(InputError, match=rf"b\.lmdb is .* not an LMDB.*{COMMAND}"):
        FeatureBank.open(path, "lmdb")


@pytest.mark.parametrize("share", [0.2, 0.6, 0.99])
def test_a_truncated_lmdb_is_refused(path: Path, share: float) -> None:
    where = build_lmdb(path)
    os.truncate(where, int(where.stat().st_size * share))
    with pytest.raises(InputError, match=rf"b\.lmdb is truncated.*{COMMAND}"):
        FeatureBank.open(path, "lmdb")


def test_a_half_built_lmdb_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a copy of an LMDB that was being written, or a foreign database."""
    with lmdb.open(str(lmdb_path(path)), subdir=False, lock=False, map_size=1 << 20) as environment:
        with environment.begin(write=True) as transaction:
            transaction.put(b"rows" + bytes(8), b"\0" * 4096)
    with pytest.raises(InputError, match=rf"b\.lmdb is truncated, half-built.*: build it again with {COMMAND}"):
        FeatureBank.open(path, "lmdb")
    # A build that fails half-way keeps the old file and leaves no temporary file.
    before = lmdb_path(path).read_bytes()
    monkeypatch.setattr("clep.bank.lmdb._tables", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build_lmdb(path)
    assert lmdb_path(path).read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir()) == ["b.h5", "b.lmdb"]


def test_a_stale_lmdb_is_refused_and_a_copy_is_not(path: Path) -> None:
    build_lmdb(path)
    times = path.stat().st_mtime_ns
    os.utime(path, ns=(0, 0))  # as after copying
    assert len(FeatureBank.open(path, "lmdb")) == 40
    changed = random_videos(40, dim=1024)
    changed["v0_39"][-1, 1] = 9.0
    write(path, changed)
    with pytest.raises(InputError, match=rf"b\.lmdb is stale: \S*b\.h5 has changed since it was made.*{COMMAND}"):
        FeatureBank.open(path, "lmdb")
    build_lmdb(path)
    assert FeatureBank.open(path, "lmdb").take([-1 + sum(map(len, changed.values()))])[0, 1] == 9.0
    write(path, random_videos(39, dim=1024))
    os.utime(path, ns=(times, times))
    for name in (path, lmdb_path(path)):
        with pytest.raises(InputError, match="is stale"):
            FeatureBank.open(name, "lmdb")


def test_an_lmdb_without_its_blocks_is_refused(path: Path) -> None:
    where = build_lmdb(path)
    with lmdb.open(str(where), subdir=False, lock=False, map_size=1 << 28) as environment:
        with environment.begin(write=True) as transaction:
            transaction.delete(b"rows" + (1).to_bytes(8, "big"))
    with pytest.raises(InputError, match=rf"b\.lmdb is .*damaged.*{COMMAND}"):
        FeatureBank.open(path, "lmdb")


def test_two_banks_share_the_open_lmdb_and_close_it(path: Path) -> None:
    build_lmdb(path)
    one, two = FeatureBank.open(path, "lmdb"), FeatureBank.open(path, "lmdb")
    assert one.take([5]).equal(two.take([5]))
    del one
    assert two.take([5]).shape == (1, 1024)
    del two
    with lmdb.open(str(lmdb_path(path)), subdir=False, readonly=True, lock=False) as environment:
        assert environment.info()["last_pgno"] > 0  # not open in this process any more


def test_a_rebuilt_lmdb_is_not_mixed_with_the_old(path: Path) -> None:
    build_lmdb(path)
    bank = FeatureBank.open(path, "lmdb")
    before = bank.take([5])
    write(path, random_videos(7, seed=8, dim=1024))
    build_lmdb(path)
    assert bank.take([5]).equal(before)  # the old file is still open
    assert FeatureBank.open(path, "lmdb").videos == list(random_videos(7, seed=8))
    if (child := os.fork()) == 0:  # the fork closed it
        os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(InputError, match=r"b\.lmdb was replaced while it was in use: open the bank again"):
        bank.take([5])


def test_only_blocks_with_requested_rows_are_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_lmdb(path)
    bank = FeatureBank.open(path, "lmdb")
    keys = []
    reading = LmdbFile.reading

    class Spy:
        def __init__(self, transaction):
            self.transaction = transaction

        def get(self, key):
            keys.append(int.from_bytes(key[4:], "big"))
            return self.transaction.get(key)

    @contextmanager
    def spying(self):
        with reading(self) as transaction:
            yield Spy(transaction)

    monkeypatch.setattr(LmdbFile, "reading", spying)
    block = (131072 - 16) // 2048
    bank.take([0, 5, block - 1, 3 * block, 3 * block + 1])
    assert keys == [0, 3]


def test_other_types_and_clocks_are_refused_as_on_disk(path: Path, tmp_path: Path) -> None:
    build_lmdb(path)
    assert FeatureBank.open(path, "lmdb", "float16", Clock()).dtype == torch.float16
    with pytest.raises(InputError, match=r"stores float16.*device='cpu' or 'cuda' for dtype=float32"):
        FeatureBank.open(path, "lmdb", "float32")
    with pytest.raises(InputError, match="leave clock out to use its own"):
        FeatureBank.open(path, "lmdb", clock=Clock(1.0, 1.0))
    with h5py.File(tmp_path / "double.h5", "w") as file:
        file["v"] = np.ones((3, 2))
    with pytest.raises(InputError, match=r"double\.h5 stores float64.*one of float16, float32"):
        build_lmdb(tmp_path / "double.h5", clock=Clock())


def test_the_package_may_be_missing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_lmdb(path)
    monkeypatch.setitem(__import__("sys").modules, "lmdb", None)
    for look in (lambda: FeatureBank.open(path, "lmdb"), lambda: build_lmdb(path)):
        with pytest.raises(InputError, match=r"needs the package lmdb: pip install 'clep\[lmdb\]'$"):
            look()


def test_the_job(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert main(["bank_lmdb", f"bank={path}"]) == 0
    assert BankLmdb(bank=path).run() == {"videos": 40, "rows": FeatureBank.open(path).n_rows, "up_to_date": True}
    write(path, random_videos(3))
    assert BankLmdb(bank=path).run()["up_to_date"] is False
    assert BankLmdb(bank=path, overwrite=True).run()["videos"] == 3
    assert BankLmdb(bank=path).cost_warning(0, 0) is None
    assert "GB of features" in str(BankLmdb(bank=path, overwrite=True).cost_warning(0, 0))
    assert BankLmdb(bank=path).outputs() == [lmdb_path(path)]
    with pytest.raises(InputError, match="both rows_per_second and row_seconds"):
        BankLmdb(bank=path, rows_per_second=1.0).run()
