import resource
import threading

import h5py
import numpy as np
import pytest
import torch

from clep.bank import BankWriter, Clock, FeatureBank
from clep.errors import InputError
from clep.extraction import features
from clep.extraction.engine import Engine, shards_folder
from clep.extraction.feature_files import feature_files
from clep.extraction.features import PackSettings, copy_videos, expected_rows, pack_features
from clep.extraction.ledger import ledger_path, read_ledger
from tests.preprocess.conftest import DIM, write_features

ROWS = {"a": 3, "b": 1, "c": 5, "d": 2}


def frames_of_rows(n_frames: int, window: int = 32, stride: int = 16) -> list[int]:
    """Ego4D's extraction, step by step: windows from frame 0 until one reaches the end, the last one backed up."""
    starts, start = [], 0
    while True:
        if start + window >= n_frames:
            return [*starts, max(0, n_frames - window)]
        starts.append(start)
        start += stride


@pytest.mark.parametrize("n_frames", [*range(1, 200), 49564, 9999])
def test_expected_rows_equal_the_extraction(n_frames):
    assert expected_rows(n_frames / 30, Clock()) == len(frames_of_rows(n_frames))


def test_expected_rows_of_the_published_example():
    assert frames_of_rows(39) == [0, 7]
    assert expected_rows(39 / 30, Clock()) == 2
    assert expected_rows(float("nan"), Clock()) is None
    assert expected_rows(3.0, Clock.irregular(1.0)) is None


@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_transposed_files_are_refused(tmp_path, on_error):
    (tmp_path / "in").mkdir()
    for name, rows in {"a": 5, "b": 9, "c": 7, "d": 9, "e": 8}.items():
        torch.save(torch.ones(DIM, rows), tmp_path / "in" / f"{name}.pt")
    settings = PackSettings(Clock(2.0, 1.0), encoder="e", source="s", on_error=on_error)
    with pytest.raises(InputError, match=rf"a: \[{DIM}, 5\], b: \[{DIM}, 9\].* transpose them to \[rows, dim\]"):
        pack_features(feature_files(tmp_path / "in"), tmp_path / "out.h5", settings)
    assert not (tmp_path / "out.h5").exists()


@pytest.mark.parametrize("shard_bytes", [1, 3000, 2**30])
def test_the_bank_holds_the_rows_of_the_files(tmp_path, shard_bytes):
    tensors = write_features(tmp_path / "in", ROWS)
    settings = PackSettings(Clock(2.0, 1.0), dtype="float32", encoder="e", source="s", shard_bytes=shard_bytes)
    report = pack_features(feature_files(tmp_path / "in"), tmp_path / "out.h5", settings, {"c": 3.0})
    bank = FeatureBank.open(tmp_path / "out.h5")
    assert list(bank.videos) == report.videos == list(ROWS)
    assert report.rows == bank.n_rows == sum(ROWS.values())
    assert (bank.encoder, bank.clock) == ("e", Clock(2.0, 1.0))
    assert bank.source.startswith("s [settings ")
    entries = read_ledger(ledger_path(tmp_path / "out.h5"))
    assert [(entry.id, entry.status, entry.rows) for entry in entries] == [(id_, "done", n) for id_, n in ROWS.items()]
    for name, tensor in tensors.items():
        assert torch.equal(bank.video_rows(name), tensor)
    assert np.isnan(bank.duration_s.tolist()).tolist() == [True, True, False, True]
    assert [path.name for path in tmp_path.iterdir()].count("out.h5") == 1
    assert [path.name for path in tmp_path.glob(".out*")] == [".out.shards.lock"]


def contents(path) -> dict[str, object]:
    """Every dataset and attribute of a file, as plain values."""
    with h5py.File(path) as file:
        found: dict[str, object] = {key: repr(value) for key, value in file.attrs.items()}
        file.visititems(
            lambda name, item: found.update({name: repr(item[()].tolist())} if hasattr(item, "dtype") else {})
        )
    return found


def interrupt_at(monkeypatch, name: str) -> None:
    add = BankWriter.add

    def stop(self, uid, *args, **options):
        if uid == name:
            raise KeyboardInterrupt
        return add(self, uid, *args, **options)

    monkeypatch.setattr(BankWriter, "add", stop)


@pytest.fixture
def packed(monkeypatch) -> list[str]:
    """The names of the files that are read to be packed."""
    names: list[str] = []
    real = features.open_features

    def noted(path, *args, **options):
        names.append(path.stem)
        return real(path, *args, **options)

    monkeypatch.setattr(features, "open_features", noted)
    return names


