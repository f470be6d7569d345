"""Files of AVA (Gu et al., CVPR 2018): boxes with actions, detections with scores, excluded frames, label maps.

The files have no header. Seconds are written "0902" or "902", and may have fractions (AVA-Kinetics); like the official
script we compare them after rounding to microseconds. Boxes are fractions of the image's width and height.
"""

import math
import re
from collections.abc import Collection, Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Int64

from clep.errors import InputError
from clep.tables import read_lines, read_rows

BOX_COLUMNS = ("video", "second", "x1", "y1", "x2", "y2", "action")
AVA_ACTIONS = range(1, 81)
_FRAME_COLUMNS = ("video", "second")
# Higher seconds and action ids are errors, and would overflow the ids of frames and classes.
_HIGHEST = 10**7
_WHOLE = re.compile(r"-?\d{1,9}")
# Larger chunks are slower (25 s instead of 5 s for thousands): Python's garbage collector traverses all live rows.
_ROWS_AT_ONCE = 512
_PBTXT = re.compile(r"\s*(?:item|label)\s*\{")
_ENTRY = re.compile(r"\b(?:item|label)\s*\{((?:[^{}\"]|\"[^\"]*\")*)\}")
_NAME = re.compile(r"\bname\s*:\s*\"([^\"]*)\"")
_ID = re.compile(r"\b(?:label_)?id\s*:\s*(\d+)\b")


@dataclass(frozen=True)
class AvaBoxes:
    """Boxes in the order of a file, one row per box and action.

    Attributes:
        videos: distinct video names, in order of first appearance.
        video: index of each row's video in `videos`.
        second: second of each row's frame.
        box: x1, y1, x2, y2 as fractions of the image; annotations have x1 <= x2 and y1 <= y2.
        label: action ids of AVA, from 1.
        score: confidence; None for annotations.
        person: id of the annotated person within the video, -1 if empty; None if it was not read.
        empty_frames: (video, second) of frames that the file lists without a box, as rows of two columns.
    """

    videos: tuple[str, ...]
    video: Int64[np.ndarray, " n"]
    second: Float64[np.ndarray, " n"]
    box: Float64[np.ndarray, "n 4"]
    label: Int64[np.ndarray, " n"]
    score: Float64[np.ndarray, " n"] | None = None
    person: Int64[np.ndarray, " n"] | None = None
    empty_frames: Set[tuple[str, float | int]] = frozenset()

    def __len__(self) -> int:
        return len(self.video)


def read_annotations(path: str | Path, actions: Collection[int] = AVA_ACTIONS, as_regions: bool = False) -> AvaBoxes:
    """Read annotations, `video,second,x1,y1,x2,y2,action,person`, such as `ava_val_v2.2.csv`.

    A person may be empty, and the column may be missing in the whole file.
    A row of two columns, `video,second`, or with empty cells after them, is an annotated frame without actions
    (AVA-Kinetics).

    Args:
        path: the csv.
        actions: valid action ids.
        as_regions: for encoding regions: boxes without area raise, and persons are read.

    Raises:
        InputError: the file is missing or empty, or a line is invalid: columns, numbers, an unknown action, a box with
            swapped corners or outside the image. The message names the line.
    """
    return _read_boxes(path, "person", actions, lowest=0.0, highest=1.0, as_regions=as_regions)


def read_detections(path: str | Path, actions: Collection[int] = AVA_ACTIONS) -> AvaBoxes:
    """Read detections, `video,second,x1,y1,x2,y2,action,score`, such as mmaction2's `results.csv`.

    As in the official script, boxes may extend beyond the image and are not clipped, boxes with swapped corners are
    kept (`clep.metrics.ava.measure_ava` drops and counts them), and a row of two columns holds no box. Coordinates
    outside [-1, 2] are refused, since they are probably pixels.

    Args:
        path: the csv.
        actions: valid action ids.

    Raises:
        InputError: as for `read_annotations`.
    """
    return _read_boxes(path, "score", actions, lowest=-1.0, highest=2.0)


