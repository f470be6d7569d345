"""Tables of users: every format gives the same columns, and wrong cells are named with their line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clep.datasets.user_table import read_user_table
from clep.errors import InputError

ROWS = [
    {"video": "a", "start": "00:00:01.5", "label": "wash|dry", "text": "two\nlines"},
    {"video": "b", "start": "2", "label": "cut", "text": "ä"},
    {"video": "a", "start": "3e1", "label": "", "text": "x, y"},
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    frame = pd.DataFrame(rows)
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    elif path.suffix in (".jsonl", ".ndjson"):
        path.write_text("\n\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".jsonl", ".ndjson"])
def test_columns_of_every_format(tmp_path: Path, suffix: str) -> None:
    table = read_user_table(write(tmp_path / f"x{suffix}", ROWS), ("video", "start", "label", "text", "end"))
    assert len(table) == 3
    assert ("text" in table, "end" in table) == (True, False)
    for name in ("video", "label", "text"):
        assert table.strings(name).to_list() == [row[name] for row in ROWS]
    assert table.strings("video").values.to_pylist() == ["a", "b"]
    assert table.seconds("start").tolist() == [1.5, 2.0, 30.0]


def test_numbers_lists_and_nulls_of_typed_formats_become_text(tmp_path: Path) -> None:
    columns = {
        "whole": pa.array([1.0, 2.0, None]),
        "float": pa.array([0.5, 2.0, 1.0]),
        "int": pa.array([7, 8, 7]),
        "list": pa.array([["a", "b"], ["a"], []]),
        "coded": pa.DictionaryArray.from_arrays(pa.array([2, None, 2]), pa.array(["unused", "y", "x"])),
    }
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    rows = [
        {"whole": 1.0, "float": 0.5, "int": 7, "list": ["a", "b"], "coded": "x"},
        {"whole": 2.0, "float": 2.0, "int": 8, "list": ["a"], "coded": None},
        {"float": 1.0, "int": 7, "list": [], "coded": "x"},
    ]
    for path in (tmp_path / "x.parquet", write(tmp_path / "x.jsonl", rows)):
        table = read_user_table(path, tuple(columns))
        assert table.strings("whole").to_list() == ["1", "2", ""]
        assert [float(cell) for cell in table.strings("float").to_list()] == [0.5, 2.0, 1.0]
        assert table.strings("int").to_list() == ["7", "8", "7"]
        assert table.strings("list").to_list() == ["a|b", "a", ""]
        assert table.strings("coded").to_list() == ["x", "", "x"]
        assert sorted(table.strings("coded").values.to_pylist()) == ["", "x"]
        assert table.numbers("int").tolist() == [7.0, 8.0, 7.0]


def test_a_parquet_file_of_several_row_groups(tmp_path: Path) -> None:
    """Each group has a dictionary of its own; they become one."""
    names = [f"v{i % 7}" for i in range(100)]
    pq.write_table(pa.table({"video": names, "start": np.arange(100.0)}), tmp_path / "x.parquet", row_group_size=9)
    table = read_user_table(tmp_path / "x.parquet", ("video", "start"))
    assert table.strings("video").to_list() == names
    assert len(table.strings("video").values) == 7
    assert table.seconds("start").tolist() == list(range(100))


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
@pytest.mark.parametrize(
    ("read", "cells", "message"),
    [
        ("seconds", ["1", "", "two"], r"{line}: t is '', not seconds such as 12\.5 or 00:01:02\.50 \(2 such rows\)"),
        ("seconds", ["1", "1:2:3:4"], r"{line}: t is '1:2:3:4', not seconds"),
        ("seconds", ["1", "nan"], r"{line}: t is 'nan', not seconds"),
        ("numbers", ["1", "-2"], r"{line}: t is '-2', not a number from 0 on"),
        ("filled", ["a", " "], r"{line}: t is empty \(1 such rows\)"),
        ("sentences", ["17", "2.5e3"], r"the column 't' should hold sentences, but all .*'17'.*: columns\.t=NAME"),
    ],
)
def test_wrong_cells_are_named(tmp_path: Path, suffix: str, read: str, cells: list[str], message: str) -> None:
    rows = [{"t": cell, "other": "x"} for cell in cells]
    table = read_user_table(write(tmp_path / f"x{suffix}", rows), ("t", "other"))
    line = {".csv": "line 3", ".parquet": "line 2", ".jsonl": "line 3"}[suffix]
    with pytest.raises(InputError, match=message.format(line=line)):
        getattr(table, read)("t")


def test_missing_columns_and_other_types(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", [{"a": 1, "b": 2}])
    table = read_user_table(path, ("text",), {"text": "caption"}, "data.columns")
    message = (
        r"lacks the column 'caption'; its columns are a, b; .*data\.columns\.text=NAME \(in .* job columns\.text=NAME\)"
    )
    with pytest.raises(InputError, match=message):
        table.require("text")
    pq.write_table(pa.table({"text": pa.array([{"x": 1}])}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match=r"the column 'text' has the type struct.*which is not text"):
        read_user_table(tmp_path / "x.parquet", ("text",)).strings("text")
    pq.write_table(pa.table({"text": pa.array([[{"x": 1}]])}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match=r"the column 'text' has the type list.*which is not text"):
        read_user_table(tmp_path / "x.parquet", ("text",)).strings("text")
    (tmp_path / "x.jsonl").write_text('{"text": "a"}\n{"text": ["b", {"x": 1}]}\n')
    with pytest.raises(InputError, match=r"x\.jsonl, line 2: text is \{'x': 1\}, not text or a number"):
        read_user_table(tmp_path / "x.jsonl", ("text",))
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match=r"x\.parquet has no rows"):
        read_user_table(tmp_path / "x.parquet", ("text",))


def test_durations_and_times_of_day_are_seconds(tmp_path: Path) -> None:
    milliseconds = [61_500, None, 2_000]
    columns = {kind: pa.array(milliseconds, getattr(pa, kind)("ms")) for kind in ("duration", "time32")}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    for kind in columns:
        with pytest.raises(InputError, match=rf"x\.parquet, line 2: {kind} is '', not seconds"):
            read_user_table(tmp_path / "x.parquet", tuple(columns)).seconds(kind)
    pq.write_table(pa.table(columns).take([0, 2]), tmp_path / "x.parquet")
    for kind in columns:
        assert read_user_table(tmp_path / "x.parquet", tuple(columns)).seconds(kind).tolist() == [61.5, 2.0]


def test_files_of_another_format_are_recognised(tmp_path: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
    for name, content, message in (
        ("x.parquet", pointer, r"x\.parquet is not a readable parquet file: .*`git lfs pull`"),
        ("x.jsonl", pointer, r"x\.jsonl is not a readable table of JSON lines: .*`git lfs pull`"),
        ("x.jsonl", '\ufeff[{"text": "a"},\n{"text": "b"}]\n', r"x\.jsonl, line 1 is not a JSON object but an array"),
        ("x.csv.gz", "", r"x\.csv\.gz cannot be read as a table; .*unpack it with gunzip"),
    ):
        (tmp_path / name).write_text(content, encoding="utf-8")
        with pytest.raises(InputError, match=message):
            read_user_table(tmp_path / name, ("text",))
