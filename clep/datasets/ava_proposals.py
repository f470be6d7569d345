"""Detected boxes without actions: mmaction2's proposals, or a csv."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from clep.datasets.ava import as_finite, read_csv_rows, refuse_no_area, whole_numbers
from clep.datasets.lfb_files import load_data
from clep.errors import InputError
from clep.tables import read_rows

_BOX = ("video", "second", "x1", "y1", "x2", "y2")
_LAYOUTS = {6: _BOX, 7: (*_BOX, "score"), 8: (*_BOX, "action", "score")}


@dataclass(frozen=True)
class Proposals:
    """Detected boxes in the order of a file.

    Attributes:
        videos: distinct video names.
        video: index of each box's video in `videos`.
        second: second of each box's frame.
        box: x1, y1, x2, y2 as fractions of the frame, in [0, 1].
        score: score of the detector; 1 if the file has none.
    """

    videos: tuple[str, ...]
    video: Int64[np.ndarray, " n"]
    second: Int64[np.ndarray, " n"]
    box: Float64[np.ndarray, "n 4"]
    score: Float64[np.ndarray, " n"]


def read_proposals(path: str | Path) -> Proposals:
    """Read detected boxes, clipped to the frame.

    Args:
        path: one of three layouts. A csv without a header, `video,second,x1,y1,x2,y2[,score]`. The same with an action
            before the score, as published by the paper's authors (`ava_val_predicted_boxes.csv`): the action is
            ignored and may be empty, and rows that differ only in the action are one box. Or a `.pkl` of mmaction2: a
            dict from "video,second" to boxes with scores, `[boxes, 5]`, loaded without running code.

    Raises:
        InputError: the file is missing, damaged or an unsafe pickle, or a box has swapped corners, is in pixels or
            outside the frame, or has no area; the message names the line, or the key and the row.
    """
    return _from_pkl(Path(path)) if Path(path).suffix.lower() in (".pkl", ".pickle", ".pt") else _from_csv(path)


def _from_csv(path: str | Path) -> Proposals:
    columns = _columns(path)
    with_action = "action" in columns
    rows = read_csv_rows(path, columns, n_numeric=5 if with_action else len(columns) - 1)
    if not len(rows.video):
        raise InputError(f"{path} has no rows; expected lines {','.join(columns)}")
    box = rows.values[:, 1:5]
    far = np.any((box < -1) | (box > 2), 1)
    rows.refuse(far, "the box leaves [-1, 2]; boxes are fractions of the frame, not pixels")
    rows.refuse(np.any(box[:, :2] > box[:, 2:], 1), "the box has x1 > x2 or y1 > y2; the order is x1, y1, x2, y2")
    box = box.clip(0, 1)
    refuse_no_area(rows, box)
    if with_action:
        score = np.array([as_finite(cell) for cell in rows.last])
        rows.refuse(np.isnan(score), "score must be a number")
    else:
        score = rows.values[:, 5] if len(columns) == 7 else np.ones(len(box))
    second = whole_numbers(rows, rows.values[:, 0], "second", 0)
    kept = np.arange(len(box))
    if with_action:
        without_action = np.column_stack([rows.video, second, box, score])
        kept = np.sort(np.unique(without_action, axis=0, return_index=True)[1])
    return Proposals(rows.videos, rows.video[kept], second[kept], box[kept], score[kept])


def _columns(path: str | Path) -> Sequence[str]:
    _, first = next(read_rows(path), (0, []))
    return _LAYOUTS.get(len(first), _LAYOUTS[7])


def _from_pkl(path: Path) -> Proposals:
    content = load_data(path)
    if not isinstance(content, dict) or not content:
        kind = type(content).__name__
        raise InputError(f"{path} holds a {kind}, expected mmaction2's dict from 'video,second' to boxes")
    index_of: dict[str, int] = {}
    video, second, boxes = [], [], []
    for key, value in content.items():
        name, comma, at = key.rpartition(",") if isinstance(key, str) else ("", "", "")
        if not comma or not name or not at.strip().isdecimal():
            raise InputError(f"{path}: the key {key!r} is not 'video,second'; correct or remove it")
        found = _checked(path, key, value)
        video.append(np.full(len(found), index_of.setdefault(name, len(index_of)), np.int64))
        second.append(np.full(len(found), int(at), np.int64))
        boxes.append(found)
    box = np.concatenate(boxes)
    return Proposals(tuple(index_of), np.concatenate(video), np.concatenate(second), box[:, :4].clip(0, 1), box[:, 4])


def _checked(path: Path, key: str, value: object) -> Float64[np.ndarray, "boxes 5"]:
    array = np.asarray(value)
    if array.size == 0:
        return np.empty((0, 5))
    if array.ndim != 2 or array.shape[1] not in (4, 5) or array.dtype.kind not in "fiu":
        raise InputError(f"{path}: {key!r} holds {array.dtype} {list(array.shape)}, expected boxes [n, 5]")
    boxes = np.ones((len(array), 5))
    boxes[:, : array.shape[1]] = array
    inside = boxes[:, :4].clip(0, 1).astype(np.float32)
    wrong = ~np.isfinite(boxes).all(1) | np.any((boxes[:, :4] < -1) | (boxes[:, :4] > 2), 1)
    wrong |= np.any(inside[:, :2] >= inside[:, 2:], 1)
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"{path}: {key!r}, row {row} is {boxes[row].tolist()}, not a box x1, y1, x2, y2 in fractions of the frame "
            f"with an area inside the frame; correct or remove it"
        )
    return boxes
