import numpy as np
import pandas as pd
import pytest

from clep.datasets.tables import clock_times, number_sets, numbers, read_rows
from clep.errors import InputError


def rows(tmp_path, content: str, columns=("a", "b"), **options) -> pd.DataFrame:
    (tmp_path / "t.csv").write_text(content)
    return read_rows(tmp_path / "t.csv", columns, "Do this.", **options)


def test_rows_know_their_lines(tmp_path):
    read = rows(tmp_path, 'a,b,c\n 1 ,x,\n\n2,"y, z",\n\n')
    assert read.index.tolist() == [2, 4]
    assert read.to_numpy().tolist() == [["1", "x"], ["2", "y, z"]]
    read = rows(tmp_path, 'b\ta\n"x\t1\n', separator="\t", quoted=False)
    assert read.to_numpy().tolist() == [["1", '"x']]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,c\n1,2\n", r"t\.csv lacks the column 'b'; its columns are: a, c\. Do this\."),
        ("a,b\n", "header but no rows"),
        ("a,b\n\n\n", "header but no rows"),
        ("", "not a readable table"),
        ("a,b\n1,2\n3\n", r"t\.csv, line 3 has 1 cells, but the header has 2; fetch it again"),
        ("a,b\n1,2\n3,4,5\n", r"t\.csv, line 3 has 3 cells, but the header has 2"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        rows(tmp_path, content)


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"absent\.csv does not exist; check the path"):
        read_rows(tmp_path / "absent.csv", ["a"], "")
    with pytest.raises(InputError, match=r"pass another \(tsv=PATH\)"):
        read_rows(tmp_path / "absent.csv", ["a"], "", option="tsv")


def test_columns(tmp_path):
    read = rows(tmp_path, "a,b\n1.5,00:01:02.50\n-2,1:00:00\n3e1,02:03\n")
    np.testing.assert_array_equal(numbers(read["a"], "t.csv"), [1.5, -2, 30])
    np.testing.assert_array_equal(clock_times(read["b"], "t.csv"), [62.5, 3600, 123])
    codes, sets = number_sets(pd.Series(["[3, 17]", "5", "", "[]", "[3, 17]", "[ 4 ]"], name="tags"), "t.csv")
    assert [sets[code] for code in codes] == [[3, 17], [5], [], [], [3, 17], [4]]


@pytest.mark.parametrize(
    ("reads", "cells", "message"),
    [
        (numbers, ["1", "two", "nan"], r"t\.csv, line 3: x is 'two', not a number \(2 such lines\)"),
        (numbers, ["1", "inf"], r"line 3: x is 'inf'"),
        (clock_times, ["00:00:01", "12.5"], r"line 3: x is '12\.5', not a time such as 00:01:02\.50"),
        (number_sets, ["[1]", "[1, b]"], r"line 3: x is '\[1, b\]', not a list of numbers"),
        (number_sets, ["[-1]"], r"line 2: x is '\[-1\]'"),
    ],
)
def test_cells_that_cannot_be_read(reads, cells, message):
    with pytest.raises(InputError, match=message):
        reads(pd.Series(cells, index=range(2, 2 + len(cells)), name="x"), "t.csv")
