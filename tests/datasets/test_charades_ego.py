"""Charades-Ego: classes, multi-label videos, and errors that name the file and the line or video."""

from pathlib import Path

import pytest

from clep.datasets.charades_ego import read_classes, read_ego_charades
from clep.errors import InputError

CLASSES = {"c008": "Opening a door", "c000": "Holding some clothes"}
HEADER = "id,subject,actions,length,egocentric\n"


def classes_file(folder: Path, content: str) -> Path:
    (folder / "classes.txt").write_text(content, encoding="utf-8")
    return folder / "classes.txt"


def videos_file(folder: Path, *lines: str) -> Path:
    (folder / "test.csv").write_text(HEADER + "".join(f"{line}\n" for line in lines))
    return folder / "test.csv"


def test_classes_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = classes_file(tmp_path, "\ufeffc008 Opening a door\n\n  c000 Holding some clothes \n")
    found = read_classes(path)
    assert (found, list(found)) == (CLASSES, list(CLASSES))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("c008 Opening a door\nc009\n", r"classes\.txt, line 2: 'c009' is not a code and a name"),
        ("c008 a\nc000 b\nc008 c\n", r"classes\.txt, line 3: duplicate class 'c008'"),
        ("\n \n", r"classes\.txt lists no class"),
    ],
)
def test_wrong_classes_are_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_classes(classes_file(tmp_path, content))


def test_labels_views_and_lengths(tmp_path: Path) -> None:
    path = videos_file(
        tmp_path,
        "AEGO,s1,c000 1.0 2.5;c008 0.0 9.0;c000 5.0 6.0,12.5,Yes",
        "A,s1,c008 0.0 9.0,,No",
        "B,s2,,30,no",
        "AEGO,s1,c008 0.0 9.0,99,No",
    )
    clips, lengths, repeated = read_ego_charades([path], CLASSES, "classes.txt")
    assert list(clips.ids) == ["AEGO", "A", "B"]
    assert clips.classes == list(CLASSES.values())
    assert clips.labels.tolist() == [[1, 1], [1, 0], [0, 0]]
    assert clips.first_person.tolist() == [True, False, False]
    assert lengths == {"AEGO": 12.5, "B": 30.0}
    assert repeated == ["AEGO"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("A,s1,c008 0 9,9,maybe", r"test\.csv, video 'A': egocentric is 'maybe'; write Yes or No"),
        ("A,s1,c777 0 9,9,Yes", r"test\.csv, video 'A': the action 'c777' .* not among the 2 classes of classes\.txt"),
        (",s1,c008 0 9,9,Yes", r"test\.csv"),
    ],
)
def test_wrong_videos_are_refused(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_ego_charades([videos_file(tmp_path, line)], CLASSES, "classes.txt")
