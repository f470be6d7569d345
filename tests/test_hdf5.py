"""HDF5 files of others: what is stored elsewhere is refused, every fault is one InputError, tables have a checksum."""

import io
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from clep.errors import InputError
from clep.hdf5 import open_hdf5, read_table_file, refuse_outside_storage, write_table_file
from tests.in_child import in_child


def external_link(file: h5py.File, other: Path) -> None:
    file["rows"] = h5py.ExternalLink(str(other), "secret")


def link_in_a_group(file: h5py.File, other: Path) -> None:
    file.create_group("a").create_group("b")["rows"] = h5py.ExternalLink(str(other), "secret")


def soft_link(file: h5py.File, other: Path) -> None:
    file["rows"] = h5py.SoftLink("/elsewhere")


def external_storage(file: h5py.File, other: Path) -> None:
    file.create_dataset("rows", 4, "u1", external=[(str(other), 0, 4)])


def virtual(file: h5py.File, other: Path) -> None:
    layout = h5py.VirtualLayout(4, "u1")
    layout[...] = h5py.VirtualSource(str(other), "secret", 4)
    file.create_virtual_dataset("rows", layout)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["secret"] = np.arange(4, dtype=np.uint8)
    return tmp_path / "other.h5"


@pytest.mark.parametrize("kind", [external_link, link_in_a_group, soft_link, external_storage, virtual])
def test_values_of_other_files_are_refused(
    tmp_path: Path, other: Path, kind: Callable[[h5py.File, Path], None]
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["own"] = np.arange(3)
        kind(file, other)
    with (
        pytest.raises(InputError, match=r"a\.h5: .*rows' is (a link to|stored in an).*refused; copy"),
        open_hdf5(tmp_path / "a.h5"),
    ):
        raise AssertionError("the block must not begin")
    with (tmp_path / "a.h5").open("rb", buffering=0) as content:
        with pytest.raises(InputError, match=r"remote\.h5: .*refused"), open_hdf5("remote.h5", content=content):
            raise AssertionError("the block must not begin")


@pytest.mark.parametrize("kind", [external_storage, virtual])
def test_a_reader_of_many_datasets_checks_those_that_it_reads(
    tmp_path: Path, other: Path, kind: Callable[[h5py.File, Path], None]
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["own"] = np.arange(3)
        kind(file, other)
    with open_hdf5(tmp_path / "a.h5", check_storage=False) as file:
        refuse_outside_storage(file["own"], "a.h5")
        with pytest.raises(InputError, match=r"a\.h5: the dataset 'rows' is stored in another file"):
            refuse_outside_storage(file["rows"], "a.h5")


def test_links_are_refused_even_where_datasets_are_not_checked(tmp_path: Path, other: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        external_link(file, other)
    with pytest.raises(InputError, match="'rows' is a link"), open_hdf5(tmp_path / "a.h5", check_storage=False):
        raise AssertionError("the block must not begin")


def test_two_names_of_one_dataset_are_not_a_link(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["one"] = np.arange(3)
        file["two"] = file["one"]
    with open_hdf5(tmp_path / "a.h5") as file:
        assert file["two"][...].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is not an HDF5 file"), (b"hello " * 500, "is not an HDF5 file"), (None, "is truncated or damaged")],
)
def test_files_that_are_none_are_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "a.h5"
    if content is None:  # the first half of a good file
        with h5py.File(path, "w") as file:
            file["x"] = np.zeros(2000)
        content = path.read_bytes()[:4000]
    path.write_bytes(content)
    with (
        pytest.raises(InputError, match=rf"a\.h5 {message}.*copy it again or run the job that wrote it$"),
        open_hdf5(path),
    ):
        raise AssertionError("the block must not begin")
    with pytest.raises(InputError, match=r"a\.h5 is .*copy it again"), open_hdf5(path, content=io.FileIO(path)):
        raise AssertionError("the block must not begin")


def test_faults_of_reading_inside_the_block_name_the_file(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.zeros(3)
    with pytest.raises(InputError, match=r"a\.h5 is damaged \(KeyError"), open_hdf5(tmp_path / "a.h5") as file:
        file["missing"]
    with pytest.raises(InputError, match="own words"), open_hdf5(tmp_path / "a.h5"):
        raise InputError("own words")
    with pytest.raises(ZeroDivisionError), open_hdf5(tmp_path / "a.h5"):
        raise ZeroDivisionError  # a fault of the caller's own code


TEXTS = ["", "é “y”", "a\nb", "x" * 300]


def table(path: Path) -> Path:
    columns = {"clip/id": TEXTS, "clip/label": np.array([3, 1, 2, 0]), "flag": np.array([True, False]), "none": []}
    write_table_file(path, "some-format", 3, {"task": "kinetics ü"}, columns)
    return path


def read(path: Path, version: int = 3, file_format: str = "some-format") -> tuple[dict[str, str], dict[str, list]]:
    found = read_table_file(path, file_format, version, 2, "a table of some kind", "make it again")
    assert found.verified
    columns = {name: column if isinstance(column, list) else column.tolist() for name, column in found.columns.items()}
    return found.attributes, columns


def test_a_table_survives_its_file(tmp_path: Path) -> None:
    attributes, columns = read(table(tmp_path / "t.h5"))
    assert attributes == {"task": "kinetics ü"}
    assert columns == {"clip/id": TEXTS, "clip/label": [3, 1, 2, 0], "flag": [True, False], "none": []}


def test_a_table_of_another_kind_or_version_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path / "t.h5")
    with pytest.raises(InputError, match=r"t\.h5 is not a table of some kind \(format 'some-format'.*make it again"):
        read(path, file_format="other-format")
    with pytest.raises(InputError, match=r"t\.h5 is not a table of some kind \(.*version 3\); make it again"):
        read(path, version=2)
    with pytest.raises(InputError, match=r"none\.h5 does not exist; make it again"):
        read(tmp_path / "none.h5")


@pytest.mark.parametrize("name", ["clip/id", "clip/label", "flag", "task"])
def test_a_changed_value_is_found_by_the_checksum(tmp_path: Path, name: str) -> None:
    path = table(tmp_path / "t.h5")
    with h5py.File(path, "r+") as file:
        if name == "task":
            file.attrs["task"] = np.bytes_(b"kinetics")
        else:
            file[name][0] = {"clip/id": b"b", "clip/label": 4, "flag": False}[name]
    with pytest.raises(InputError, match=r"t\.h5.*make it again"):
        read(path)


def test_a_table_without_checksum_is_read_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = table(tmp_path / "t.h5")
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = 2
        del file.attrs["digest"], file["clip/id"]
        file.create_dataset("clip/id", data=TEXTS, dtype=h5py.string_dtype())  # as older versions did
    found = read_table_file(path, "some-format", 3, 2, "a table", "make it again")
    assert (found.verified, found.columns["clip/id"]) == (False, TEXTS)
    assert "t.h5" in caplog.text


def test_texts_of_variable_length_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = table(tmp_path / "t.h5")
    with h5py.File(path, "r+") as file:
        del file["clip/id"]
        file.create_dataset("clip/id", data=TEXTS, dtype=h5py.string_dtype())
    with pytest.raises(InputError, match=r"t\.h5 is damaged: 'clip/id' has texts of variable length"):
        read(path)


def test_a_damaged_table_is_refused_or_unchanged(tmp_path: Path) -> None:
    assert in_child(count_refused, str(table(tmp_path / "t.h5")), 50) > 8


def count_refused(path: str, times: int) -> int:
    """Flip one bit `times` times; return how often the file was refused. Otherwise its values must be those written."""
    whole, drawn, refused = Path(path).read_bytes(), np.random.default_rng(0), 0
    before = read(Path(path))
    for _ in range(times):
        content = bytearray(whole)
        content[int(drawn.integers(len(content)))] ^= 1 << int(drawn.integers(8))
        Path(path).write_bytes(content)
        try:
            assert read(Path(path)) == before
        except InputError:
            refused += 1
    return refused


def test_a_file_of_one_video_is_named_with_the_job_that_packs_such_files(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 3)))
    with (
        pytest.raises(InputError, match=r"a\.npy is not an HDF5 file.*preprocess features"),
        open_hdf5(tmp_path / "a.npy"),
    ):
        raise AssertionError("the block must not begin")
