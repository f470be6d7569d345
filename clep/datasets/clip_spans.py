"""Clips of a benchmark: an id each, and the span of the video that it was cut from."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64, Shaped

from clep.datasets.user_table import UserTable
from clep.errors import InputError
from clep.files import atomic_path
from clep.text.texts import distinct_texts

SPAN_COLUMNS = ("clip", "video", "start", "end")
Span = tuple[str, float, float]
"""Video, start and end in seconds."""


@dataclass(frozen=True)
class ClipSpans:
    """Clips as parallel arrays.

    A feature bank may hold a clip under its own id, with one row or one row per view, or the whole video that it is a
    span of; see `clep.evaluation.clip_embeddings`.

    Attributes:
        ids: of the clips, each once.
        videos: id of the video of each clip.
        start_s, end_s: seconds from the start of the video; NaN where unknown.

    Raises:
        InputError: an id occurs twice, or a span does not end after it starts.
    """

    ids: Sequence[str]
    videos: Sequence[str]
    start_s: Float64[np.ndarray, " clips"]
    end_s: Float64[np.ndarray, " clips"]

    def __post_init__(self) -> None:
        if len(set(self.ids)) < len(self.ids):
            name, times = Counter(self.ids).most_common(1)[0]
            raise InputError(f"the clip {name!r} is listed {times} times; list each clip once")
        wrong = np.flatnonzero((self.start_s < 0) | (self.end_s <= self.start_s))
        if len(wrong):
            first = int(wrong[0])
            raise InputError(
                f"the clip {self.ids[first]!r} spans {self.start_s[first]:g} to {self.end_s[first]:g} s; a span "
                f"starts at 0 or later and ends after it starts ({len(wrong)} such clips)"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, which: Int64[np.ndarray, " chosen"]) -> "ClipSpans":
        """Return the clips at these indices."""
        ids, videos = ([names[i] for i in which.tolist()] for names in (self.ids, self.videos))
        return ClipSpans(ids, videos, self.start_s[which], self.end_s[which])

    def write_csv(self, path: str | Path) -> None:
        """Write `clip,video,start,end` atomically, the table from which a job encodes one row per clip.

        Raises:
            InputError: the disk is full, the folder cannot be written to, or an id has a comma or a quotation mark.
        """
        odd = [name for name in (*self.ids, *self.videos) if set(name) & set(',"\r\n')]
        if odd:
            raise InputError(f"{path}: the id {odd[0]!r} has a character that a csv cannot hold; rename the clip")
        with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.write("clip,video,start,end\n")
            for row in zip(self.ids, self.videos, self.start_s.tolist(), self.end_s.tolist(), strict=True):
                file.write(
                    ",".join(
                        ("" if math.isnan(cell) else repr(cell)) if isinstance(cell, float) else cell for cell in row
                    )
                    + "\n"
                )


def read_spans(table: UserTable) -> tuple[ClipSpans, Int64[np.ndarray, " rows"]]:
    """Read the clips of a table with the columns `clip`, or `video`, `start` and `end`, or all four.

    A clip without an id of its own is called `<video>_<start>_<end>` in milliseconds. Rows may name the same clip.

    Returns:
        Each clip once, in order of appearance, and the clip of each row.

    Raises:
        InputError: a column is missing, a cell is empty or no time, a span does not end after its start, or a clip has
            two spans; the message names the line.
    """
    if not require_span_columns(table):
        strings = table.filled("clip")
        ids = strings.values.to_pylist()
        unknown = np.full(len(ids), np.nan)
        return ClipSpans(ids, ids, unknown, unknown), strings.index.astype(np.int64)
    video, start_s, end_s = table.filled("video").to_list(), table.seconds("start"), table.seconds("end")
    spans = list(zip(video, start_s.tolist(), end_s.tolist(), strict=True))
    names = clip_ids(table, spans)
    wrong = np.flatnonzero(end_s <= start_s)
    if len(wrong):
        row = int(wrong[0])
        raise table.error(
            row,
            f"the clip {names[row]!r} spans {start_s[row]:g} to {end_s[row]:g} s; a span ends after it starts "
            f"({len(wrong):,} such rows)",
        )
    first = list(first_rows(table, names, spans).values())
    ids, clip = distinct_texts(names)
    return ClipSpans(ids, [video[row] for row in first], start_s[first], end_s[first]), clip


def clip_ids(table: UserTable, spans: Sequence[Span]) -> list[str]:
    """Return the id of the clip of each row, given its span; without the column `clip`, it is made of the span.

    Raises:
        InputError: a cell is empty; the message names the line.
    """
    return table.filled("clip").to_list() if "clip" in table else [clip_id(*span) for span in spans]


def first_rows(table: UserTable, ids: Sequence[str], spans: Sequence[Span]) -> dict[str, int]:
    """Return the first row of each clip, in order of appearance, given the clip and the span of each row.

    Raises:
        InputError: a clip has two spans; the message names both lines.
    """
    first: dict[str, int] = {}
    for row, name in enumerate(ids):
        before = first.setdefault(name, row)
        if spans[row] != spans[before]:
            raise table.error(
                row, f"the clip {name!r} has another span than in line {table.lines[before]}; give each clip one id"
            )
    return first


def require_span_columns(table: UserTable) -> bool:
    """Return whether a table has the columns of spans, `video`, `start` and `end`; without them, `clip` is needed.

    Raises:
        InputError: it has some of the three only, or none and no `clip`; the message names the columns.
    """
    given = [name for name in ("video", "start", "end") if name in table]
    if not given:
        table.require("clip")
    lacking = [name for name in ("video", "start", "end") if name not in table]
    if given and lacking:
        raise InputError(
            f"{table.path} has the column {table.names[given[0]]!r} but not {table.names[lacking[0]]!r}; give "
            f"video, start and end, or only clip; {table.hint(lacking[0])}"
        )
    return bool(given)


def find_clip_ids(
    table: UserTable,
    videos: Shaped[np.ndarray, " spans"],
    start_s: Float64[np.ndarray, " spans"],
    end_s: Float64[np.ndarray, " spans"],
) -> list[str]:
    """Return the id of the clip that a table has for each span, equal to the millisecond; "" where it has none.

    Args:
        table: with the columns `video`, `start`, `end`, and `clip` or without it, see `read_spans`.
        videos: id of the video of each span.
        start_s, end_s: seconds of each span.

    Raises:
        InputError: a column is missing, or a cell is empty or no time; the message names the line.
    """
    for name in ("video", "start", "end"):
        table.require(name)
    video, start, end = table.filled("video").to_list(), table.seconds("start"), table.seconds("end")
    clip = clip_ids(table, list(zip(video, start.tolist(), end.tolist(), strict=True)))
    own = pd.DataFrame({"video": video, "start": np.round(1000 * start), "end": np.round(1000 * end), "clip": clip})
    span = ["video", "start", "end"]
    wanted = pd.DataFrame({"video": videos, "start": np.round(1000 * start_s), "end": np.round(1000 * end_s)})
    return list(wanted.merge(own.drop_duplicates(span), how="left", on=span)["clip"].fillna(""))


def clip_id(video: str, start_s: float, end_s: float) -> str:
    """Return the id of the clip of a video between two seconds."""
    return f"{video}_{round(1000 * start_s)}_{round(1000 * end_s)}"