@pytest.mark.parametrize("shard_bytes", [1, 2**30])
def test_after_ctrl_c_a_second_run_continues_and_gives_the_same_bank(tmp_path, monkeypatch, packed, shard_bytes):
    write_features(tmp_path / "in", ROWS)
    (tmp_path / "in" / "aa.pt").write_bytes(b"broken")
    files, settings = feature_files(tmp_path / "in"), PackSettings(Clock(), shard_bytes=shard_bytes)
    whole = pack_features(files, tmp_path / "whole.h5", settings)
    with monkeypatch.context() as patch:
        interrupt_at(patch, "a" if shard_bytes == 1 else "c")
        with pytest.raises(KeyboardInterrupt):
            pack_features(files, tmp_path / "out.h5", settings)
    assert not (tmp_path / "out.h5").exists()
    done = [entry.id for path in shards_folder(tmp_path / "out.h5").glob("*.jsonl") for entry in read_ledger(path)]
    packed.clear()
    report = pack_features(files, tmp_path / "out.h5", settings)
    assert sorted(packed + done) == ["a", "aa", "b", "c", "d"]
    assert done or shard_bytes == 1
    assert report == whole
    assert contents(tmp_path / "out.h5") == contents(tmp_path / "whole.h5")


def test_after_ctrl_c_while_joining_only_joining_is_repeated(tmp_path, monkeypatch):
    write_features(tmp_path / "in", ROWS)
    files, settings = feature_files(tmp_path / "in"), PackSettings(Clock(), shard_bytes=1)

    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "_write_bank", stop)
        with pytest.raises(KeyboardInterrupt):
            pack_features(files, tmp_path / "out.h5", settings)
    monkeypatch.setattr(features.FeatureRows, "encode", stop)
    assert pack_features(files, tmp_path / "out.h5", settings).videos == list(ROWS)


def test_shards_of_changed_files_or_settings_are_not_reused(tmp_path, monkeypatch):
    write_features(tmp_path / "in", ROWS)
    files = feature_files(tmp_path / "in")
    with monkeypatch.context() as patch:
        interrupt_at(patch, "d")
        with pytest.raises(KeyboardInterrupt):
            pack_features(files, tmp_path / "out.h5", PackSettings(Clock(), dtype="float32", shard_bytes=1))
    changed = write_features(tmp_path / "in", {"a": 3}, seed=1)["a"]
    pack_features(files, tmp_path / "out.h5", PackSettings(Clock(), dtype="float32", shard_bytes=1))
    assert torch.equal(FeatureBank.open(tmp_path / "out.h5").video_rows("a"), changed)


def test_files_added_after_an_interruption_do_not_repeat_finished_work(tmp_path, monkeypatch, packed):
    write_features(tmp_path / "in", ROWS)
    settings = PackSettings(Clock(), shard_bytes=1)
    with monkeypatch.context() as patch:
        interrupt_at(patch, "d")
        with pytest.raises(KeyboardInterrupt):
            pack_features(feature_files(tmp_path / "in"), tmp_path / "out.h5", settings)
    write_features(tmp_path / "in", {"e": 2})
    done = [entry.id for path in shards_folder(tmp_path / "out.h5").glob("*.jsonl") for entry in read_ledger(path)]
    packed.clear()
    assert pack_features(feature_files(tmp_path / "in"), tmp_path / "out.h5", settings).videos == [*ROWS, "e"]
    assert sorted(packed + done) == [*ROWS, "e"]
    assert done


def test_a_bank_follows_its_folder_and_reads_only_what_is_new(tmp_path, packed):
    write_features(tmp_path / "in", ROWS)
    settings = PackSettings(Clock(), dtype="float32")
    pack_features(feature_files(tmp_path / "in"), tmp_path / "out.h5", settings)
    changed = write_features(tmp_path / "in", {"b": 1, "e": 4}, seed=1)
    (tmp_path / "in" / "c.pt").unlink()
    packed.clear()
    report = pack_features(feature_files(tmp_path / "in"), tmp_path / "out.h5", settings, {"a": 2.0})
    bank = FeatureBank.open(tmp_path / "out.h5")
    assert report.videos == bank.videos == ["a", "b", "d", "e"]
    assert sorted(packed) == ["a", "b", "e"], "a has another duration, b other values, e is new"
    assert torch.equal(bank.video_rows("b"), changed["b"])
    packed.clear()
    pack_features(feature_files(tmp_path / "in"), tmp_path / "out.h5", settings, {"a": 2.0}, overwrite=True)
    assert sorted(packed) == ["a", "b", "d", "e"]


