import math
import sys
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch

from clep.bank import BankWriter, Clock, FeatureBank
from clep.errors import InputError
from tests.bank.banks import random_videos

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("n_rows", ["exact", "more", None])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_added_videos_are_in_the_file(tmp_path: Path, dtype: str, n_rows: str | None) -> None:
    videos = random_videos()
    total = sum(map(len, videos.values()))
    path = tmp_path / "deep" / "bank.h5"
    expected = {"exact": total, "more": total + 5, None: None}[n_rows]
    with BankWriter(path, 6, Clock(2.0, 0.5), dtype, "encoder", "folder", n_rows=expected) as writer:
        for i, (uid, rows) in enumerate(videos.items()):
            writer.add(uid, torch.from_numpy(rows) if i % 2 else rows, duration_s=20.0 + i if i else None)
        assert not path.exists()
    assert left_in(path.parent) == ["bank.h5"]
    with h5py.File(path) as file:
        assert file["rows"].dtype == dtype
        assert file["rows"].chunks is None
        assert file["rows"].id.get_offset() % 64 == 0
        np.testing.assert_array_equal(file["rows"][()], np.concatenate(list(videos.values())))
        assert file["video/id"].asstr()[()].tolist() == list(videos)
        np.testing.assert_array_equal(file["video/first_row"], np.cumsum([0, *map(len, videos.values())]))
        np.testing.assert_array_equal(file["video/duration_s"], [math.nan, 21, 22, 23, 24, 25, 26])
        assert {key: file.attrs[key] for key in ("format", "version", "encoder", "source")} == {
            "format": "clep-bank",
            "version": 2,
            "encoder": "encoder",
            "source": "folder",
        }
        assert (file.attrs["rows_per_second"], file.attrs["row_seconds"]) == (2.0, 0.5)


def test_blocks_of_an_iterator_make_one_video(tmp_path: Path) -> None:
    with BankWriter(tmp_path / "texts.h5", 3, None) as writer:
        writer.add("texts", (ROWS[i : i + 3] for i in range(0, 4, 3)))
        writer.add("more", iter([torch.from_numpy(ROWS).bfloat16()]))
    bank = FeatureBank.open(tmp_path / "texts.h5")
    assert bank.first_row.tolist() == [0, 4, 8]
    np.testing.assert_array_equal(bank.video_rows("texts"), ROWS)


def test_ids_are_any_unicode(tmp_path: Path) -> None:
    ids = ["ä" * 20, "b", "視頻 7", "a/b"]
    with BankWriter(tmp_path / "b.h5", 3, Clock()) as writer:
        for uid in ids:
            writer.add(uid, ROWS)
    assert FeatureBank.open(tmp_path / "b.h5").videos == ids


IRREGULAR = Clock.irregular(1.0)
NAN, HUGE = ROWS.copy(), ROWS.copy()
NAN[2, 1], HUGE[3, 0] = math.nan, 70_000


@pytest.mark.parametrize(
    ("clock", "given", "words"),
    [
        (Clock(), {"uid": "old", "rows": ROWS}, "'old' was added before"),
        (Clock(), {"uid": "", "rows": ROWS}, "is no valid video id"),
        (Clock(), {"uid": "a\0", "rows": ROWS}, "is no valid video id"),
        (Clock(), {"rows": ROWS[:, :2]}, r"'new' has rows float32 \[4, 2\].*\[n, 3\]"),
        (Clock(), {"rows": ROWS[None]}, r"\[1, 4, 3\]"),
        (Clock(), {"rows": ROWS > 3}, "has rows bool"),
        (Clock(), {"rows": ROWS[:0]}, "'new' has no rows"),
        (Clock(), {"rows": []}, "'new' has no rows"),
        (Clock(), {"rows": NAN}, "'new' has NaN or infinity in 1 of its rows, first in row 2"),
        (Clock(), {"rows": [ROWS, NAN]}, "'new' has NaN"),
        (Clock(), {"rows": HUGE}, "'new' has values up to 70000.*float32"),
        (Clock(), {"rows": ROWS, "seconds": [0.0] * 4}, "leave seconds out"),
        (None, {"rows": ROWS, "seconds": [0.0] * 4}, "leave seconds out"),
        (Clock(), {"rows": ROWS, "duration_s": 0.0}, "duration_s=0"),
        (Clock(), {"rows": ROWS, "duration_s": math.inf}, "duration_s=inf"),
        (IRREGULAR, {"rows": ROWS}, "needs seconds"),
        (IRREGULAR, {"rows": ROWS, "seconds": [1.0, 2.0, 3.0]}, r"shape \[3\] for 4 rows"),
        (IRREGULAR, {"rows": ROWS, "seconds": [1.0, 3.0, 2.0, 4.0]}, r"unsorted seconds \(row 2"),
        (IRREGULAR, {"rows": ROWS, "seconds": [1.0, 3.0, math.nan, 4.0]}, "NaN"),
    ],
)
@pytest.mark.parametrize("n_rows", [12, None])
def test_a_refused_video_is_named_and_leaves_no_trace(
    tmp_path: Path, clock: Clock | None, given: dict, words: str, n_rows: int | None
) -> None:
    path = tmp_path / "b.h5"
    seconds = [1.0, 1.0, 2.0, 3.5] if clock is IRREGULAR else None
    if not isinstance(given["rows"], np.ndarray):
        given = given | {"rows": iter(given["rows"])}
    with BankWriter(path, 3, clock, n_rows=n_rows) as writer:
        writer.add("old", ROWS, seconds=seconds)
        with pytest.raises(InputError, match=rf"b\.h5.*{words}"):
            writer.add(**({"uid": "new"} | given))
        writer.add("next", ROWS[:2] + 1, seconds=seconds and seconds[:2])
    bank = FeatureBank.open(path)
    assert bank.videos == ["old", "next"]
    np.testing.assert_array_equal(bank.take(torch.arange(6)), np.concatenate([ROWS, ROWS[:2] + 1]))


def test_nonfinite_rows_are_kept_if_allowed(tmp_path: Path) -> None:
    rows = NAN.copy()
    rows[0, 0] = math.inf
    with BankWriter(tmp_path / "b.h5", 3, Clock(), allow_nonfinite=True) as writer:
        writer.add("v", rows)
        with pytest.raises(InputError, match="too large for float16"):
            writer.add("w", HUGE)
    np.testing.assert_array_equal(FeatureBank.open(tmp_path / "b.h5").video_rows("v"), rows)


def test_float32_takes_what_float16_cannot(tmp_path: Path) -> None:
    with BankWriter(tmp_path / "b.h5", 3, Clock(), "float32") as writer:
        writer.add("v", HUGE.astype(np.float64))
    np.testing.assert_array_equal(FeatureBank.open(tmp_path / "b.h5").video_rows("v"), HUGE)


def test_more_rows_than_n_rows_are_refused(tmp_path: Path) -> None:
    with BankWriter(tmp_path / "b.h5", 3, Clock(), n_rows=5) as writer:
        writer.add("v", ROWS)
        with pytest.raises(InputError, match="'w' makes 8 rows, more than n_rows=5"):
            writer.add("w", ROWS)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, FileNotFoundError, SystemExit])
@pytest.mark.parametrize("n_rows", [8, None])
def test_an_interrupted_writer_leaves_nothing_and_hides_no_error(
    tmp_path: Path, error: type[BaseException], n_rows: int | None
) -> None:
    path = tmp_path / "b.h5"
    path.write_bytes(b"the bank of before")

    def interrupted():
        yield ROWS
        raise error("stop")

    def write() -> None:
        with BankWriter(path, 3, Clock(), n_rows=n_rows) as writer:
            writer.add("v", ROWS)
            writer.add("w", interrupted())

    with pytest.raises(error, match="stop"):
        write()
    assert left_in(tmp_path) == ["b.h5"]
    assert path.read_bytes() == b"the bank of before"


@pytest.mark.parametrize("n_rows", [8, None])
@pytest.mark.parametrize("when", ["write", "_allocate", "_describe"])
def test_a_full_disk_is_reported_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_rows: int | None, when: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def write() -> None:
        with BankWriter(tmp_path / "b.h5", 3, Clock(), n_rows=n_rows) as writer:
            if when == "write":
                monkeypatch.setattr(writer, "_file", SimpleNamespace(seek=full, write=full, close=writer._file.close))
            writer.add("v", ROWS)

    if when != "write":
        monkeypatch.setattr(BankWriter, when, full)
    with pytest.raises(InputError, match=r"cannot write .*b\.h5: No space left"):
        write()
    assert left_in(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
@pytest.mark.parametrize("n_rows", [3000, None])
def test_a_real_file_size_limit(tmp_path: Path, n_rows: int | None) -> None:
    import resource  # absent on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with (
            pytest.raises(InputError, match=r"File too large|cannot write"),
            BankWriter(tmp_path / "b.h5", 512, None, n_rows=n_rows) as writer,
        ):
            for video in "abc":
                writer.add(video, np.zeros((1000, 512), np.float16))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert left_in(tmp_path) == []


def test_an_empty_bank_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no video was added"), BankWriter(tmp_path / "b.h5", 3, Clock()):
        pass
    assert left_in(tmp_path) == []


def test_invalid_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="dtype='int8'"):
        BankWriter(tmp_path / "b.h5", 3, Clock(), "int8")
    with pytest.raises(InputError, match="dim=0"):
        BankWriter(tmp_path / "b.h5", 0, Clock())
    with pytest.raises(RuntimeError, match="with statement"):
        BankWriter(tmp_path / "b.h5", 3, Clock()).add("v", ROWS)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot make the folder"), BankWriter(tmp_path / "file" / "b.h5", 3, None):
        pass
