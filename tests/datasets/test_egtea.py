"""EGTEA Gaze+'s list of actions and splits."""

from pathlib import Path

import numpy as np
import pytest

from clep.datasets.egtea import read_egtea_actions, read_egtea_split
from clep.errors import InputError

ACTIONS = "Inspect/Read recipe 1\nOpen fridge 2\nTake eating_utensil 3\n"
SPLIT = "OP01-R01-PastaSalad-1002316-1004005-F024051-F024101 3 1 9\n\nP05-R04-Cheese-5-1500-F0-F1 1 2 3 4\n"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "test_split1.txt").write_text(SPLIT)
    (tmp_path / "action_idx.txt").write_text(ACTIONS)
    return tmp_path / "test_split1.txt", tmp_path / "action_idx.txt"


def test_a_split_has_labels_and_spans(files: tuple[Path, Path]) -> None:
    split = read_egtea_split(*files)
    assert split.clips.classes == ["inspect/read recipe", "open fridge", "take eating utensil"]
    assert split.clips.ids == ["OP01-R01-PastaSalad-1002316-1004005-F024051-F024101", "P05-R04-Cheese-5-1500-F0-F1"]
    assert split.clips.label is not None
    assert split.clips.label.tolist() == [2, 0]
    assert split.spans.videos == ["OP01-R01-PastaSalad", "P05-R04-Cheese"]
    np.testing.assert_allclose(split.spans.start_s, [1002.316, 0.005])
    np.testing.assert_allclose(split.spans.end_s, [1004.005, 1.5])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((" 3 1 9", " 4 1 9"), "line 1: the action 4 is not among the 3"),
        ((" 3 1 9", ""), "line 1: .* is not a clip and the number of its action"),
        (("P05-R04-Cheese", "P05"), "line 3: .* is not a clip"),
        (("P05-R04-Cheese-5-1500-F0-F1", "OP01-R01-PastaSalad-1002316-1004005-F024051-F024101"), "duplicate id"),
    ],
)
def test_a_wrong_line_is_named(files: tuple[Path, Path], change: tuple[str, str], message: str) -> None:
    files[0].write_text(SPLIT.replace(*change))
    with pytest.raises(InputError, match=message):
        read_egtea_split(*files)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Open fridge\n", "'Open fridge' is not a name and a number"),
        ("Open fridge 1\nOpen door 1\n", "line 2: the number 1 is listed twice"),
        ("Open fridge 1\nOpen door 3\n", "not numbered from 1 to 2"),
    ],
)
def test_a_wrong_list_of_actions_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "action_idx.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        read_egtea_actions(tmp_path / "action_idx.txt")