def test_two_equal_jobs_at_once_read_each_file_once(tmp_path, packed):
    write_features(tmp_path / "in", ROWS)
    arguments = (feature_files(tmp_path / "in"), tmp_path / "out.h5", PackSettings(Clock()))
    jobs = [threading.Thread(target=pack_features, args=arguments) for _ in range(2)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert sorted(packed) == list(ROWS)
    assert FeatureBank.open(tmp_path / "out.h5").n_rows == sum(ROWS.values())


def test_leftovers_of_a_killed_run_are_removed_by_the_next_run(tmp_path):
    write_features(tmp_path / "in", ROWS)
    left = [tmp_path / ".out.h5.0123abcd.tmp.h5", tmp_path / ".out.h5.0123abcd.tmp.rows"]
    for path in left:
        path.write_bytes(b"half a bank")
    pack_features(feature_files(tmp_path / "in"), tmp_path / "out.h5", PackSettings(Clock()))
    assert not any(path.exists() for path in left)


def test_bad_files_are_listed_by_kind_and_the_rest_is_packed(tmp_path):
    folder = tmp_path / "in"
    write_features(folder, ROWS)
    torch.save(torch.full((2, DIM), float("nan")), folder / "nan.pt")
    torch.save(torch.ones(2, DIM + 1), folder / "wide.pt")
    (folder / "empty.pt").write_bytes(b"")
    report = pack_features(feature_files(folder), tmp_path / "out.h5", PackSettings(Clock()))
    assert report.videos == list(ROWS)
    assert {kind: list(reasons) for kind, reasons in report.skipped.items()} == {
        "unreadable": ["empty"], "not_finite": ["nan"], "other_dim": ["wide"],
    }  # fmt: skip
    with pytest.raises(InputError, match=r"empty\.pt"):
        pack_features(feature_files(folder), tmp_path / "stop.h5", PackSettings(Clock(), on_error="stop"))
    assert not (tmp_path / "stop.h5").exists()


def test_a_folder_without_one_good_file_writes_nothing(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"")
    with pytest.raises(InputError, match="none of the 1 feature files is usable"):
        pack_features(feature_files(tmp_path), tmp_path / "out.h5", PackSettings(Clock()))
    assert not (tmp_path / "out.h5").exists()


def test_a_duration_that_the_rows_contradict_is_listed_and_not_kept(tmp_path):
    write_features(tmp_path / "in", {"a": 8, "b": 8, "c": 8})
    clock = Clock(1.0, 1.0)
    report = pack_features(
        feature_files(tmp_path / "in"), tmp_path / "out.h5", PackSettings(clock), {"a": 8.0, "b": 10.0, "c": 11.0}
    )
    assert report.off_duration == {"c": "8 rows, but 11 fit its 11.0 s"}
    assert FeatureBank.open(tmp_path / "out.h5").duration_s[:2].tolist() == [8.0, 10.0]
    assert FeatureBank.open(tmp_path / "out.h5").duration_s[2].isnan()


def test_a_full_disk_is_one_clear_error_and_leaves_no_bank(tmp_path):
    write_features(tmp_path / "in", {"a": 500, "b": 500})
    files, settings = feature_files(tmp_path / "in"), PackSettings(Clock(), dtype="float32", shard_bytes=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, hard))
    try:
        with pytest.raises(InputError, match=r"cannot write .*free some space"):
            pack_features(files, tmp_path / "out.h5", settings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "out.h5").exists()
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".h5", ".rows") and path.is_file()]
    assert pack_features(files, tmp_path / "out.h5", settings).rows == 1000


def test_videos_are_copied_from_a_bank_in_the_given_order(tmp_path):
    tensors = write_features(tmp_path / "in", ROWS)
    settings = PackSettings(Clock(2.0, 0.5), dtype="float32", encoder="video encoder")
    pack_features(feature_files(tmp_path / "in"), tmp_path / "bank.h5", settings, {"c": 2.5})
    report = copy_videos(tmp_path / "bank.h5", ["d", "nowhere", "c"], tmp_path / "out.h5", PackSettings(Clock()))
    bank = FeatureBank.open(tmp_path / "out.h5")
    assert report.videos == list(bank.videos) == ["d", "c"]
    assert (bank.clock, bank.encoder) == (Clock(2.0, 0.5), "video encoder")
    assert torch.equal(bank.video_rows("c"), tensors["c"].half().float())
    assert bank.duration_s[1] == 2.5
    with pytest.raises(InputError, match="has none of the 1 clips"):
        copy_videos(tmp_path / "bank.h5", ["x"], tmp_path / "no.h5", PackSettings(Clock()))