def read_excluded(path: str | Path) -> set[tuple[str, float | int]]:
    """Read the frames to exclude, `video,second` on each line; the file may be empty.

    Raises:
        InputError: the file is missing, or a line is invalid.
    """
    rows = read_csv_rows(path, _FRAME_COLUMNS, n_numeric=1)
    seconds = _seconds(rows, rows.values[:, 0])
    return {(rows.videos[video], second) for video, second in zip(rows.video.tolist(), seconds.tolist(), strict=True)}


def read_label_map(path: str | Path) -> dict[int, str]:
    """Read the evaluated action ids and their names, in the order of the file.

    Layouts: `item { name: "stand" id: 12 }` and `label { name: "stand" label_id: 12 … }` of AVA's pbtxt files, and
    lines `12: stand` of mmaction2's label_map.txt.

    Raises:
        InputError: the file is missing or empty, has another layout, or an id that is duplicate or below 1.
    """
    text = "\n".join("" if line.lstrip().startswith("#") else line for line in read_lines(path))
    names: dict[int, str] = {}
    for line, entry, label, name in _pbtxt_entries(text) if _PBTXT.match(text) else _colon_entries(text):
        if label is None or not name:
            raise InputError(
                f'{path}, line {line}: {entry!r} is neither `item {{ name: "stand" id: 12 }}` nor `12: stand`'
            )
        if label in names:
            raise InputError(
                f"{path}, line {line}: duplicate id {label}, which {names[label]!r} has too; give each action its own"
            )
        if not 1 <= label <= _HIGHEST:
            raise InputError(f"{path}, line {line}: the id {label} is not between 1 and {_HIGHEST}; correct it")
        names[label] = name
    if not names:
        raise InputError(f"{path} has no actions; give AVA's label map, a .pbtxt or mmaction2's label_map.txt")
    return names


def _colon_entries(text: str) -> Iterator[tuple[int, str, int | None, str]]:
    """Yield line, text, id and name of each line `12: stand`."""
    for number, line in enumerate(text.splitlines(), start=1):
        label, colon, name = line.partition(":")
        if line.strip():
            known = colon and label.strip().isdecimal()
            yield number, line.strip(), int(label) if known else None, name.strip()


def _pbtxt_entries(text: str) -> Iterator[tuple[int, str, int | None, str]]:
    """Yield line, text, id and name of each block; text between blocks is yielded without an id."""
    end = 0
    for found in [*_ENTRY.finditer(text), None]:
        start = found.start() if found else len(text)
        if between := text[end:start].strip():
            yield text.count("\n", 0, text.index(between, end)) + 1, between[:60], None, ""
        if found:
            end = found.end()
            name = _NAME.search(found[1])
            label = _ID.search(_NAME.sub("", found[1]))
            line = text.count("\n", 0, start) + 1
            yield line, " ".join(found[0].split())[:60], int(label[1]) if label else None, name[1] if name else ""


@dataclass(frozen=True)
class CsvRows:
    """Rows of a csv without a header.

    Attributes:
        path: the csv.
        videos: distinct cells of the first column, in order of first appearance.
        video: index of each row's video in `videos`.
        values: the numeric columns after the first.
        line: line number of each row, from 1.
        last: last cell of each row as text if it is not numeric; else empty.
        empty_frames: (video, second) of the rows of two columns.
    """

    path: str | Path
    videos: tuple[str, ...]
    video: Int64[np.ndarray, " n"]
    values: Float64[np.ndarray, "n columns"]
    line: Int64[np.ndarray, " n"]
    last: list[str]
    empty_frames: Set[tuple[str, float | int]] = frozenset()

    def refuse(self, wrong: Bool[np.ndarray, " n"], why: str) -> None:
        """Raise an InputError that names the first line where `wrong` is true, if any."""
        if wrong.any():
            raise InputError(f"{self.path}, line {self.line[wrong.argmax()]}: {why}")


