import pytest

from clep.errors import InputError
from clep.extraction import ledger_path, read_ledger
from clep.extraction.listing import find_files, list_videos, other_files
from tests.extraction.conftest import run


def test_a_folder_is_looked_through(films):
    (films / "notes.txt").write_text("no video")
    (films / ".hidden.mp4").write_bytes(b"x")
    (films / "still.PNG").write_bytes(b"x")
    items = list_videos(films)
    assert [item.id for item in items] == ["a", "b", "e", "more/c", "more/d", "still"]
    assert [item.image for item in items] == [False] * 5 + [True]


def test_files_that_are_no_videos_by_their_names_are_counted(films, tmp_path, encoder):
    (films / "more" / "film.mpeg4").write_bytes((films / "a.mp4").read_bytes())
    (films / "README").write_text("no video")
    (films / ".hidden.txt").write_text("x")
    found = other_files(films)
    assert list(found) == ["README", "more/film.mpeg4"]
    assert found["more/film.mpeg4"].startswith(".mpeg4 is no suffix of a video")
    assert other_files(tmp_path / "list.txt") == {}
    out = films / "features.h5"
    coverage = run(films, out, format="npy")
    assert coverage["lists"]["skipped"] == found
    assert {entry.id for entry in read_ledger(ledger_path(out)) if entry.status == "skipped"} == set(found)
    assert run(films, out, format="npy")["up_to_date"], "what the job wrote into the folder changes nothing"


def test_a_list_file_and_a_csv_name_what_they_like(films, tmp_path):
    listed = tmp_path / "list.txt"
    listed.write_text(f'one two\tfilms/a.mp4\n\n"quoted"\t{films / "b.mp4"}\n', encoding="utf-8")
    items = list_videos(listed)
    assert [(item.id, item.path) for item in items] == [
        ("one two", str(films / "a.mp4")),
        ('"quoted"', str(films / "b.mp4")),
    ]
    (tmp_path / "list.csv").write_text("id,path,label\nx,films/a.mp4,3\n")
    assert [(item.id, item.path) for item in list_videos(tmp_path / "list.csv")] == [("x", str(films / "a.mp4"))]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("only a name\n", r"line 1: expected name<TAB>path"),
        ("a\tb\tc\n", "line 1"),
        ("\n", "lists no video"),
        (b"\xff\xfe\x00", "not a text file"),
    ],
)
def test_a_list_that_cannot_be_used(tmp_path, content, message):
    path = tmp_path / "list.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        list_videos(path)


def test_other_things_that_are_no_list(films, tmp_path):
    for path, message in ((tmp_path / "none", "does not exist"), (films / "a.mp4", "single file")):
        with pytest.raises(InputError, match=message):
            list_videos(path)
    (tmp_path / "bad.csv").write_text("id,path\n,x.mp4\n")
    with pytest.raises(InputError, match="both are needed"):
        list_videos(tmp_path / "bad.csv")
    (tmp_path / "columns.csv").write_text("name,path\na,x.mp4\n")
    with pytest.raises(InputError, match="'id'"):
        list_videos(tmp_path / "columns.csv")


def test_files_are_found_by_name_wherever_in_the_folder(films):
    (films / "a.avi").write_bytes(b"x")
    found = find_files(films, ["a", "c", "nothing"])
    assert {name: path.name for name, path in found.items()} == {"a": "a.avi", "c": "c.mp4"}
    with pytest.raises(InputError, match="not a folder"):
        find_files(films / "none", ["a"])
