"""The one reader of tables, against values written by hand and by the csv module."""

import csv
import gzip
import io
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clep.errors import InputError
from clep.tables import (
    parse_clock_times,
    parse_id_lists,
    parse_numbers,
    parse_whole_seconds,
    read_table,
    refuse_empty,
)


def rows(tmp_path: Path, content: str | bytes, columns=("a", "b"), **options) -> pd.DataFrame:
    path = tmp_path / "t.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table(path, columns, "Do this.", **options)


def test_rows_know_their_lines(tmp_path):
    read = rows(tmp_path, 'a,b,c\n 1 ,x,\n\n2,"y, z",\n\n')
    assert read.index.tolist() == [2, 4]
    assert read.to_numpy().tolist() == [["1", "x"], ["2", "y, z"]]
    read = rows(tmp_path, 'a,b\n1,"x\ny\n"\n2,z\n')
    assert read.index.tolist() == [2, 5]
    assert read["b"].tolist() == ["x\ny", "z"]


DIALECTS = {
    "plain": "a,b\n1,x\n2,y\n",
    "mark first": "\ufeffa,b\n1,x\n2,y\n",
    "marks at every line": "\ufeffa,b\n\ufeff1,x\n\ufeff2,y\n",
    "mark before a quoted cell": 'a,b\n\ufeff"1",x\n2,\ufeffy\n',
    "windows": "a,b\r\n1,x\r\n2,y\r\n",
    "old mac": "a,b\r1,x\r2,y\r",
    "no last line end": "a,b\n1,x\n2,y",
    "trailing commas": "a,b,\n1,x,\n2,y,\n",
    "trailing commas of rows": "a,b\n1,x,\n2,y,,\n",
    "trailing comma of the header": "a,b,\n1,x\n2,y\n",
    "quoted": '"a","b"\n"1","x"\n"2","y"\n',
    "blanks": " a , b\n 1, x \n2 ,\ty\n",
    "blank before a quoted cell": 'a, b\n1, "x"\n2, "y"\n',
    "empty lines": "\na,b\n\n1,x\n\r\n2,y\n\n",
    "other columns": "z,b,a\n0,x,1\n0,y,2\n",
}


@pytest.mark.parametrize("name", DIALECTS)
def test_dialects(tmp_path, name):
    assert rows(tmp_path, DIALECTS[name]).to_numpy().tolist() == [["1", "x"], ["2", "y"]]
    tabs = DIALECTS[name].replace("\ty", "y").replace(",", "\t")
    assert rows(tmp_path, tabs, separator="\t").to_numpy().tolist() == [["1", "x"], ["2", "y"]]


CELLS = st.text(st.sampled_from("ab \"\n,\té'|"), max_size=6)


@given(table=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5), separator=st.sampled_from(",\t"))
def test_reads_what_the_csv_module_writes(tmp_path_factory, table, separator):
    written = io.StringIO()
    csv.writer(written, delimiter=separator).writerows([("a", "b"), *table])
    expected = [[cell.strip() for cell in row] for row in table]
    expected = [row for row in expected if any(row)]
    folder = tmp_path_factory.mktemp("table")
    if expected:
        assert rows(folder, written.getvalue(), separator=separator).to_numpy().tolist() == expected


def test_a_quotation_mark_that_is_not_closed_is_a_letter_between_tabs_and_an_error_between_commas(tmp_path):
    read = rows(tmp_path, 'b\ta\n"x\t1\n5" pipe\t2\n"y\t3\n', separator="\t")
    assert read.to_numpy().tolist() == [["1", '"x'], ["2", '5" pipe'], ["3", '"y']]
    assert read.index.tolist() == [2, 3, 4]
    with pytest.raises(InputError, match=r"t\.csv, line 3: a quotation mark is not closed"):
        rows(tmp_path, 'a,b\n1,x\n2,"y\n3,z\n')


def test_cells_of_any_length(tmp_path):
    long = "x" * 1_000_000
    assert rows(tmp_path, f'a,b\n{long},"{long}\n{long}"\n').to_numpy().tolist() == [[long, f"{long}\n{long}"]]


