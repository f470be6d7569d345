from pathlib import Path

import numpy as np
import pytest

from clep.datasets.clip_spans import SPAN_COLUMNS, ClipSpans, find_clip_ids, read_spans, require_span_columns
from clep.datasets.user_table import UserTable, read_user_table
from clep.errors import InputError


def table(folder: Path, text: str) -> UserTable:
    path = folder / "clips.csv"
    path.write_text(text)
    return read_user_table(path, SPAN_COLUMNS)


def spans(*rows: tuple[str, str, float, float]) -> ClipSpans:
    ids, videos, start_s, end_s = zip(*rows, strict=True)
    return ClipSpans(ids, videos, np.array(start_s), np.array(end_s))


def test_rows_of_one_clip_share_it(tmp_path: Path) -> None:
    found, clip = read_spans(
        table(tmp_path, "clip,video,start,end\nb,v1,1,2.5\na,v2,00:01:00,61\nb,v1,1,2.5\nc,v1,1,2.5\n")
    )
    assert (list(found.ids), list(found.videos)) == (["b", "a", "c"], ["v1", "v2", "v1"])
    assert (found.start_s.tolist(), found.end_s.tolist()) == ([1.0, 60.0, 1.0], [2.5, 61.0, 2.5])
    assert clip.tolist() == [0, 1, 0, 2]


def test_clips_without_an_id_are_named_by_their_span(tmp_path: Path) -> None:
    found, clip = read_spans(table(tmp_path, "video,start,end\nv1,0,1.5\nv1,1.5,3.0004\n"))
    assert found.ids == ["v1_0_1500", "v1_1500_3000"]
    assert clip.tolist() == [0, 1]


def test_ids_alone_stand_for_whole_videos(tmp_path: Path) -> None:
    found, clip = read_spans(table(tmp_path, "clip\nb\na\nb\n"))
    assert (list(found.ids), list(found.videos)) == (["b", "a"], ["b", "a"])
    assert np.isnan(found.start_s).all()
    assert clip.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("clip,video,start,end\na,v,1,2\na,v,1,3\n", "line 3.*'a'.*line 2"),
        ("clip,video,start,end\na,v,1,2\nb,v,2,2\n", "line 3.*'b'"),
        ("clip,video,start,end\na,v,1,2\nb,,2,3\n", "line 3.*video"),
        ("clip,video,start,end\na,v,soon,2\n", "line 2.*soon"),
        ("clip,video,start\na,v,1\n", "'start'|'end'"),
        ("name\na\n", "clip"),
    ],
)
def test_wrong_tables_are_refused_with_line_or_column(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(InputError, match=f"clips.csv.*({named})"):
        read_spans(table(tmp_path, text))


def test_which_columns_a_table_has(tmp_path: Path) -> None:
    assert require_span_columns(table(tmp_path, "video,start,end\nv,0,1\n"))
    assert not require_span_columns(table(tmp_path, "clip\na\n"))


def test_clips_are_found_by_span_to_the_millisecond(tmp_path: Path) -> None:
    wanted = (np.array(["v", "v", "w", "v"]), np.array([0.0, 1.0, 0.0, 0.0002]), np.array([1.0, 2.0, 1.0, 1.0001]))
    named = table(tmp_path, "clip,video,start,end\nfirst,v,0,1\nsecond,v,1,2\n")
    assert find_clip_ids(named, *wanted) == ["first", "second", "", "first"]
    unnamed = table(tmp_path, "video,start,end\nv,0,1\nv,1,2\n")
    assert find_clip_ids(unnamed, *wanted) == ["v_0_1000", "v_1000_2000", "", "v_0_1000"]


def test_a_csv_is_read_back(tmp_path: Path) -> None:
    before = spans(("a", "v1", 0.1, 1 / 3), ("ü b", "v2", np.nan, np.nan), ("c", "v1", 0.1, 7.0))
    before.select(np.array([2, 0])).write_csv(tmp_path / "some.csv")
    found, _ = read_spans(read_user_table(tmp_path / "some.csv", SPAN_COLUMNS))
    assert list(found.ids) == ["c", "a"]
    assert found.end_s.tolist() == [7.0, 1 / 3]
    before.write_csv(tmp_path / "all.csv")
    assert (tmp_path / "all.csv").read_text().splitlines()[2] == "ü b,v2,,"
    with pytest.raises(InputError, match="out.csv.*'a,b'"):
        spans(("a,b", "v", 0.0, 1.0)).write_csv(tmp_path / "out.csv")


def test_wrong_clips_are_refused() -> None:
    with pytest.raises(InputError, match="'a' is listed 2 times"):
        spans(("a", "v", 0.0, 1.0), ("a", "w", 0.0, 1.0))
    with pytest.raises(InputError, match=r"'b' spans 2 to 1 s.*2 such clips"):
        spans(("a", "v", 0.0, 1.0), ("b", "v", 2.0, 1.0), ("c", "v", -1.0, 1.0))
