import math

import pytest

from clep.errors import InputError
from clep.extraction.items import parse_part, part_of, select_items
from clep.extraction.listing import VideoItem, unique_items, with_durations
from clep.extraction.videos import file_name

ITEMS = [
    VideoItem(name, f"{name}.mp4", duration_s=seconds) for name, seconds in zip("abcde", (5, 1, 9, 3, 2), strict=True)
]


def test_parts_share_the_work_and_miss_nothing():
    parts = [part_of(ITEMS, (index, 3)) for index in range(3)]
    assert sorted(item.id for part in parts for item in part) == list("abcde")
    assert max(sum(item.duration_s for item in part) for part in parts) <= 9
    assert parts == [part_of(list(reversed(ITEMS)), (index, 3)) for index in range(3)]
    assert part_of(ITEMS[:1], (2, 3)) == []


@pytest.mark.parametrize("wrong", ["3/3", "1", "-1/3", "1/0", "a/b", "0/3/4"])
def test_a_part_is_i_of_n(wrong):
    with pytest.raises(InputError, match="i/n"):
        parse_part(wrong)
    assert parse_part("0/1") == (0, 1)
    assert parse_part(None) is None


def test_the_first_of_one_id_counts_and_the_others_are_named():
    again = [*ITEMS, VideoItem("b", "other/b.avi"), VideoItem("b", "third/b.avi")]
    kept, named = unique_items(reversed(again))
    assert [item.id for item in kept] == list("abcde")
    assert kept[1].path == "third/b.avi"
    assert set(named) == {"b"}
    assert "other/b.avi" in named["b"] and "b.mp4" in named["b"]  # noqa: PT018


def test_a_list_of_ids_may_be_a_file_and_must_be_known(tmp_path):
    (tmp_path / "ids").write_text("d\nb\n")
    assert [item.id for item in select_items(ITEMS, str(tmp_path / "ids"), None)] == ["b", "d"]
    assert [item.id for item in select_items(ITEMS, ["e", "a", "c"], 2)] == ["a", "c"]
    with pytest.raises(InputError, match=r"ids=\[a,b\]"):
        select_items(ITEMS, str(tmp_path / "none"), None)


@pytest.mark.parametrize("name", ["../x", "..", ".", "/etc/passwd", "a/b\\c", "\n", "ü", "%2F", "a" * 999, "é" * 400])
def test_a_file_name_is_one_part_of_a_path(tmp_path, name):
    written = file_name(name)
    assert len(written.encode()) <= 255
    assert (tmp_path / written).resolve().parent == tmp_path.resolve()
    (tmp_path / written).touch()
    assert [path.name for path in tmp_path.iterdir()] == [written]


def test_different_ids_have_different_file_names():
    names = ["a/b", "a%2Fb", "a\\b", "../x", "%2E./x", ".", "%2E", "a" * 300, "a" * 301]
    assert len({file_name(name) for name in names}) == len(names)


def test_lengths_come_from_headers_where_they_are_unknown(films):
    items = [
        VideoItem("a", str(films / "a.mp4")),
        VideoItem("x", "none.mp4"),
        VideoItem("k", "none.mp4", duration_s=7.0),
    ]
    seconds = [item.duration_s for item in with_durations(items)]
    assert seconds[0] == pytest.approx(2.0, abs=0.05)
    assert math.isnan(seconds[1])
    assert seconds[2] == 7.0
