"""The files of AVA (Gu et al., CVPR 2018): boxes with actions, detections with scores, excluded frames, label maps.

No file has a header. Seconds are written "0902" or "902", and may be fractions (AVA-Kinetics); as in the official
script they are compared to the microsecond. Boxes are fractions of the image's width and height.
"""

import csv
import math
import re
from collections.abc import Collection, Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Int64

from clep.errors import InputError

BOX_COLUMNS = ("video", "second", "x1", "y1", "x2", "y2", "action")
AVA_ACTIONS = range(1, 81)
_FRAME_COLUMNS = ("video", "second")
# Higher seconds and action ids are mistakes, and would make the ids of frames and classes overflow.
_HIGHEST = 10**7
_WHOLE = re.compile(r"-?\d{1,9}")
# With thousands of rows in hand Python's garbage collector walks them again and again: 25 s in place of 5 s.
_ROWS_AT_ONCE = 512
_PBTXT = re.compile(r"\s*(?:item|label)\s*\{")
_ENTRY = re.compile(r"\b(?:item|label)\s*\{((?:[^{}\"]|\"[^\"]*\")*)\}")
_NAME = re.compile(r"\bname\s*:\s*\"([^\"]*)\"")
_ID = re.compile(r"\b(?:label_)?id\s*:\s*(\d+)\b")


@dataclass(frozen=True)
class AvaBoxes:
    """Boxes in the order of a file; a person who does three things has three rows.

    Attributes:
        videos: names, each once, in order of first appearance.
        video: index of each row's video in `videos`.
        second: of each row's frame.
        box: x1, y1, x2, y2 as fractions of the image; annotations have x1 <= x2 and y1 <= y2.
        label: action ids of AVA, from 1.
        score: higher is more confident; None for annotations.
        person: id of the annotated person within the video, -1 where none is given; None where it was not read.
        empty_frames: (video, second) of frames that the file lists without a box, as a row of two columns.
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
    """Read `video,second,x1,y1,x2,y2,action,person`, as `ava_val_v2.2.csv`; a person may be left empty.

    A row of two columns, `video,second`, is an annotated frame without any action (AVA-Kinetics).

    Args:
        path: of the file.
        actions: the ids that exist.
        as_regions: the boxes will be cropped and encoded: one without area is refused, and persons are read.

    Raises:
        InputError: the file is missing or empty, or a line is wrong: columns, numbers, an action that does not exist,
            a box whose corners are swapped or that leaves the image. The message names the line.
    """
    return _read_boxes(path, "person", actions, lowest=0.0, highest=1.0, as_regions=as_regions)


def read_detections(path: str | Path, actions: Collection[int] = AVA_ACTIONS) -> AvaBoxes:
    """Read `video,second,x1,y1,x2,y2,action,score`, as detectors write it (mmaction2's `results.csv`).

    As in the official script, a detected box may extend beyond the image and is not clipped, one with swapped corners
    is read (`clep.metrics.ava.measure_ava` drops and counts it), and a row of two columns holds no box. Coordinates
    outside [-1, 2] are taken for pixels and refused.

    Args:
        path: of the file.
        actions: the ids that exist.

    Raises:
        InputError: as `read_annotations`.
    """
    return _read_boxes(path, "score", actions, lowest=-1.0, highest=2.0)


def read_excluded(path: str | Path) -> set[tuple[str, float | int]]:
    """Read the frames to exclude, `video,second` on each line; an empty file excludes none.

    Raises:
        InputError: the file is missing, or a line is wrong.
    """
    rows = read_csv_rows(path, _FRAME_COLUMNS, numbers=1)
    seconds = _seconds(rows, rows.number[:, 0])
    return {(rows.videos[video], second) for video, second in zip(rows.video.tolist(), seconds.tolist(), strict=True)}


def read_label_map(path: str | Path) -> dict[int, str]:
    """Read which action ids count, and their names, in order of the file.

    Three layouts are known: `item { name: "stand" id: 12 }` and `label { name: "stand" label_id: 12 … }` of AVA's
    pbtxt files, and lines `12: stand` of mmaction2's label_map.txt.

    Raises:
        InputError: the file is missing or empty, is of no known layout, or has an id twice or below 1.
    """
    with _readable(path):
        text = "\n".join(
            "" if line.lstrip().startswith("#") else line
            for line in Path(path).read_text(encoding="utf-8-sig").splitlines()
        )
    names: dict[int, str] = {}
    for line, entry, label, name in _pbtxt_entries(text) if _PBTXT.match(text) else _plain_entries(text):
        if label is None or not name:
            raise InputError(
                f'{path}, line {line}: {entry!r} is neither `item {{ name: "stand" id: 12 }}` nor `12: stand`'
            )
        if label in names:
            raise InputError(f"{path}, line {line}: {names[label]!r} has the id {label} already; give each its own")
        if not 1 <= label <= _HIGHEST:
            raise InputError(f"{path}, line {line}: the id {label} is not between 1 and {_HIGHEST}")
        names[label] = name
    if not names:
        raise InputError(f"{path} has no actions; give AVA's label map, a .pbtxt or mmaction2's label_map.txt")
    return names


def _plain_entries(text: str) -> Iterator[tuple[int, str, int | None, str]]:
    """Yield line, text, id and name of each line `12: stand`."""
    for number, line in enumerate(text.splitlines(), start=1):
        label, colon, name = line.partition(":")
        if line.strip():
            known = colon and label.strip().isdecimal()
            yield number, line.strip(), int(label) if known else None, name.strip()


def _pbtxt_entries(text: str) -> Iterator[tuple[int, str, int | None, str]]:
    """Yield line, text, id and name of each block, and what stands between blocks, which has no id."""
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
    """The rows of a file without a header.

    Attributes:
        path: of the file.
        videos: the distinct cells of the first column, in order of first appearance.
        video: index of each row's video in `videos`.
        number: the numeric columns after the first.
        line: line number of each row, from 1.
        last: the last cell of each row as text, where it is no numeric column; else empty.
        empty_frames: the rows that have a video and a second only.
    """

    path: str | Path
    videos: tuple[str, ...]
    video: Int64[np.ndarray, " n"]
    number: Float64[np.ndarray, "n columns"]
    line: Int64[np.ndarray, " n"]
    last: list[str]
    empty_frames: Set[tuple[str, float | int]] = frozenset()

    def refuse(self, wrong: Bool[np.ndarray, " n"], why: str) -> None:
        """Raise an InputError with the number of the first line that is `wrong`, if any is."""
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
    rows = read_csv_rows(path, (*BOX_COLUMNS, last), numbers=7 if detected else 6, with_empty_frames=True)
    if not len(rows.video):
        raise InputError(f"{path} has no rows; each line should read {','.join((*BOX_COLUMNS, last))}")
    box = rows.number[:, 1:5]
    rows.refuse(
        np.any((box < lowest) | (box > highest), axis=1),
        f"the box leaves [{lowest:g}, {highest:g}]; boxes are fractions of the image's width and height, not pixels",
    )
    swapped = np.any(box[:, :2] > box[:, 2:], axis=1)
    rows.refuse(swapped & (not detected), "the box has x1 > x2 or y1 > y2; the order is x1, y1, x2, y2")
    if as_regions:
        refuse_no_area(rows, box)
    label = whole_numbers(rows, rows.number[:, 5], "action", 1)
    unknown = ~np.isin(label, np.array(list(actions), np.int64))
    rows.refuse(unknown, f"there is no action with that id; the ids are {min(actions)} to {max(actions)}")
    return AvaBoxes(
        videos=rows.videos,
        video=rows.video,
        second=_seconds(rows, rows.number[:, 0]),
        box=box,
        label=label,
        score=rows.number[:, 6] if detected else None,
        person=_persons(rows) if as_regions else None,
        empty_frames=rows.empty_frames,
    )


def refuse_no_area(rows: CsvRows, box: Float64[np.ndarray, "n 4"]) -> None:
    """Refuse boxes without area in float32, the precision in which regions are stored.

    Raises:
        InputError: names the line of the first.
    """
    stored = box.astype(np.float32)
    rows.refuse(np.any(stored[:, :2] >= stored[:, 2:], axis=1), "the box has no area; remove or correct the line")


def _persons(rows: CsvRows) -> Int64[np.ndarray, " n"]:
    whole = np.array([bool(_WHOLE.fullmatch(cell)) for cell in rows.last], bool)
    named = np.array([bool(cell) for cell in rows.last], bool)
    rows.refuse(named & ~whole, "person should be a whole number, or empty")
    return np.array([int(cell) if cell else -1 for cell in rows.last], np.int64)


def _seconds(rows: CsvRows, values: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Return seconds rounded to microseconds, refusing the first line whose second is negative or too large."""
    wrong = (values < 0) | (values > _HIGHEST)
    rows.refuse(wrong, f"second should be a number from 0 to {_HIGHEST}")
    return values.round(6)


def whole_numbers(
    rows: CsvRows, values: Float64[np.ndarray, " n"], column: str, lowest: int
) -> Int64[np.ndarray, " n"]:
    """Return a column of whole numbers, refusing the first line whose value is not one or is below `lowest`."""
    wrong = (values != np.floor(values)) | (values < lowest) | (values > _HIGHEST)
    rows.refuse(wrong, f"{column} should be a whole number from {lowest}")
    return values.astype(np.int64)


def read_csv_rows(path: str | Path, columns: Sequence[str], numbers: int, with_empty_frames: bool = False) -> CsvRows:
    """Read all lines but blank ones: the first cell as text, the next `numbers` as finite numbers, the rest unread.

    Args:
        path: of the file.
        columns: names of the columns, for messages.
        numbers: how many columns after the first are numeric.
        with_empty_frames: whether rows of two columns, `video,second`, are allowed; see `CsvRows.empty_frames`.

    Raises:
        InputError: the file is missing or damaged, or a line is wrong; the message names the line.
    """
    index: dict[str, int] = {}
    video, line = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    last: list[str] = []
    number = [np.empty((0, numbers))]
    empty_frames: set[tuple[str, float | int]] = set()
    with _readable(path), Path(path).open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, skipinitialspace=True)
        while some := [(reader.line_num, row) for row in islice(reader, _ROWS_AT_ONCE)]:
            some = [(at, row) for at, row in some if len(row) > 1 or "".join(row).strip()]
            if with_empty_frames and any(len(row) == len(_FRAME_COLUMNS) for _, row in some):
                empty_frames |= _empty_frames(path, [(at, row) for at, row in some if len(row) == len(_FRAME_COLUMNS)])
                some = [(at, row) for at, row in some if len(row) != len(_FRAME_COLUMNS)]
            number.append(_numbers(path, some, columns, numbers))
            line.append(np.array([at for at, _ in some], np.int64))
            last += [row[-1].strip() for _, row in some] if len(columns) > numbers + 1 else []
            video.append(np.array([index.setdefault(row[0].strip(), len(index)) for _, row in some], np.int64))
    rows = CsvRows(
        path,
        tuple(index),
        np.concatenate(video),
        np.concatenate(number),
        np.concatenate(line),
        last,
        empty_frames,
    )
    rows.refuse(rows.video == index.get("", -1), "the video has no name")
    return rows


def _empty_frames(path: str | Path, rows: list[tuple[int, list[str]]]) -> set[tuple[str, float | int]]:
    """Return the frames that rows of two columns name."""
    lines = np.array([line for line, _ in rows], np.int64)
    names = [row[0].strip() for _, row in rows]
    number = _numbers(path, rows, _FRAME_COLUMNS, 1)
    found = CsvRows(path, (), np.zeros(len(rows), np.int64), number, lines, [])
    found.refuse(np.array([not name for name in names]), "the video has no name")
    return set(zip(names, _seconds(found, number[:, 0]).tolist(), strict=True))


def _numbers(
    path: str | Path, rows: list[tuple[int, list[str]]], columns: Sequence[str], numbers: int
) -> Float64[np.ndarray, "n {numbers}"]:
    """Convert the cells after the first one of some rows, or say what is wrong with the first bad row."""
    with suppress(ValueError):
        found = np.empty((len(rows), numbers))
        for index, column in enumerate(list(zip(*(row for _, row in rows), strict=True))[1 : numbers + 1]):
            found[:, index] = np.fromiter(map(float, column), np.float64, len(rows))
        if np.isfinite(found).all() and all(len(row) == len(columns) for _, row in rows[:1]):
            return found
    for line, row in rows:
        if len(row) != len(columns):
            wanted = f"{len(columns)} are needed: {','.join(columns)}"
            raise InputError(f"{path}, line {line} has {len(row)} column{'s' * (len(row) > 1)}; {wanted}")
        for name, cell in zip(columns[1 : numbers + 1], row[1 : numbers + 1], strict=True):
            if math.isnan(as_finite(cell)):
                raise InputError(f"{path}, line {line}: {name} is {cell!r}, not a number; the file has no header line")
    raise AssertionError("every row is right, yet they could not be converted")


def as_finite(cell: str) -> float:
    """Return the number in a cell, NaN where it is not a finite number."""
    try:
        value = float(cell)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


@contextmanager
def _readable(path: str | Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; check the path") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error}); check the path, or fetch the file again") from error
