import pickle
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from clep.errors import InputError
from clep.text import Narrations, NarrationTable, Texts
from tests.text.sample_table import about, passes, table

COLUMNS = ("duration_s", "redacted", "video", "second", "passes", "text_id", "written_id", "written_words")


@pytest.fixture
def small(tmp_path: Path) -> NarrationTable:
    narrations = {
        "b": passes([(3, "#C C cuts bread"), (1, "#unsure falls")], [(1.5, "#C C cuts  bread")]),
        "é": passes([(0, "#C C says “olé”")], status="redacted"),
        "c": passes(),
    }
    return table(tmp_path, narrations, [about("b", 9.5, em="train"), about("é", None, av="test")])


def million(path: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    video = np.sort(rng.integers(0, 10_000, count)).astype(np.int32)
    texts = Texts.of(f"Camera wearer does number {i}" for i in range(5_000))
    text_id = rng.integers(0, 5_000, count).astype(np.int32)
    NarrationTable(
        videos=tuple(f"{i:08d}" for i in range(10_000)),
        duration_s=np.full(10_000, 100.0),
        splits={name: np.full(10_000, "") for name in ("split_em", "split_fho", "split_av")},
        redacted=np.zeros(10_000, dtype=bool),
        video=video,
        second=np.arange(count, dtype=np.float64),
        passes=np.ones(count, dtype=np.int8),
        text_id=text_id,
        written_id=text_id,
        texts=texts,
        written=texts,
        written_words=np.full(5_000, 3, dtype=np.int16),
    ).write(path)


def same(opened: Narrations, made: NarrationTable) -> None:
    for name in COLUMNS:
        read, expected = getattr(opened, name), getattr(made, name)
        assert read.dtype == expected.dtype
        np.testing.assert_array_equal(read, expected)
    assert opened.videos == made.videos
    assert {name: split.tolist() for name, split in opened.splits.items()} == {
        name: split.tolist() for name, split in made.splits.items()
    }
    assert opened.texts == made.texts
    assert opened.written == made.written
    assert (len(opened), opened.tag_style, opened.digest) == (len(made), made.tag_style, made.digest)
    assert opened.report == made.report


@pytest.mark.parametrize("again", [False, True])
def test_reads_what_was_written(small: NarrationTable, tmp_path: Path, again: bool) -> None:
    small.write(tmp_path / "n.h5")
    opened = Narrations.open(tmp_path / "n.h5")
    same(pickle.loads(pickle.dumps(opened)) if again else opened, small)


def test_columns_are_read_only_views_of_the_file(small: NarrationTable, tmp_path: Path) -> None:
    small.write(tmp_path / "n.h5")
    opened = Narrations.open(tmp_path / "n.h5")
    for name in ("video", "second", "text_id"):
        assert not getattr(opened, name).flags.writeable
        assert not getattr(opened, name).flags.owndata
        assert getattr(opened, name).flags.aligned


def test_opening_a_million_narrations_reads_nothing_but_the_header(tmp_path: Path) -> None:
    million(tmp_path / "n.h5", 1_000_000)
    times = []
    for _ in range(20):
        begin = time.perf_counter()
        opened = Narrations.open(tmp_path / "n.h5")
        times.append(time.perf_counter() - begin)
    assert len(opened) == 1_000_000
    assert not {"video", "texts", "videos", "splits"} & opened.__dict__.keys()
    assert min(times) < 0.02
    assert len(pickle.dumps(opened)) < 500
    assert opened.texts[opened.text_id[999_999]].startswith("Camera wearer does number ")


def test_the_file_stays_free_and_a_replacement_does_not_disturb(small: NarrationTable, tmp_path: Path) -> None:
    path = tmp_path / "n.h5"
    small.write(path)
    opened = Narrations.open(path)
    with h5py.File(path, "r+") as file:  # refused by HDF5 while another handle holds the file
        assert file["narration/video"].shape == (len(small),)
    million(path, 10)
    same(opened, small)


@pytest.mark.parametrize("attribute", ["format", "version", "digest"])
def test_another_format(small: NarrationTable, tmp_path: Path, attribute: str) -> None:
    path = tmp_path / "n.h5"
    small.write(path)
    with h5py.File(path, "r+") as file:
        del file.attrs[attribute]
    with pytest.raises(InputError, match=rf"n\.h5 has .*{attribute}.*clep\.preprocess ego4d_narrations"):
        Narrations.open(path)


def test_missing_and_chunked_columns(small: NarrationTable, tmp_path: Path) -> None:
    path = tmp_path / "n.h5"
    small.write(path)
    with h5py.File(path, "r+") as file:
        seconds = file["narration/second"][:]
        del file["narration/second"]
    with pytest.raises(InputError, match="no column 'narration/second'"):
        Narrations.open(path)
    with h5py.File(path, "r+") as file:
        file.create_dataset("narration/second", data=seconds, chunks=(2,))
    with pytest.raises(InputError, match="'narration/second' is not a contiguous"):
        Narrations.open(path)


def test_missing_truncated_and_foreign_files(small: NarrationTable, tmp_path: Path) -> None:
    path = tmp_path / "n.h5"
    with pytest.raises(InputError, match=r"n\.h5 does not exist.*clep\.preprocess ego4d_narrations"):
        Narrations.open(path)
    small.write(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="cannot be read as HDF5"):
        Narrations.open(path)
    path.write_text("{}")
    with pytest.raises(InputError, match="cannot be read as HDF5"):
        Narrations.open(path)
    with pytest.raises(TypeError, match=r"Narrations\.open"):
        Narrations()