def _read_boxes(
    path: str | Path,
    last: str,
    actions: Collection[int],
    lowest: float,
    highest: float,
    as_regions: bool = False,
) -> AvaBoxes:
    detected = last == "score"
    rows = read_csv_rows(path, (*BOX_COLUMNS, last), n_numeric=7 if detected else 6, with_empty_frames=True)
    if not len(rows.video):
        raise InputError(f"{path} has no rows; expected lines {','.join((*BOX_COLUMNS, last))}")
    box = rows.values[:, 1:5]
    rows.refuse(
        np.any((box < lowest) | (box > highest), axis=1),
        f"the box leaves [{lowest:g}, {highest:g}]; boxes are fractions of the image's width and height, not pixels",
    )
    swapped = np.any(box[:, :2] > box[:, 2:], axis=1)
    rows.refuse(swapped & (not detected), "the box has x1 > x2 or y1 > y2; the order is x1, y1, x2, y2")
    if as_regions:
        refuse_no_area(rows, box)
    label = whole_numbers(rows, rows.values[:, 5], "action", 1)
    unknown = ~np.isin(label, np.array(list(actions), np.int64))
    rows.refuse(unknown, f"unknown action id; the ids are {min(actions)} to {max(actions)}")
    return AvaBoxes(
        videos=rows.videos,
        video=rows.video,
        second=_seconds(rows, rows.values[:, 0]),
        box=box,
        label=label,
        score=rows.values[:, 6] if detected else None,
        person=_persons(rows) if as_regions else None,
        empty_frames=rows.empty_frames,
    )


def refuse_no_area(rows: CsvRows, box: Float64[np.ndarray, "n 4"]) -> None:
    """Check that boxes have an area in float32, the precision in which regions are stored.

    Raises:
        InputError: a box has none; the message names the first line.
    """
    stored = box.astype(np.float32)
    rows.refuse(np.any(stored[:, :2] >= stored[:, 2:], axis=1), "the box has no area; remove or correct the line")


def _persons(rows: CsvRows) -> Int64[np.ndarray, " n"]:
    whole = np.array([bool(_WHOLE.fullmatch(cell)) for cell in rows.last], bool)
    named = np.array([bool(cell) for cell in rows.last], bool)
    rows.refuse(named & ~whole, "person must be a whole number, or empty")
    return np.array([int(cell) if cell else -1 for cell in rows.last], np.int64)


