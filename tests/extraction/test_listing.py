import errno
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from clep.bank import FeatureBank
from clep.errors import InputError
from clep.extraction import ledger_path, read_ledger
from clep.extraction.listing import find_files, find_videos, list_videos, other_files, unique_items
from tests.extraction.conftest import run


def test_a_folder_is_listed(films):
    (films / "notes.txt").write_text("no video")
    (films / ".hidden.mp4").write_bytes(b"x")
    (films / "still.PNG").write_bytes(b"x")
    items = list_videos(films)
    assert [item.id for item in items] == ["a", "b", "e", "more/c", "more/d", "still"]
    assert [item.image for item in items] == [False] * 5 + [True]


def test_files_with_other_suffixes_are_counted(films, tmp_path, encoder):
    (films / "more" / "film.mpeg4").write_bytes((films / "a.mp4").read_bytes())
    (films / "README").write_text("no video")
    (films / ".hidden.txt").write_text("x")
    found = other_files(films)
    assert list(found) == ["README", "more/film.mpeg4"]
    assert found["more/film.mpeg4"].startswith(".mpeg4 is not a known suffix of videos")
    assert other_files(tmp_path / "list.txt") == {}
    out = films / "features.h5"
    coverage = run(films, out, format="npy")
    assert coverage["lists"]["skipped"] == found
    assert {entry.id for entry in read_ledger(ledger_path(out)) if entry.status == "skipped"} == set(found)
    assert run(films, out, format="npy")["up_to_date"], "what the job wrote into the folder changes nothing"


def test_a_list_file_and_a_csv_name_any_file(films, tmp_path):
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
def test_invalid_lists_are_refused(tmp_path, content, message):
    path = tmp_path / "list.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        list_videos(path)


def test_other_inputs_are_refused(films, tmp_path):
    for path, message in ((tmp_path / "none", "does not exist"), (films / "a.mp4", "single file")):
        with pytest.raises(InputError, match=message):
            list_videos(path)
    (tmp_path / "bad.csv").write_text("id,path\n,x.mp4\n")
    with pytest.raises(InputError, match="both are needed"):
        list_videos(tmp_path / "bad.csv")
    (tmp_path / "columns.csv").write_text("name,path\na,x.mp4\n")
    with pytest.raises(InputError, match="'id'"):
        list_videos(tmp_path / "columns.csv")


def test_files_are_found_by_name_in_subfolders(films):
    (films / "a.avi").write_bytes(b"x")
    found = find_files(films, ["a", "c", "nothing"])
    assert {name: path.name for name, path in found.items()} == {"a": "a.avi", "c": "c.mp4"}
    with pytest.raises(InputError, match="not a folder"):
        find_files(films / "none", ["a"])


def test_linked_folders_are_searched_and_dead_links_are_listed(films, tmp_path, encoder):
    """As git-annex and datalad leave links to files that were not fetched."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.mp4").symlink_to(films / "a.mp4")
    (tmp_path / "in" / "linked").symlink_to(films / "more")
    (tmp_path / "in" / "dead.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (tmp_path / "in" / "dead_folder").symlink_to(tmp_path / "nowhere")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    (films / "more" / "up").symlink_to(tmp_path / "in")
    assert [item.id for item in list_videos(tmp_path / "in")] == ["linked/c", "linked/d", "x"]
    assert set(find_files(tmp_path / "in", ["c", "x", "dead"])) == {"c", "x"}
    coverage = run(tmp_path / "in", tmp_path / "features.h5")
    assert coverage["counts"]["done"] == 3
    assert coverage["lists"]["skipped"] == dict.fromkeys(["dead.mp4", "dead_folder"], "a link to a missing file")


def test_links_to_the_same_folder_to_a_chain_and_to_nothing_in_it(films, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "chain").symlink_to(films / "more")
    (folder / "one").symlink_to(films / "more")
    (folder / "two").symlink_to(tmp_path / "chain")
    (films / "more" / "gone.mp4").symlink_to("gone-too.mp4")
    (folder / "round").symlink_to("round2")
    (folder / "round2").symlink_to("round")
    assert [item.id for item in list_videos(folder)] == ["one/c", "one/d", "two/c", "two/d"]
    missing = other_files(folder)
    assert missing == dict.fromkeys(["one/gone.mp4", "two/gone.mp4", "round", "round2"], "a link to a missing file")


@pytest.mark.parametrize("find", [list_videos, lambda folder: find_videos(folder, ["c"])])
def test_a_folder_that_may_not_be_read_is_named(films, monkeypatch, find):
    scandir = os.scandir

    def denied(path):
        if Path(path).name == "more":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(InputError, match=r"more cannot be read: Permission denied; correct its rights"):
        find(films)


def test_a_video_is_used_before_pictures_of_any_kind_and_the_first_of_two_videos(films, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("x.JPG", "x.png", "y.jpeg", "z.jpg"):
        Image.new("RGB", (64, 48)).save(folder / name)
    for name in ("x.MP4", "y.mkv", "y.mp4"):
        shutil.copyfile(films / "a.mp4", folder / name)
    kept, duplicates = unique_items(list_videos(folder))
    assert [Path(item.path).name for item in kept] == ["x.MP4", "y.mkv", "z.jpg"]
    assert sorted(duplicates) == ["x", "y"]


@pytest.mark.parametrize("suffix", ["jpg", "webp", "png"])
def test_a_thumbnail_beside_a_video_is_ignored(films, tmp_path, encoder, suffix):
    """As `yt-dlp --write-thumbnail` leaves them."""
    Image.new("RGB", (64, 48), (255, 0, 0)).save(films / f"a.{suffix}")
    coverage = run(films, tmp_path / "features.h5")
    assert len(FeatureBank.open(tmp_path / "features.h5").video_rows("a")) == 3
    assert f"a.{suffix}" in coverage["lists"]["duplicate_ids"]["a"]


@pytest.mark.parametrize("on_error", ["skip", "stop"])
def test_a_bad_file_whose_name_is_no_utf8_is_listed_and_the_rest_is_encoded(films, tmp_path, encoder, on_error):
    (films / "bad\udce9.avi").write_bytes(b"no film")
    (films / "note\udce9.txt").write_bytes(b"no film")
    (films / "twice\udce9.mp4").write_bytes((films / "a.mp4").read_bytes())
    (films / "twice\udce9.mkv").write_bytes((films / "a.mp4").read_bytes())
    out = tmp_path / "features.h5"
    if on_error == "stop":
        with pytest.raises(InputError, match=r"bad\\xe9.*on_error=skip"):
            run(films, out, on_error="stop")
        return
    coverage = run(films, out)
    assert list(coverage["lists"]["failed"]) == ["bad\\xe9"]
    assert list(coverage["lists"]["skipped"]) == ["note\\xe9.txt"]
    assert list(coverage["lists"]["duplicate_ids"]) == ["twice\\xe9"]
    statuses = {entry.id: entry.status for entry in read_ledger(ledger_path(out))}
    assert statuses["bad\\xe9"] == "failed"
    assert len(FeatureBank.open(out)) == 6
    encoder.clips = 0
    assert run(films, out)["up_to_date"]
    assert encoder.clips == 0
