"""A user's table of labelled clips: `clip, label`, and optionally `video, start, end`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from clep.datasets.clip_spans import ClipSpans
from clep.errors import InputError
from clep.files import open_input
from clep.tables import parse_numbers, read_table, refuse_empty


@dataclass(frozen=True)
class ClipTable:
    """Labelled clips.

    Attributes:
        spans: ids and, where the table has them, videos and seconds.
        label: class index of each clip.
        classes: class names.
    """

    spans: ClipSpans
    label: Int64[np.ndarray, " clips"]
    classes: Sequence[str]


def read_clip_table(path: str | Path, classes: str | Path | Sequence[str] | None = None) -> ClipTable:
    """Read a csv, or a tsv where the name ends in .tsv.

    Args:
        path: columns `clip` and `label`, a class name or, with `classes`, also its index; optionally `video`, `start`
            and `end` in seconds, all three.
        classes: text file with one class name a line, or the names; None for the table's labels, sorted.

    Raises:
        InputError: a file is missing, lacks a column, has an empty or wrong cell, or a label that is no class; the
            message names the line.
    """
    span_columns = ("video", "start", "end")
    table = read_table(path, ("clip", "label"), "", "\t" if Path(path).suffix == ".tsv" else ",", span_columns)
    for column in ("clip", "label"):
        refuse_empty(table[column], path)
    given = [name for name in span_columns if name in table.columns]
    if given and len(given) < len(span_columns):
        lacking = next(name for name in span_columns if name not in given)
        raise InputError(f"{path} has the column {given[0]!r} but not {lacking!r}; give video, start and end, or none")
    names = _names(classes, table["label"].tolist())
    index = {name: number for number, name in enumerate(names)}
    by_number = {} if classes is None else {str(number): number for number in range(len(names))}
    label = []
    for line, name in table["label"].items():
        found = index.get(name, by_number.get(name))
        if found is None:
            raise InputError(f"{path}, line {line}: the label {name!r} is not among the {len(names)} classes")
        label.append(found)
    unknown = np.full(len(table), np.nan)
    start_s, end_s = (parse_numbers(table[name], path) if given else unknown for name in ("start", "end"))
    ids = table["clip"].tolist()
    try:
        spans = ClipSpans(ids, table["video"].tolist() if given else ids, start_s, end_s)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return ClipTable(spans, np.array(label, np.int64), names)


def _names(classes: str | Path | Sequence[str] | None, labels: list[str]) -> list[str]:
    if classes is None:
        return sorted(set(labels))
    if not isinstance(classes, str | Path):
        return list(classes)
    with open_input(classes) as file:
        names = [line.strip() for line in file.read().decode("utf-8-sig", errors="replace").splitlines()]
    names = [name for name in names if name]
    if not names or len(set(names)) < len(names):
        raise InputError(f"{classes} should list each class name once, one a line; it has {len(names)} lines")
    return names
