from pathlib import Path

import pytest

from clep.datasets.clip_table import ClipTable, QueryTable, read_clip_table, read_query_table
from clep.errors import InputError


def written(folder: Path, text: str) -> Path:
    path = folder / "clips.csv"
    path.write_text(text)
    return path


def labels(table: ClipTable) -> dict[str, list[str]]:
    pairs = zip(table.spans.ids, table.labels, strict=True)
    return {clip: [table.classes[index] for index in ids] for clip, ids in pairs}


def pairs(table: QueryTable) -> list[tuple[str, str]]:
    return [(table.sentences[query], table.spans.ids[clip]) for query, clip in table.pairs.tolist()]


def test_the_labels_are_the_classes_sorted(tmp_path: Path) -> None:
    table = read_clip_table(written(tmp_path, "clip,label\nb,open\na,cut\nc,open\n"))
    assert table.classes == ["cut", "open"]
    assert labels(table) == {"b": ["open"], "a": ["cut"], "c": ["open"]}
    assert table.label.tolist() == [1, 0, 1]
    assert not table.has_several_labels


def test_several_labels_of_a_clip(tmp_path: Path) -> None:
    table = read_clip_table(written(tmp_path, "clip,label\na,open | cut\nb,cut\n"), classes=["cut", "wash", "open"])
    assert labels(table) == {"a": ["cut", "open"], "b": ["cut"]}
    assert table.has_several_labels
    assert table.targets.tolist() == [[True, False, True], [True, False, False]]
    assert table.unused_classes == ["wash"]
    with pytest.raises(InputError, match=r"clips.csv.*'a'.*'cut', 'open'"):
        _ = table.label


def test_names_win_over_indices_and_over_parts(tmp_path: Path) -> None:
    """A class that is called "1", or "a|b", is that class."""
    path = written(tmp_path, "clip,label\nx,1\ny,2\nz,a|b\nw,2.0\n")
    assert labels(read_clip_table(path, classes=["a|b", "a", "1"])) == {
        "x": ["1"],
        "y": ["1"],
        "z": ["a|b"],
        "w": ["1"],
    }


def test_classes_of_a_file(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("\ufeffcut bread\r\n\r\nopen\r\n", encoding="utf-8")
    assert labels(read_clip_table(written(tmp_path, "clip,label\na,0\nb,open\n"), names)) == {
        "a": ["cut bread"],
        "b": ["open"],
    }


def test_equal_rows_are_left_out_and_counted(tmp_path: Path) -> None:
    table = read_clip_table(written(tmp_path, "clip,label\na,cut|open\nb,cut\na,open|cut\n"))
    assert (labels(table), table.repeated) == ({"a": ["cut", "open"], "b": ["cut"]}, 1)


@pytest.mark.parametrize(
    ("text", "classes", "named"),
    [
        ("clip,label\na,cut\nb,opne\n", ["cut", "open"], "line 3.*'opne'.*open"),
        ("clip,label\na,0\nb,2\n", ["cut", "open"], "line 3.*'2'"),
        ("clip,label\na,-1\n", ["cut", "open"], "line 2.*'-1'"),
        ("clip,label\na,cut\na,open\n", None, "line 3.*'a'.*'open'.*'cut'"),
        ("clip,label\na,3\nb,4\n", None, "numbers.*'3'.*classes=FILE"),
        ("clip,label\na,cut\nb,\n", None, "line 3.*label"),
        ("clip,label\na,cut\nb,|\n", None, r"line 3.*'\|'"),
        ("clip,name\na,cut\n", None, "label"),
        ("clip,label\na,cut\n", ["cut", "cut"], "once"),
    ],
)
def test_wrong_labels_are_refused_with_their_line(
    tmp_path: Path, text: str, classes: list[str] | None, named: str
) -> None:
    with pytest.raises(InputError, match=named):
        read_clip_table(written(tmp_path, text), classes)


def test_sentences_and_clips_occur_in_several_pairs(tmp_path: Path) -> None:
    table = read_query_table(written(tmp_path, "query,clip\nopens it,b|a\ncuts it,a\nopens it,b\n"))
    assert pairs(table) == [("opens it", "b"), ("opens it", "a"), ("cuts it", "a")]
    assert table.repeated == 1


def test_clips_of_sentences_may_be_spans(tmp_path: Path) -> None:
    table = read_query_table(written(tmp_path, "query,video,start,end\nopens it,v,0,1\ncuts it,v,1,2\ncuts it,v,0,1\n"))
    assert pairs(table) == [("opens it", "v_0_1000"), ("cuts it", "v_1000_2000"), ("cuts it", "v_0_1000")]
    assert table.spans.end_s.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("query,clip\n,a\n", "line 2.*query"),
        ("query,clip\nopens,|\n", r"line 2.*clip.*'\|'"),
        ("text,clip\na,b\n", "query"),
    ],
)
def test_wrong_pairs_are_refused(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(InputError, match=f"clips.csv.*{named}"):
        read_query_table(written(tmp_path, text))
