import pytest

from clep.datasets.tables import read_csv, whole_seconds
from clep.errors import InputError


def test_cells_are_text_as_written(tmp_path):
    (tmp_path / "a.csv").write_text('\ufeffid, seconds ,note\n001,36.0,NA\n"x, y", 000007 ,\n', encoding="utf-8")
    table = read_csv(tmp_path / "a.csv", ("id", "seconds"))
    assert table["id"].tolist() == ["001", "x, y"]
    assert table["note"].tolist() == ["NA", ""]
    assert whole_seconds(table, "seconds", "a.csv") == [36, 7]


@pytest.mark.parametrize("cell", ["", "soon", "nan", "inf"])
def test_a_time_that_is_no_number_is_named_with_its_row(tmp_path, cell):
    (tmp_path / "a.csv").write_text(f"id,seconds\na,1\nb,{cell}\n")
    with pytest.raises(InputError, match=r"a\.csv, row 2 after the header: seconds is"):
        whole_seconds(read_csv(tmp_path / "a.csv", ("seconds",)), "seconds", tmp_path / "a.csv")


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.csv does not exist"):
        read_csv(tmp_path / "nowhere.csv", ())
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00binary\x00,\n")
    with pytest.raises(InputError, match=r"b\.csv is not a readable CSV"):
        read_csv(tmp_path / "b.csv", ())
    (tmp_path / "c.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"c\.csv lacks the column 'x', 'y'; its columns are: a, b"):
        read_csv(tmp_path / "c.csv", ("a", "x", "y"))
