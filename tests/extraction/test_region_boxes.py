"""Boxes by video: lines of one person are one box, excluded frames and low scores go, and the order is fixed."""

from pathlib import Path

import pytest

from clep.datasets.ava import read_annotations
from clep.datasets.ava_proposals import read_proposals
from clep.errors import InputError
from clep.extraction.region_boxes import gather_boxes

LINES = [
    "b,0903,0.1,0.1,0.5,0.5,12,1",
    "a,0904,0.2,0.2,0.6,0.6,80,0",
    "a,0902,0.1,0.1,0.5,0.5,12,3",
    "a,0902,0.1,0.1,0.5,0.5,17,3",
    "a,0902,0.1,0.1,0.5,0.5,17,3",
    "a,0902,0.3,0.1,0.5,0.5,11,",
]


@pytest.fixture
def files(tmp_path: Path) -> tuple:
    (tmp_path / "a.csv").write_text("\n".join(LINES) + "\n")
    (tmp_path / "p.csv").write_text("a,902,0.1,0.1,0.4,0.4,0.95\na,902,0.1,0.1,0.4,0.4,0.5\nc,902,0,0,1,1,0.9\n")
    return read_annotations(tmp_path / "a.csv", as_regions=True), read_proposals(tmp_path / "p.csv")


def test_annotated_boxes(files: tuple) -> None:
    found, left = gather_boxes("annotated", *files)
    assert list(found) == ["a", "b"]
    a = found["a"]
    assert a.second.tolist() == [902.0, 902.0, 904.0]
    assert a.actions == ((12, 17), (11,), (80,))
    assert a.person.tolist() == [3, -1, 0]
    assert a.annotated.all()
    assert a.score.tolist() == [1.0, 1.0, 1.0]
    assert left == {"in_excluded_frames": 0, "below_the_threshold": 0}
    assert [len(boxes) for boxes in a.by_second().values()] == [2, 1]


def test_detected_boxes_and_both(files: tuple) -> None:
    found, left = gather_boxes("detected", *files)
    assert {video: len(boxes.second) for video, boxes in found.items()} == {"a": 1, "c": 1}
    assert left["below_the_threshold"] == 1
    assert found["a"].actions == ((),)
    both, _ = gather_boxes("both", *files)
    assert both["a"].annotated.tolist() == [True, True, False, True]
    assert both["a"].digest() != found["a"].digest()


def test_excluded_frames_are_left_out(files: tuple) -> None:
    found, left = gather_boxes("both", *files, excluded=[("a", 902), ("c", 902)])
    assert left["in_excluded_frames"] == 6
    assert {video: boxes.second.tolist() for video, boxes in found.items()} == {"a": [904.0], "b": [903.0]}
    with pytest.raises(InputError, match=r"no box is left \(3 score below 0\.99, 0 are excluded"):
        gather_boxes("detected", *files, score_threshold=0.99)


def test_the_digest_depends_on_the_boxes_only(files: tuple, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("\n".join(LINES).replace(",12,3", ",14,3") + "\n")
    relabelled, _ = gather_boxes("annotated", read_annotations(other, as_regions=True), None)
    assert relabelled["a"].digest() == gather_boxes("annotated", *files)[0]["a"].digest()
    other.write_text("\n".join(LINES).replace("0.2,0.2,0.6", "0.2,0.2,0.7") + "\n")
    moved, _ = gather_boxes("annotated", read_annotations(other, as_regions=True), None)
    assert moved["a"].digest() != relabelled["a"].digest()


def test_missing_files_are_refused_with_the_option(files: tuple) -> None:
    with pytest.raises(InputError, match="boxes=detected needs proposals"):
        gather_boxes("detected", files[0], None)
    with pytest.raises(InputError, match="boxes=both needs annotations"):
        gather_boxes("both", None, files[1])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a,902,0.1,0.1,0.5,0.5,12", r"line 7 has 7 columns; expected 8"),
        ("a,902,0.1,0.1,0.5,0.5,81,1", r"line 7: unknown action id; the ids are 1 to 80"),
        ("a,902,0.1,0.1,0.5,1.5,12,1", r"line 7: the box leaves \[0, 1\]"),
        ("a,902,0.1,0.1,0.1,0.5,12,1", r"line 7: the box has no area"),
        ("a,902,0.1,0.1,0.5,0.5,12,one", r"line 7: person must be a whole number, or empty"),
    ],
)
def test_an_invalid_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "a.csv").write_text("\n".join([*LINES, line]) + "\n")
    with pytest.raises(InputError, match=message):
        read_annotations(tmp_path / "a.csv", as_regions=True)
