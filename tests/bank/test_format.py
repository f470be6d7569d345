from pathlib import Path

import h5py
import numpy as np
import pytest

from clep.bank import Clock, FeatureBank
from clep.bank.format import read_header, read_shard
from clep.errors import InputError
from clep.hdf5 import open_hdf5
from tests.bank.banks import edited, random_videos, write


def test_tables_and_metadata_of_a_file(tmp_path: Path) -> None:
    videos = random_videos()
    path = write(tmp_path / "b.h5", videos, Clock(2.0, 1.0), encoder="e", source="s")
    with open_hdf5(path) as file:
        shard = read_shard(file, path, read_header(path))
    assert shard.ids == list(videos)
    assert (shard.clock, shard.encoder, shard.source, shard.dim) == (Clock(2.0, 1.0), "e", "s", 6)
    assert shard.rows[0].offset is not None
    assert shard.seconds is None


def test_truncated_and_foreign_files_are_refused(tmp_path: Path) -> None:
    whole = write(tmp_path / "b.h5", random_videos()).read_bytes()
    for size in (0, 4, 100, 1500, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.h5").write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"cut\.h5 is (not an HDF5 file, or is truncated|truncated or damaged)"):
            FeatureBank.open(tmp_path / "cut.h5")
    (tmp_path / "text.h5").write_text("hello " * 1000)
    with pytest.raises(InputError, match=r"text\.h5 is not an HDF5 file"):
        FeatureBank.open(tmp_path / "text.h5")
    with pytest.raises(InputError, match=r"none\.h5 does not exist"):
        FeatureBank.open(tmp_path / "none.h5")


@pytest.mark.parametrize("name", ["version", "rows_per_second", "row_seconds", "encoder", "source"])
def test_a_missing_attribute_is_named(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "b.h5", random_videos())
    with edited(path) as file:
        del file.attrs[name]
    with pytest.raises(InputError, match=rf"b\.h5 lacks the attribute '{name}'"):
        FeatureBank.open(path)


@pytest.mark.parametrize("name", ["rows", "video/id", "video/first_row", "video/duration_s"])
def test_a_missing_dataset_is_named(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "b.h5", random_videos())
    with edited(path) as file:
        del file[name]
    with pytest.raises(InputError, match=rf"b\.h5 lacks the \d-dimensional dataset '{name}'"):
        FeatureBank.open(path)


def replaced(path: Path, name: str, value: np.ndarray) -> None:
    with edited(path) as file:
        del file[name]
        file[name] = value


def test_contradictory_contents_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "b.h5", {"a": np.ones((3, 2)), "b": np.ones((2, 2))})
    replaced(path, "video/first_row", np.array([0, 5, 5]))
    with pytest.raises(InputError, match="first_row must rise from 0 to the 5 rows"):
        FeatureBank.open(path)
    replaced(path, "video/first_row", np.array([0, 5]))
    with pytest.raises(InputError, match="have 2, 2 and 2 entries"):
        FeatureBank.open(path)
    replaced(path, "video/first_row", np.array([0, 3, 5]))
    replaced(path, "video/id", np.array([b"a", b"a"]))
    with pytest.raises(InputError, match="duplicate video id 'a'"):
        FeatureBank.open(path)
    replaced(path, "video/id", np.array([b"a", b"b"]))
    replaced(path, "rows", np.ones((5, 2)))
    with pytest.raises(InputError, match="'rows' is float64"):
        FeatureBank.open(path)


def test_other_formats_and_newer_versions(tmp_path: Path) -> None:
    path = write(tmp_path / "b.h5", random_videos())
    with edited(path) as file:
        file.attrs["version"] = 3
    with pytest.raises(InputError, match="format 3; this clep reads up to 2: upgrade"):
        FeatureBank.open(path)
    with edited(path) as file:
        file.attrs["format"] = "clep-narrations"
    with pytest.raises(InputError, match="'clep-narrations' where 'clep-bank' is expected"):
        FeatureBank.open(path)


def test_a_clock_without_a_grid_needs_its_seconds(tmp_path: Path) -> None:
    path = write(tmp_path / "b.h5", random_videos())
    with edited(path) as file:
        file.attrs["rows_per_second"] = np.nan
    with pytest.raises(InputError, match="neither the attribute 'rows_per_second' nor the dataset 'row/second'"):
        FeatureBank.open(path)
    with edited(path) as file:
        file["row/second"] = np.zeros(2)
    with pytest.raises(InputError, match="'row/second' must be float64"):
        FeatureBank.open(path)


def test_variable_length_ids_of_other_writers(tmp_path: Path) -> None:
    path = write(tmp_path / "b.h5", {"a": np.ones((3, 2)), "b": np.ones((2, 2))})
    with edited(path) as file:
        del file["video/id"]
        file.create_dataset("video/id", data=["ä", "long name"], dtype=h5py.string_dtype())
    assert FeatureBank.open(path).videos == ["ä", "long name"]
