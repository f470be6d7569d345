"""The table of captions: its cells stay in their columns."""

from pathlib import Path

import pytest

from clep.datasets.captions import read_captions
from clep.errors import InputError


def table(folder: Path, text: str) -> Path:
    path = folder / "train.tsv"
    path.write_text(text, encoding="utf-8")
    return path


def test_columns_are_found_by_name_and_quotation_marks_are_letters(tmp_path: Path) -> None:
    read = read_captions(table(tmp_path, '\ufefftitle\tfilepath\tn\na "red  wall\t a.jpg \t1\n\nNA\tb.jpg\t2\n'))
    assert read.columns.tolist() == ["filepath", "title"]
    assert read.to_numpy().tolist() == [["a.jpg", 'a "red  wall'], ["b.jpg", "NA"]]


def test_quoted_cells_as_standard_writers_write_them(tmp_path: Path) -> None:
    read = read_captions(table(tmp_path, 'filepath\ttitle\na.jpg\t"a sign that says ""stop"""\nb.jpg\t"a\nsign"\n'))
    assert read["title"].tolist() == ['a sign that says "stop"', "a\nsign"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("filepath\ttitle\na.jpg\ta caption\t2\n", r"train\.tsv, line 2 has 3 cells, but the header has 2"),
        ("filepath\ttitle\na.jpg\ta caption\nb.jpg\n", r"train\.tsv, line 3 has 1 cells, but the header has 2"),
        ("filepath\ttitle\n\na.jpg\tx\n \ty\n\tz\n", r"train\.tsv, line 4: filepath is empty \(2 such lines\)"),
    ],
)
def test_rows_that_are_cut_or_shifted_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_captions(table(tmp_path, text))


def test_a_missing_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train\.tsv does not exist; check the path"):
        read_captions(tmp_path / "train.tsv")
