from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from clep.columns import ColumnFile, buffers, string_array, string_dictionary, write_columns
from clep.errors import InputError

WORDS = ["", "öffnet", "cuts 🥕", "b"]
TYPES = {
    "second": pa.float64(),
    "text": pa.dictionary(pa.int32(), pa.large_string()),
    "verb": pa.large_list(pa.int64()),
}
REMEDY = "Make it again."


def words() -> tuple[np.ndarray, np.ndarray]:
    encoded = [word.encode() for word in WORDS]
    offsets = np.cumsum([0, *map(len, encoded)])
    return offsets, np.frombuffer(b"".join(encoded), np.uint8)


def columns() -> dict[str, pa.Array]:
    return {
        "second": pa.array([0.5, 1.0, 7.25]),
        "text": string_dictionary(np.array([2, 1, 2]), *words()),
        "verb": pa.array([[1, 2], [], [3]], pa.large_list(pa.int64())),
    }


def written(folder: Path, header: dict[str, object] | None = None, **changed: pa.Array) -> Path:
    path = folder / "columns.arrow"
    write_columns(path, columns() | changed, header or {"format": "test", "version": 2, "n": 5}, {"report": '{"a": 1}'})
    return path


def opened(path: Path) -> ColumnFile:
    return ColumnFile(path, "test", 2, TYPES, {"weight": pa.float32()}, REMEDY)


def test_what_was_written_is_read_here_and_by_pandas(tmp_path: Path) -> None:
    path = written(tmp_path)
    file = opened(path)
    assert len(file) == 3
    assert (file.header["n"], file.text("report")) == (5, {"a": 1})
    assert "verb" in file
    assert "weight" not in file
    assert file.numeric("second").tolist() == [0.5, 1.0, 7.25]
    assert not file.numeric("second").flags.writeable
    assert file.column("text").to_pylist() == ["cuts 🥕", "öffnet", "cuts 🥕"]
    assert file.column("verb").to_pylist() == [[1, 2], [], [3]]
    frame = pd.read_feather(path)
    assert frame["text"].tolist() == ["cuts 🥕", "öffnet", "cuts 🥕"]
    assert frame["second"].tolist() == [0.5, 1.0, 7.25]


def test_columns_stay_those_of_a_file_that_is_replaced(tmp_path: Path) -> None:
    file = opened(written(tmp_path))
    written(tmp_path, second=pa.array([9.0, 9.0, 9.0]))
    assert file.numeric("second").tolist() == [0.5, 1.0, 7.25]


@pytest.mark.parametrize(
    ("header", "changed", "named"),
    [
        ({"format": "other", "version": 2}, {}, "'other'.*'test'"),
        ({"format": "test", "version": 1}, {}, "version 1.*version 2"),
        (None, {"second": pa.array([1, 2, 3])}, "'second' is int64.*double"),
        (None, {"weight": pa.array([1.0, 2.0, 3.0])}, "'weight' is double.*float"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path: Path, header: dict, changed: dict, named: str) -> None:
    path = written(tmp_path, header, **changed)
    with pytest.raises(InputError, match=f"columns.arrow.*{named}.*{REMEDY}"):
        opened(path)


def test_a_missing_file_and_a_missing_column_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"no.arrow.*{REMEDY}"):
        opened(tmp_path / "no.arrow")
    path = tmp_path / "columns.arrow"
    write_columns(path, {"second": columns()["second"]}, {"format": "test", "version": 2}, {})
    with pytest.raises(InputError, match=f"columns.arrow.*'text'.*{REMEDY}"):
        opened(path)


def test_each_flipped_byte_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    path = written(tmp_path)
    whole = path.read_bytes()
    refused = 0
    for place in range(0, len(whole), 7):
        path.unlink()  # an open file stays mapped
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            file = opened(path)
            read = {name: file.column(name).to_pylist() for name in TYPES} | {"report": file.text("report")}
        except InputError:
            refused += 1
            continue
        assert read == {name: column.to_pylist() for name, column in columns().items()} | {"report": {"a": 1}}
    assert refused > 50


def test_buffers_are_views_checked_against_their_lengths() -> None:
    assert [part.tolist() for part in buffers(columns()["verb"])] == [[0, 2, 2, 3], [1, 2, 3]]
    assert buffers(pa.array([1, 2, 3])[1:])[0].tolist() == [2, 3]
    with pytest.raises(ValueError, match="1 values are null"):
        buffers(pa.array([1, None]))
    with pytest.raises(ValueError, match="ascend"):
        buffers(string_array(np.array([0, 3, 1]), np.zeros(3, np.uint8)))
    with pytest.raises(ValueError, match=r"9.*3"):
        buffers(string_array(np.array([0, 9]), np.zeros(3, np.uint8)))