def test_a_row_with_a_wrong_number_of_cells_is_left_out_and_reported_on_demand(tmp_path):
    skipped: list[str] = []
    read = rows(tmp_path, "a,b\n1,x\n2\n3,y,z\n4,w\n", skipped=skipped)
    assert read["a"].tolist() == ["1", "4"]
    assert [message.split("t.csv, ")[1] for message in skipped] == [
        "line 3 has 1 cells, but the header has 2",
        "line 4 has 3 cells, but the header has 2",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,c\n1,2\n", r"t\.csv lacks the column 'b'; its columns are: a, c\. Do this\."),
        ("a,b\n", "header but no rows"),
        ("a,b\n\n\n", "header but no rows"),
        ("", "not a readable table"),
        ("a,b\n1,2\n3\n", r"t\.csv, line 3 has 1 cells, but the header has 2"),
        ("a,b\n1,2\n3,4,5\n", r"t\.csv, line 3 has 3 cells, but the header has 2"),
        ("a,b,a\n1,2,3\n", "duplicate column 'a'"),
        ("a,b\n1,2\n3,x\0y\n", r"t\.csv, line 3 holds the character NUL"),
        (b"\xff\xfe\x00binary\x00,\n", r"t\.csv is not a readable table of UTF-8"),
        (b"a,b\n1,caf\xe9\n", r"t\.csv is not a readable table of UTF-8.*save it as UTF-8"),
        ("a;b\n1;2\n", r"t\.csv is separated by semicolons, not by commas; save it with commas$"),
        ("a|b\n1|2\n", r"t\.csv is separated by vertical bars"),
        ('"a";"b"\n"1";"2"\n', r"t\.csv is separated by semicolons"),
        ("a\tb\n1\t2\n", r"t\.csv is separated by tabs, .*rename it to end in \.tsv"),
        ("sep=;\na;b\n1;2\n", r"t\.csv begins with Excel's line 'sep=;'; delete it"),
        ("sep=,\na,b\n1,2\n", r"t\.csv begins with Excel's line 'sep='; delete it"),
        ("a,b\n1,2\n".encode("utf-16"), r"t\.csv .*it is UTF-16 text; save it as UTF-8"),
        ("a,b\n1,2\n".encode("utf-16-le"), r"t\.csv .*it is UTF-16 text; save it as UTF-8"),
        (gzip.compress(b"a,b\n1,2\n", mtime=0), r"t\.csv .*compressed by gzip; unpack it with gunzip"),
        (b"PK\x03\x04\x14\x00", r"t\.csv .*an Excel file; .*save the sheet as CSV UTF-8"),
        (b"PAR1\x15\x04", r"t\.csv .*a parquet file; rename it to end in \.parquet"),
        ("version https://git-lfs.github.com/spec/v1\n", r"t\.csv .*`git lfs pull`"),
        ("<!DOCTYPE html><html>\n", r"t\.csv .*a web page; download the file itself"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        rows(tmp_path, content)


def test_a_million_columns_are_refused_at_once(tmp_path):
    begin = time.process_time()
    wide = ",".join(f"c{number}" for number in range(1_000_000))
    with pytest.raises(InputError, match=r"lacks the column 'a', 'b'; its columns are: c0, .*1,000,000") as error:
        rows(tmp_path, wide + "\n")
    assert len(str(error.value)) < 2000
    with pytest.raises(InputError, match="line 2 has 1000000 cells"):
        rows(tmp_path, "a,b\n" + wide + "\n")
    assert time.process_time() - begin < 4


def test_stray_quotation_marks_on_every_line_take_linear_time(tmp_path):
    begin = time.process_time()
    read = rows(tmp_path, "a\tb\n" + '"" ""x\t"\n' * 20_000, separator="\t")
    assert len(read) > 0
    assert time.process_time() - begin < 10


def test_missing_files_and_what_is_no_file(tmp_path):
    with pytest.raises(InputError, match=r"absent\.csv does not exist; check the path"):
        read_table(tmp_path / "absent.csv", ["a"])
    os.mkfifo(tmp_path / "pipe.csv")
    for path in (tmp_path / "pipe.csv", tmp_path, Path("/dev/zero"), Path("/proc/self/environ")):
        with pytest.raises(InputError, match=str(path)):
            read_table(path, ["a"])


def test_columns(tmp_path):
    read = rows(tmp_path, "a,b\n1.5,00:01:02.50\n-2,1:00:00\n3e1,02:03\n")
    np.testing.assert_array_equal(parse_numbers(read["a"], "t.csv"), [1.5, -2, 30])
    np.testing.assert_array_equal(parse_clock_times(read["b"], "t.csv"), [62.5, 3600, 123])
    assert parse_whole_seconds(pd.Series(["36", "36.0", "000036"]), "t.csv") == [36, 36, 36]
    codes, lists = parse_id_lists(pd.Series(["[3, 17]", "5", "", "[]", "[3, 17]", "[ 4 ]"], name="tags"), "t.csv")
    assert [lists[code] for code in codes] == [[3, 17], [5], [], [], [3, 17], [4]]
    assert rows(tmp_path, "a,b\n001,NA\n")["b"].tolist() == ["NA"]
    assert list(rows(tmp_path, "a,b,c\n1,2,3\n", optional=("c", "d"))) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("reads", "cells", "message"),
    [
        (parse_numbers, ["1", "two", "nan"], r"t\.csv, line 3: x is 'two', not a number \(2 such lines\)"),
        (parse_numbers, ["1", "inf"], r"line 3: x is 'inf'"),
        (parse_whole_seconds, ["1", ""], r"line 3: x is ''"),
        (parse_whole_seconds, ["soon"], r"line 2: x is 'soon'"),
        (parse_clock_times, ["00:00:01", "12.5"], r"line 3: x is '12\.5', not a time such as 00:01:02\.50"),
        (parse_id_lists, ["[1]", "[1, b]"], r"line 3: x is '\[1, b\]', not a list of ids"),
        (parse_id_lists, ["[-1]"], r"line 2: x is '\[-1\]'"),
        (parse_id_lists, ["[1" + "0" * 400 + "]"], r"line 2: x is '\[10"),
        (refuse_empty, ["a", "", ""], r"line 3: x is empty \(2 such lines\)"),
    ],
)
def test_cells_that_cannot_be_read(reads, cells, message):
    with pytest.raises(InputError, match=message):
        reads(pd.Series(cells, index=range(2, 2 + len(cells)), name="x"), "t.csv")
