"""Files of detected boxes: layouts, clipping to the frame, and errors that name the line or key."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from clep.datasets.ava_proposals import read_proposals
from clep.errors import InputError


class Code:
    def __reduce__(self):
        return (print, ("run",))


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_csv_with_and_without_scores(tmp_path: Path) -> None:
    found = read_proposals(write(tmp_path / "p.csv", "a,0902,-0.01,0.1,0.5,1.2,0.95", "b,903,0.2,0.2,0.4,0.4,0.5"))
    assert found.videos == ("a", "b")
    assert found.second.tolist() == [902, 903]
    assert found.box.tolist() == [[0.0, 0.1, 0.5, 1.0], [0.2, 0.2, 0.4, 0.4]]  # clipped to the frame
    assert found.score.tolist() == [0.95, 0.5]
    assert read_proposals(write(tmp_path / "q.csv", "a,902,0.1,0.1,0.5,0.5")).score.tolist() == [1.0]


def test_the_action_column_of_a_csv_is_ignored(tmp_path: Path) -> None:
    lines = ["a,0902,0.1,0.1,0.5,0.5,,0.95", "a,0902,0.2,0.2,0.4,0.4,-1,0.8", "a,0902,0.2,0.2,0.4,0.4,12,0.8"]
    found = read_proposals(write(tmp_path / "ava_val_predicted_boxes.csv", *lines))
    assert found.second.tolist() == [902, 902]
    assert found.box.tolist() == [
        [0.1, 0.1, 0.5, 0.5],
        [0.2, 0.2, 0.4, 0.4],
    ]  # the second box is listed for two actions
    assert found.score.tolist() == [0.95, 0.8]
    with pytest.raises(InputError, match="line 2: score must be a number"):
        read_proposals(write(tmp_path / "p.csv", lines[0], "a,0902,0.1,0.1,0.5,0.5,12,"))


@pytest.mark.parametrize("saved", ["pickle", "torch"])
def test_mmaction2_s_pkl(tmp_path: Path, saved: str) -> None:
    content = {
        "a,0902": np.array([[0.1, 0.1, 0.5, 1.003, 0.99], [0.2, 0.2, 0.4, 0.4, 0.3]]),
        "b,0903": np.empty((0, 5)),
        "a,0905": np.array([[0.0, 0.0, 1.0, 1.0, 0.9]]),
    }
    path = tmp_path / "p.pkl"
    if saved == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save({key: torch.from_numpy(value) for key, value in content.items()}, path)
    found = read_proposals(path)
    assert [found.videos[video] for video in found.video] == ["a", "a", "a"]
    assert found.second.tolist() == [902, 902, 905]
    assert found.box[0].tolist() == [0.1, 0.1, 0.5, 1.0]
    assert found.score.tolist() == [0.99, 0.3, 0.9]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a,902,0.1,0.1,0.5,0.5,0.9", "a,902,0.1,0.1,0.5"], r"line 2 has 5 columns; expected 7"),
        (["a,902,0.1,0.1,0.5,0.5,0.9", "", "a,902,0.5,0.1,0.1,0.5,0.9"], r"line 3: the box has x1 > x2"),
        (["a,902,0.1,0.1,0.1,0.5,0.9"], r"line 1: the box has no area"),
        (["a,902,1.1,0.1,1.5,0.5,0.9"], r"line 1: the box has no area"),  # all of it beyond the border
        (["a,902,10,10,50,50,0.9"], r"line 1: the box leaves \[-1, 2\].*not pixels"),
        (["a,902,0.1,0.1,0.5,0.5,high"], r"line 1: score is 'high', not a number"),
        (["a,902.5,0.1,0.1,0.5,0.5,0.9"], r"line 1: second must be a whole number"),
        ([""], r"has no rows"),
    ],
)
def test_an_invalid_line_is_named(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_proposals(write(tmp_path / "p.csv", *lines))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a,0902": Code()}, r"p\.pkl is an unsafe pickle: loading it would run \S*print"),
        ({"a 902": np.ones((1, 5))}, r"the key 'a 902' is not 'video,second'"),
        ({"a,0902": np.ones((1, 3))}, r"'a,0902' holds float64 \[1, 3\], expected boxes \[n, 5\]"),
        ({"a,0902": np.array([[0.1, 0.1, 0.5, 0.5, 1], [0.5, 0.1, 0.1, 0.5, 1]])}, r"'a,0902', row 1 is"),
        ({"a,0902": np.array([[10.0, 10, 50, 50, 1]])}, r"'a,0902', row 0 is"),
        ({"a,0902": np.array([[np.nan, 0, 0.5, 0.5, 1]])}, r"'a,0902', row 0 is"),
        ([1, 2], r"holds a list, expected .* dict"),
    ],
)
def test_an_invalid_pkl_is_refused(tmp_path: Path, content: object, message: str) -> None:
    (tmp_path / "p.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match=message):
        read_proposals(tmp_path / "p.pkl")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    for name in ("none.csv", "none.pkl"):
        with pytest.raises(InputError, match=name):
            read_proposals(tmp_path / name)
