"""Tables of one's own: formats, columns, times, splits, ids with and without suffix, and what is refused by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from clep.datasets.moment_table import MomentTable, read_moment_table, repeated_rows
from clep.errors import InputError

COLUMNS = ("video", "start", "end", "text", "split", "verb", "noun")
ROWS = [
    dict(zip(COLUMNS, ("b", 1.5, 3.0, 'opens "the" door', "train", "open", "door"), strict=True)),
    dict(zip(COLUMNS, ("a", 0.0, 2.25, "cuts an onion", "val", "cut", "onion|knife"), strict=True)),
    dict(zip(COLUMNS, ("a", 62.5, 63.0, "wäscht, dann\ntrocknet", "test", "", ""), strict=True)),
]
ENDS = {"a": 100.0, "b": 10.0}


def write(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    """Write rows in the format of the suffix."""
    frame = pd.DataFrame(rows)
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


def moments(found: MomentTable) -> list[tuple[str, float, float, str]]:
    """Return (video, start, end, text) of each row."""
    table = found.narrations
    return [
        (table.videos[video], float(start), float(end), table.texts[text])
        for video, start, end, text in zip(table.video, table.start_s, table.end_s, table.text_id, strict=True)
    ]


EXPECTED = [
    ("a", 0.0, 2.25, "cuts an onion"),
    ("a", 62.5, 63.0, "wäscht, dann trocknet"),
    ("b", 1.5, 3.0, 'opens "the" door'),
]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".jsonl"])
def test_every_format_gives_the_same(tmp_path: Path, suffix: str) -> None:
    found = read_moment_table(write(tmp_path / f"pairs{suffix}"))
    assert moments(found) == EXPECTED
    assert found.narrations.row_split.tolist() == [1, 2, 0]
    assert found.verbs == ["cut", "open"]
    assert found.nouns == ["door", "knife", "onion"]
    verbs, nouns = found.narrations.verbs, found.narrations.nouns
    assert [list(verbs[text]) for text in found.narrations.text_id] == [[0], [], [1]]
    assert [list(nouns[text]) for text in found.narrations.text_id] == [[1, 2], [], [0]]
    assert found.report == {"rows": 3, "rows_of_unknown_videos": 0, "empty": 0, "bad_span": 0, "repeated": 0, "kept": 3}


def test_other_names_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes("\ufeffclip,caption,from,to\r\na,hello,00:00:01.5,00:01:02\r\na,bye,3,4\r\n".encode())
    found = read_moment_table(path, {"video": "clip", "text": "caption", "start": "from", "end": "to", "verb": None})
    assert moments(found) == [("a", 3.0, 4.0, "bye"), ("a", 1.5, 62.0, "hello")]


def test_times_without_spans(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("video,time,text\na,00:00:10.5,x\na,2,y\n")
    table = read_moment_table(path).narrations
    assert table.second.tolist() == [2.0, 10.5]
    assert table.start_s is None


def test_rows_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    rows = [
        {"video": "a", "start": 1, "end": 2, "text": "kept"},
        {"video": "a", "start": 1, "end": 2, "text": "kept"},
        {"video": "a", "start": 1, "end": 2, "text": "another"},
        {"video": "a", "start": 5, "end": 5, "text": "no length"},
        {"video": "a", "start": 1, "end": 2, "text": " "},
        {"video": "b", "start": 11.5, "end": 12, "text": "late"},
        {"video": "kitchn_c", "start": 1, "end": 2, "text": "unknown"},
        *({"video": "b", "start": 1 + 0.1 * i, "end": 2 + 0.1 * i, "text": f"t{i}"} for i in range(30)),
    ]
    found = read_moment_table(write(tmp_path / "x.csv", rows), ends_s=ENDS | {"kitchen_c": 5.0, "unused": 1.0})
    assert found.report == {
        **{"rows": 37, "rows_of_unknown_videos": 1, "empty": 1, "bad_span": 1},
        **{"after_the_end": 1, "repeated": 1, "kept": 32},
    }
    assert found.unknown_videos == {"kitchn_c": "nearest: kitchen_c"}
    assert found.unused_videos == ["kitchen_c", "unused"]
    assert found.narrations.duration_s.tolist() == [100.0, 10.0]


def test_ids_may_differ_by_a_suffix(tmp_path: Path) -> None:
    rows = [{"video": name, "start": 1, "end": 2, "text": name} for name in ("a.mp4", "a", "b.MP4")]
    assert [one[0] for one in moments(read_moment_table(write(tmp_path / "x.csv", rows), ends_s=ENDS))] == [
        "a",
        "a",
        "b",
    ]
    with_suffix = {"a.mp4": 9.0, "b.mp4": 9.0}
    rows = [{"video": "a", "start": 1, "end": 2, "text": "x"}]
    assert moments(read_moment_table(write(tmp_path / "x.csv", rows), ends_s=with_suffix))[0][0] == "a.mp4"


def test_ids_that_differ_by_their_folder_are_named(tmp_path: Path) -> None:
    for name in ("videos/kitchen_c.mp4", "/data/kitchen_c", "C:\\videos\\kitchen_c.mp4"):
        rows = [{"video": name, "start": 1, "end": 2, "text": "x"}]
        with pytest.raises(InputError, match=r"nearest: kitchen_c\); .*write the ids as the features have them"):
            read_moment_table(write(tmp_path / "x.csv", rows), ends_s={"kitchen_c": 9.0})


@pytest.mark.parametrize(("factor", "guess"), [(30, "frames"), (1000, "milliseconds"), (1_000_000, "microseconds")])
def test_other_units_of_time_are_recognised(tmp_path: Path, factor: int, guess: str) -> None:
    rows = [{"video": "a", "start": factor * i, "end": factor * (i + 1), "text": f"t{i}"} for i in range(90)]
    with pytest.raises(InputError, match=rf"x\.csv: .* in 'a' of 100 s; are these {guess}\?"):
        read_moment_table(write(tmp_path / "x.csv", rows), ends_s=ENDS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "clip,start,end,text\na,1,2,x\n",
            r"lacks the column 'video'; its columns are clip.*columns\.video=NAME",
        ),
        ("video,start,end,caption\na,1,2,x\n", r"lacks the column 'text'.*data\.columns\.text=NAME"),
        ("video,start,text\na,1,x\n", r"needs the columns 'start' and 'end', or 'time'"),
        ("video,start,end,text\na,one,2,x\n", r"x\.csv, line 2: start is 'one', not seconds"),
        ("video,start,end,text\na,1,2,x\na,-3,2,x\n", r"x\.csv, line 3: start is '-3', not seconds"),
        ("video,start,end,text\na,1,,x\n", r"line 2: end is '', not seconds"),
        ("video,start,end,text\na,1,2,x\n,1,2,x\n", r"line 3: video is empty"),
        ("video,start,end,text\na,1,2,17\nb,1,2,18\n", r"'text' should hold sentences, but .*data\.columns\.text=NAME"),
        ("video,start,end,text,split\na,1,2,x,\n", r"line 2: split is empty"),
        ("video,start,end,text,split\na,1,2,x,trian\n", r"line 2: split is 'trian', not one of train, val, test"),
        ("video,start,end,text,weight\na,1,2,x,-1\n", r"line 2: weight is '-1', not a number from 0 on"),
        (
            "video,start,end,text\na,2,1,x\n",
            r"x\.csv has no usable row \(rows: 1.*bad_span: 1.*spans 2 to 1 s; .*start=END",
        ),
        ("video,start,end,text\na,1,2\n", r"x\.csv, line 2 has 3 cells, but the header has 4"),
        ("video,start,end,text\n", r"x\.csv has a header but no rows"),
        ("", r"x\.csv is not a readable table: it is empty"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "x.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        read_moment_table(tmp_path / "x.csv")


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.xlsx cannot be read as a table; .*\.csv, \.tsv, \.parquet, \.jsonl"):
        read_moment_table(tmp_path / "x.xlsx")
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"x\.parquet is not a readable parquet file"):
        read_moment_table(tmp_path / "x.parquet")
    with pytest.raises(InputError, match=r"y\.csv does not exist"):
        read_moment_table(tmp_path / "y.csv")
    (tmp_path / "x.jsonl").write_text('{"video": "a"}\n{"video": }\n')
    with pytest.raises(InputError, match=r"x\.jsonl, line 2 is not valid JSON"):
        read_moment_table(tmp_path / "x.jsonl")
    (tmp_path / "x.jsonl").write_text("[1]\n")
    with pytest.raises(InputError, match=r"x\.jsonl, line 1 is not a JSON object"):
        read_moment_table(tmp_path / "x.jsonl")
    with pytest.raises(InputError, match=r"data\.columns\.txt: there is no such column\. Did you mean 'text'"):
        read_moment_table(tmp_path / "x.jsonl", {"txt": "caption"})
    rows = [{"video": "z1", "start": 1, "end": 2, "text": "x"}]
    with pytest.raises(InputError, match=r"none of the 1 videos of .*x\.csv has features: 'z1'"):
        read_moment_table(write(tmp_path / "x.csv", rows), ends_s=ENDS)


def test_weights(tmp_path: Path) -> None:
    rows = [{"video": "a", "start": i, "end": i + 1, "text": "x", "weight": i / 2} for i in range(4)]
    found = read_moment_table(write(tmp_path / "x.parquet", rows))
    np.testing.assert_array_equal(found.narrations.weight, np.array([0, 0.5, 1, 1.5], np.float32))


def test_repeated_rows_equal_those_of_pandas() -> None:
    random = np.random.default_rng(0)
    video, text = (random.integers(0, 4, 3000).astype(np.int32) for _ in range(2))
    start, end = (random.integers(0, 12, 3000) / 4 - 0.0 for _ in range(2))
    start[::2] *= -1  # -0.0 equals 0.0
    expected = pd.DataFrame({"v": video, "t": text, "s": start, "e": end}).duplicated().to_numpy()
    np.testing.assert_array_equal(repeated_rows(video, text, start, end), expected)
    assert 0 < expected.sum() < 3000
    assert not repeated_rows(video[:0], text[:0], start[:0], end[:0]).any()
