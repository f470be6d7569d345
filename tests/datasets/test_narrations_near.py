"""Narrations near a moment, against a scan of all rows."""

import csv
import random
from pathlib import Path

import pytest

from clep.datasets.narrations_near import MOST, NarrationsNear
from clep.datasets.splits import hash_fraction
from clep.errors import InputError
from tests.tiny_source import write_tiny_files

Row = dict[str, str | float]


def written(path: Path, rows: list[Row]) -> NarrationsNear:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return NarrationsNear(path)


def random_rows(spans: bool, count: int = 60) -> list[Row]:
    drawn = random.Random(0)
    rows: list[Row] = []
    for row in range(count):
        start = drawn.randrange(0, 80) / 2
        times = {"start": start, "end": start + drawn.randrange(1, 9) / 2} if spans else {"time": start}
        rows.append({"video": drawn.choice("abc"), **times, "text": f"text {row}"})
    return rows


def middle(row: Row) -> float:
    return float(row["time"]) if "time" in row else (float(row["start"]) + float(row["end"])) / 2


@pytest.mark.parametrize("spans", [True, False])
def test_near_equals_a_scan_of_all_rows(tmp_path: Path, spans: bool) -> None:
    rows = random_rows(spans)
    near = written(tmp_path / "pairs.csv", rows)
    for video in "abcd":
        for start_s, end_s in ((0.0, 100.0), (3.0, 7.5), (10.0, 10.0), (41.0, 90.0)):
            inside = [row for row in rows if row["video"] == video and start_s <= middle(row) <= end_s]
            found = near.near(video, start_s, end_s)
            assert [one.second for one in found] == sorted(map(middle, inside))
            assert sorted(one.text for one in found) == sorted(str(row["text"]) for row in inside)


def test_of_many_those_around_the_middle_are_returned(tmp_path: Path) -> None:
    near = written(tmp_path / "pairs.csv", [{"video": "a", "time": s, "text": f"text {s}"} for s in range(200)])
    assert [one.second for one in near.near("a", 40.0, 160.0)] == list(range(100 - MOST // 2, 100 + MOST // 2))
    assert [one.second for one in near.near("a", 0.0, MOST - 1.0)] == list(range(MOST))
    assert [one.second for one in near.near("a", -400.0, 199.0)] == list(range(MOST)), (
        "the middle lies before the first"
    )
    assert [one.second for one in near.near("a", 0.0, 900.0)] == list(range(200 - MOST, 200))


def test_the_text_of_a_span_overlaps_it_longest(tmp_path: Path) -> None:
    rows = random_rows(spans=True)
    near = written(tmp_path / "pairs.csv", rows)
    for video in "abcd":
        for start_s, end_s in ((0.0, 4.0), (11.2, 13.1), (20.0, 31.0), (60.0, 70.0)):
            overlaps = {
                str(row["text"]): min(float(row["end"]), end_s) - max(float(row["start"]), start_s)
                for row in rows
                if row["video"] == video
            }
            longest = max(overlaps.values(), default=0.0)
            expected = {text for text, overlap in overlaps.items() if overlap == longest} if longest > 0 else {""}
            assert near.text(video, start_s, end_s) in expected


def test_the_text_of_a_span_without_spans_is_the_nearest_within_it(tmp_path: Path) -> None:
    near = written(
        tmp_path / "pairs.csv",
        [{"video": "a", "time": 4, "text": "takes a cup"}, {"video": "a", "time": 9, "text": "washes a cup"}],
    )
    assert near.text("a", 0.0, 10.0) == "takes a cup"
    assert near.text("a", 5.0, 10.0) == "washes a cup"
    assert near.text("a", 5.0, 8.0) == near.text("b", 0.0, 10.0) == ""


def test_frequent_texts_come_first(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"video": "a", "time": second, "text": text}
        for second, text in enumerate(["one", *["three"] * 3, "two", "two"])
    ]
    near = written(tmp_path / "pairs.csv", rows)
    assert (near.frequent(2), near.frequent(9)) == (["three", "two"], ["three", "two", "one"])


def test_splits_of_a_table(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"video": "a", "time": 1, "text": "takes a cup", "split": "train"},
        {"video": "b", "time": 1, "text": "takes a cup", "split": "dev"},
    ]
    assert written(tmp_path / "pairs.csv", rows).splits == {"a": "train", "b": "val"}
    assert written(tmp_path / "none.csv", [{**row, "split": "test"} for row in rows]).splits == {
        "a": "test",
        "b": "test",
    }


def test_splits_of_narrations_are_those_that_training_makes(tmp_path: Path) -> None:
    write_tiny_files(tmp_path)
    videos = [f"v{video:02d}" for video in range(12)]
    assert NarrationsNear(tmp_path / "narrations.arrow").splits == {}
    expected = {video: "held out" if hash_fraction(video) < 0.3 else "training" for video in videos}
    assert NarrationsNear(tmp_path / "narrations.arrow", val_fraction=0.3).splits == expected
    assert set(expected.values()) == {"held out", "training"}


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"narrations=.*narrations\.txt.*\.csv"):
        NarrationsNear(tmp_path / "narrations.txt")
    with pytest.raises(InputError, match=r"none\.arrow"):
        NarrationsNear(tmp_path / "none.arrow")