def _seconds(rows: CsvRows, values: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Return seconds rounded to microseconds.

    Raises:
        InputError: a second is negative or too large; the message names the first line.
    """
    wrong = (values < 0) | (values > _HIGHEST)
    rows.refuse(wrong, f"second must be a number from 0 to {_HIGHEST}")
    return values.round(6)


def whole_numbers(
    rows: CsvRows, values: Float64[np.ndarray, " n"], column: str, lowest: int
) -> Int64[np.ndarray, " n"]:
    """Convert a column to int64.

    Raises:
        InputError: a value is not a whole number, below `lowest` or too large; the message names the first line.
    """
    wrong = (values != np.floor(values)) | (values < lowest) | (values > _HIGHEST)
    rows.refuse(wrong, f"{column} must be a whole number from {lowest}")
    return values.astype(np.int64)


def read_csv_rows(path: str | Path, columns: Sequence[str], n_numeric: int, with_empty_frames: bool = False) -> CsvRows:
    """Read a csv without a header: the first column as text, the next `n_numeric` as finite numbers.

    Args:
        path: the csv.
        columns: names of the columns, for messages.
        n_numeric: count of the numeric columns after the first; the others are not parsed.
        with_empty_frames: whether rows of two columns, `video,second`, are allowed; see `CsvRows.empty_frames`. Then
            the whole file may lack a last column that is no number, too.

    Raises:
        InputError: the file is missing or damaged, or a line is invalid; the message names the line.
    """
    index: dict[str, int] = {}
    video, line = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    last: list[str] = []
    values = [np.empty((0, n_numeric))]
    empty_frames: set[tuple[str, float | int]] = set()
    lacks_last: bool | None = None
    reader = read_rows(path)
    while chunk := list(islice(reader, _ROWS_AT_ONCE)):
        chunk = [(at, _fitted(row, len(columns)) if not row[-1].strip() else row) for at, row in chunk]
        if with_empty_frames and any(len(row) == len(_FRAME_COLUMNS) for _, row in chunk):
            empty_frames |= _empty_frames(path, [(at, row) for at, row in chunk if len(row) == len(_FRAME_COLUMNS)])
            chunk = [(at, row) for at, row in chunk if len(row) != len(_FRAME_COLUMNS)]
        if lacks_last is None and chunk:
            lacks_last = with_empty_frames and len(chunk[0][1]) == n_numeric + 1 < len(columns)
        if lacks_last:
            chunk = [(at, [*row, ""] if len(row) == n_numeric + 1 else row) for at, row in chunk]
        values.append(_parse_numeric(path, chunk, columns, n_numeric))
        line.append(np.array([at for at, _ in chunk], np.int64))
        last += [row[-1].strip() for _, row in chunk] if len(columns) > n_numeric + 1 else []
        video.append(np.array([index.setdefault(row[0].strip(), len(index)) for _, row in chunk], np.int64))
    rows = CsvRows(
        path,
        tuple(index),
        np.concatenate(video),
        np.concatenate(values),
        np.concatenate(line),
        last,
        empty_frames,
    )
    rows.refuse(rows.video == index.get("", -1), "the video has no name")
    return rows


def _fitted(row: list[str], columns: int) -> list[str]:
    """Remove empty cells at the end of a row: those that are too many, and all after the second of a frame."""
    filled = next((index + 1 for index in reversed(range(len(row))) if row[index].strip()), 0)
    return row[: columns if filled > len(_FRAME_COLUMNS) else len(_FRAME_COLUMNS)]


def _empty_frames(path: str | Path, rows: list[tuple[int, list[str]]]) -> set[tuple[str, float | int]]:
    """Return (video, second) of rows of two columns."""
    lines = np.array([line for line, _ in rows], np.int64)
    names = [row[0].strip() for _, row in rows]
    values = _parse_numeric(path, rows, _FRAME_COLUMNS, 1)
    found = CsvRows(path, (), np.zeros(len(rows), np.int64), values, lines, [])
    found.refuse(np.array([not name for name in names]), "the video has no name")
    return set(zip(names, _seconds(found, values[:, 0]).tolist(), strict=True))


def _parse_numeric(
    path: str | Path, rows: list[tuple[int, list[str]]], columns: Sequence[str], n_numeric: int
) -> Float64[np.ndarray, "n {n_numeric}"]:
    """Convert the numeric columns of some rows.

    Raises:
        InputError: a row has a wrong number of columns, or a cell is not a finite number; names the first such line.
    """
    with suppress(ValueError):
        found = np.empty((len(rows), n_numeric))
        for index, column in enumerate(list(zip(*(row for _, row in rows), strict=True))[1 : n_numeric + 1]):
            found[:, index] = np.fromiter(map(float, column), np.float64, len(rows))
        if np.isfinite(found).all() and all(len(row) == len(columns) for _, row in rows[:1]):
            return found
    for line, row in rows:
        if len(row) != len(columns):
            expected = f"expected {len(columns)}: {','.join(columns)}"
            raise InputError(f"{path}, line {line} has {len(row)} column{'s' * (len(row) > 1)}; {expected}")
        for name, cell in zip(columns[1 : n_numeric + 1], row[1 : n_numeric + 1], strict=True):
            if math.isnan(as_finite(cell)):
                raise InputError(
                    f"{path}, line {line}: {name} is {cell.strip()!r}, not a number; these files have no header line"
                )
    raise AssertionError("all rows are valid, but could not be converted")


def as_finite(cell: str) -> float:
    """Convert a cell to a number, NaN if it is not a finite number."""
    try:
        value = float(cell)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan
