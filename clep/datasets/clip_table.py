"""Users' benchmark tables: labelled clips (`clip, label`), and sentences with the clips that they describe."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64

from clep.config.check import did_you_mean
from clep.datasets.clip_spans import SPAN_COLUMNS, ClipSpans, read_spans
from clep.datasets.user_table import UserTable, are_numbers, read_user_table
from clep.errors import InputError
from clep.tables import read_lines
from clep.text.texts import distinct_texts

log = logging.getLogger(__name__)

LABEL_COLUMNS = (*SPAN_COLUMNS, "label")
QUERY_COLUMNS = (*SPAN_COLUMNS, "query")


@dataclass(frozen=True)
class ClipTable:
    """Labelled clips.

    Attributes:
        path: of the table.
        spans: ids and, where the table has them, videos and seconds.
        labels: class indices of each clip, one or more.
        classes: class names.
        repeated: rows that equal an earlier one, which are left out.
    """

    path: Path
    spans: ClipSpans
    labels: Sequence[tuple[int, ...]]
    classes: Sequence[str]
    repeated: int = 0

    @property
    def has_several_labels(self) -> bool:
        """Whether any clip has more than one label."""
        return any(len(ids) > 1 for ids in self.labels)

    @property
    def label(self) -> Int64[np.ndarray, " clips"]:
        """The class of each clip.

        Raises:
            InputError: a clip has several labels.
        """
        for name, ids in zip(self.spans.ids, self.labels, strict=True):
            if len(ids) > 1:
                labels = ", ".join(repr(self.classes[i]) for i in ids)
                raise InputError(f"{self.path}: the clip {name!r} has the labels {labels}; only one is possible here")
        return np.array([ids[0] for ids in self.labels], np.int64)

    @property
    def targets(self) -> Bool[np.ndarray, "clips classes"]:
        """Whether each clip has each label."""
        targets = np.zeros((len(self.labels), len(self.classes)), bool)
        for row, ids in zip(targets, self.labels, strict=True):
            row[list(ids)] = True
        return targets

    @property
    def unused_classes(self) -> list[str]:
        """Names of the classes without clips."""
        used = {label for ids in self.labels for label in ids}
        return [name for index, name in enumerate(self.classes) if index not in used]


def read_clip_table(
    path: str | Path,
    classes: str | Path | Sequence[str] | None = None,
    columns: Mapping[str, str | None] | None = None,
    key: str = "columns",
) -> ClipTable:
    """Read a csv, tsv, parquet or jsonl of labelled clips.

    Args:
        path: columns `label` and `clip`, or `video`, `start` and `end` (see `read_spans`). A label is a class name or,
            with `classes`, also its index; several are separated by `|`.
        classes: text file with one class name a line, or the names; None for the table's labels, sorted.
        columns, key: names of the table's columns where they differ, see `read_user_table`.

    Raises:
        InputError: a file is missing, lacks a column, has an empty or wrong cell, a label that is no class, numbers as
            labels without `classes`, or a clip with different labels in two rows; the message names the line.
    """
    table = read_user_table(path, LABEL_COLUMNS, columns, key)
    table.require("label")
    spans, clip = read_spans(table)
    cells = table.filled("label")
    if classes is None and are_numbers(cells.values):
        raise InputError(
            f"{path}: the labels are numbers ({cells.values[0].as_py()!r}, …), not names; give the class names in the "
            f"order of these indices: classes=FILE, one name a line"
        )
    written: list[str] = cells.values.to_pylist()
    names = _names(classes, written)
    index = {name: number for number, name in enumerate(names)}
    ids: list[tuple[int, ...]] = []
    for value, cell in enumerate(written):
        parts = [cell] if cell in index else [part.strip() for part in cell.split("|") if part.strip()]
        found = [index.get(part, _as_index(part, len(names)) if classes is not None else None) for part in parts]
        if None in found or not found:
            wrong = parts[found.index(None)] if found else cell
            hint = did_you_mean(wrong, names)
            row = int((cells.index == value).argmax())
            raise table.error(row, f"the label {wrong!r} is not among the {len(names)} classes. {hint}".rstrip(" ."))
        ids.append(tuple(sorted({one for one in found if one is not None})))
    labels: dict[int, tuple[int, ...]] = {}
    for row, (one, value) in enumerate(zip(clip.tolist(), cells.index.tolist(), strict=True)):
        if labels.setdefault(one, ids[value]) != ids[value]:
            shown = ["|".join(names[i] for i in some) for some in (labels[one], ids[value])]
            raise table.error(
                row,
                f"the clip {spans.ids[one]!r} is labelled {shown[1]!r} here and {shown[0]!r} before; write several "
                f"labels into one cell, separated by |",
            )
    repeated = len(table) - len(spans)
    if repeated:
        log.warning("%s: %d rows equal an earlier one and are left out", path, repeated)
    return ClipTable(Path(path), spans, [labels[one] for one in range(len(spans))], names, repeated)


def _names(classes: str | Path | Sequence[str] | None, written: Sequence[str]) -> list[str]:
    if classes is None:
        return sorted({part.strip() for cell in written for part in cell.split("|") if part.strip()})
    if not isinstance(classes, str | Path):
        names = list(classes)
    else:
        names = [name for line in read_lines(classes) if (name := line.strip())]
    if not names or len(set(names)) < len(names):
        what = f"{classes}" if isinstance(classes, str | Path) else "classes"
        twice = next((name for position, name in enumerate(names) if name in names[:position]), None)
        problem = "it is empty" if twice is None else f"{twice!r} is listed twice"
        raise InputError(f"{what} should list each class name once, one per line, but {problem}")
    return names


def _as_index(label: str, classes: int) -> int | None:
    """Return a label as an index of the list of classes ("3", "3.0"); None if it is none."""
    digits = label.removesuffix(".0")
    return int(digits) if digits.isdecimal() and len(digits) < 10 and int(digits) < classes else None


@dataclass(frozen=True)
class QueryTable:
    """Sentences and the clips that they describe.

    Attributes:
        spans: the clips.
        sentences: the distinct sentences.
        pairs: indices of sentence and clip of each pair, each pair once.
        repeated: pairs that were given again.
    """

    spans: ClipSpans
    sentences: Sequence[str]
    pairs: Int64[np.ndarray, "pairs 2"]
    repeated: int = 0


def read_query_table(
    path: str | Path, columns: Mapping[str, str | None] | None = None, key: str = "columns"
) -> QueryTable:
    """Read a csv, tsv, parquet or jsonl of pairs of a sentence and a clip; both may occur in several rows.

    Args:
        path: columns `query` and `clip`, or `video`, `start` and `end` (see `read_spans`). A cell of a table with the
            column `clip` alone may hold several ids, separated by `|`.
        columns, key: names of the table's columns where they differ, see `read_user_table`.

    Raises:
        InputError: the file is missing, lacks a column, or has an empty or wrong cell; the message names the line.
    """
    table = read_user_table(path, QUERY_COLUMNS, columns, key)
    table.require("query")
    table.sentences("query")
    sentences, query = distinct_texts(table.filled("query").to_list())
    if "clip" in table and not any(name in table for name in ("video", "start", "end")):
        row, cells = split_cells(table, "clip")
        ids, clip = distinct_texts(cells)
        unknown = np.full(len(ids), np.nan)
        spans, query = ClipSpans(ids, ids, unknown, unknown), query[row]
    else:
        spans, clip = read_spans(table)
    pairs, first = np.unique(np.stack([query, clip], axis=1), axis=0, return_index=True)
    repeated = len(query) - len(pairs)
    if repeated:
        log.warning("%s: %d pairs equal an earlier one and are left out", path, repeated)
    return QueryTable(spans, sentences, pairs[np.argsort(first)], repeated)


def split_cells(table: UserTable, name: str) -> tuple[Int64[np.ndarray, " parts"], list[str]]:
    """Split the cells of a column at `|`; return the row of each part, and the parts.

    Raises:
        InputError: a cell is empty; names the line.
    """
    rows, parts = [], []
    for row, cell in enumerate(table.filled(name).to_list()):
        found = [part.strip() for part in cell.split("|") if part.strip()]
        if not found:
            raise table.error(row, f"{table.names[name]} is {cell!r}, which names nothing")
        rows += [row] * len(found)
        parts += found
    return np.array(rows, np.int64), parts
