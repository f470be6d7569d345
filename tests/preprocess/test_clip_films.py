"""Where the clips of a table are found: videos, chunks, frames, films of single clips; files of no content will do."""

from math import isnan
from pathlib import Path

import pytest

from clep.errors import InputError
from clep.preprocess.clip_films import find_clips

HEADER = "clip,video,start,end\n"


def find(folder: Path, table: str, *files: str, **columns: str) -> tuple[dict[str, tuple[str, float, float]], dict]:
    """Return the path below the folder of videos, start and end of each clip, and what was skipped."""
    (folder / "videos").mkdir()
    for name in files:
        (folder / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "videos" / name).touch()
    (folder / "t.csv").write_text(table)
    films, skipped = find_clips(folder / "t.csv", columns, folder / "videos")
    return {
        film.id: (film.path.relative_to(folder / "videos").as_posix(), film.start, film.end) for film in films
    }, skipped


def test_a_clip_is_a_span_of_its_video_else_a_film_of_its_own(tmp_path: Path) -> None:
    rows = "a,v,00:00:01.5,3\nw-1,w,2,4\nlost,x,0,1\n"
    found, skipped = find(tmp_path, HEADER + rows, "v.mp4", "a.mp4", "w/w-1.mkv", "w/w-2.mkv")
    assert found["a"] == ("v.mp4", 1.5, 3.0)
    assert found["w-1"][0] == "w/w-1.mkv"
    assert isnan(found["w-1"][1])
    assert isnan(found["w-1"][2])
    assert skipped == {"lost": "no video x or lost in videos"}


def test_numbered_chunks_frames_and_videos_are_not_taken_for_clips_of_the_same_number(tmp_path: Path) -> None:
    rows = "0,v,0,1\n1,v,1,2\n2,gone,0,1\nframe_1,w,0,1\n7,gone,0,1\n9,7,0,1\n"
    found, skipped = find(tmp_path, HEADER + rows, "v/0.mp4", "v/1.mp4", "v/2.mp4", "w/frame_1.jpg", "7.mp4")
    assert {name: path for name, (path, _, _) in found.items()} == {"0": "v", "1": "v", "frame_1": "w", "9": "7.mp4"}
    assert sorted(skipped) == ["2", "7"]


def test_ids_alone_are_whole_films_and_spans_alone_get_ids(tmp_path: Path) -> None:
    found, skipped = find(tmp_path, "id\na\nb\na\n", "deep/a.mp4", clip="id")
    assert list(found) == ["a"]
    assert skipped == {"b": "no video b in videos"}
    (tmp_path / "t.csv").write_text("video,start,end\na,1,2.5\n")
    films, _ = find_clips(tmp_path / "t.csv", None, tmp_path / "videos")
    assert [(film.id, film.start, film.end) for film in films] == [("a_1000_2500", 1.0, 2.5)]


def test_wrong_spans_are_listed_and_wrong_tables_refused(tmp_path: Path) -> None:
    _, skipped = find(tmp_path, HEADER + "a,v,2,1\nb,v,-1,1\nc,v,0,1\n", "v.mp4")
    assert skipped == {"a": "its span is from 2 to 1", "b": "its span is from -1 to 1"}
    for table, message in (
        (HEADER + "a,v,0,1\na,v,0,2\n", r"line 3: the clip 'a' has another span than in line 2"),
        (HEADER + "a,v,soon,1\n", r"line 2: start is 'soon', not seconds such as 12\.5"),
        (HEADER + "a,,0,1\n", "line 2: video is empty"),
        ("clip,video\na,v\n", r"has the column 'video' but not 'start'.*columns\.start=NAME"),
        ("name\na\n", r"lacks the column 'clip'; its columns are name.*columns\.clip=NAME"),
    ):
        (tmp_path / "t.csv").write_text(table)
        with pytest.raises(InputError, match=message):
            find_clips(tmp_path / "t.csv", None, tmp_path / "videos")
    (tmp_path / "t.csv").write_text("clip\na\n")
    with pytest.raises(InputError, match="none does not exist or is not a folder"):
        find_clips(tmp_path / "t.csv", None, tmp_path / "none")
