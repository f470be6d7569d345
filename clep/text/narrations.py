"""Narrations memory-mapped from the Arrow file that `NarrationTable.write` makes."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float32, Float64, Int8, Int16, Int32

from clep.columns import ColumnFile, buffers
from clep.errors import InputError
from clep.remote import local_path
from clep.text.narration_table import (
    FORMAT,
    SPLITS,
    VERSION,
    NarrationTable,
    are_row_splits,
    are_spans,
    are_weights,
    is_sorted,
)
from clep.text.texts import GroupIds, Texts

_REMEDY = "Make it again with: python -m clep.preprocess ego4d_narrations"
_STRINGS, _IDS = pa.dictionary(pa.int32(), pa.large_string()), pa.large_list(pa.int32())
_COLUMNS = {
    "video": _STRINGS,
    "second": pa.float64(),
    "pass": pa.int8(),
    "text": _STRINGS,
    "written": _STRINGS,
    "words": pa.int16(),
}
_OPTIONAL = {
    "start_s": pa.float64(),
    "end_s": pa.float64(),
    "verb": _IDS,
    "noun": _IDS,
    "row_split": pa.int8(),
    "weight": pa.float32(),
}


class Narrations:
    """A memory-mapped `narrations.arrow`, with the attributes of `NarrationTable`.

    Workers share the pages of the file. Columns are read-only arrays; at its first use each is verified with its
    checksum and checked as in `NarrationTable`. Pickles as its path, and is opened again when unpickled.

    Examples:
        >>> from clep.text import Narrations
        >>> narrations = Narrations.open("narrations.arrow")
        >>> len(narrations), len(narrations.videos)
        (240, 12)
        >>> narrations.texts[int(narrations.text_id[0])]
        'Camera wearer closes the pan again'
    """

    path: Path
    tag_style: str
    digest: str
    report: dict[str, int]

    @classmethod
    def open(cls, path: str | Path) -> "Narrations":
        """Open a file that `NarrationTable.write` made.

        Raises:
            InputError: the file is missing, truncated, of another format or version, or lacks a column. Reading a
                damaged column raises it too.
        """
        narrations = cls.__new__(cls)
        narrations._open(local_path(path))
        return narrations

    def __init__(self) -> None:
        raise TypeError("use Narrations.open(path)")

    def _open(self, path: Path) -> None:
        self.path = path
        self._file = ColumnFile(path, FORMAT, VERSION, _COLUMNS, _OPTIONAL, _REMEDY)
        try:
            self.tag_style, self.digest = str(self._file.header["tag_style"]), str(self._file.header["digest"])
            self.report = dict(self._file.header["report"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} lacks the value {error} in its header, or it is invalid. {_REMEDY}") from error

    def __len__(self) -> int:
        return len(self._file)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": str(self.path)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._open(Path(state["path"]))

    def __repr__(self) -> str:
        return f"Narrations({str(self.path)!r}: {len(self):,} narrations, {len(self.texts):,} texts)"

    def verify(self) -> None:
        """Read and check all columns.

        Raises:
            InputError: a column is damaged.
        """
        for name in NarrationTable.__dataclass_fields__:
            getattr(self, name)

    @cached_property
    def videos(self) -> tuple[str, ...]:
        """`[V]` video ids, sorted."""
        videos = tuple(self._texts("video"))
        if list(videos) != sorted(set(videos)):
            raise self._file.wrong("video", "has ids that are not sorted or not unique")
        return videos

    @cached_property
    def _video_table(self) -> dict[str, list[Any]]:
        table = self._file.text("videos")
        names = ("duration_s", "redacted", *SPLITS)
        if not isinstance(table, dict) or any(len(table.get(name) or ()) != len(self.videos) for name in names):
            raise InputError(f"{self.path}: its table of videos does not have one value per video. {_REMEDY}")
        return table

    @cached_property
    def duration_s(self) -> Float64[np.ndarray, "videos"]:
        """`[V]` seconds, NaN if unknown."""
        return np.array(self._video_table["duration_s"], dtype=np.float64)

    @cached_property
    def splits(self) -> dict[str, np.ndarray]:
        """`split_em`, `split_fho` and `split_av`: `[V]` arrays of str, "" for none."""
        return {name: np.array(self._video_table[name], dtype=np.str_) for name in SPLITS}

    @cached_property
    def redacted(self) -> Bool[np.ndarray, "videos"]:
        """`[V]`, whether the video was withdrawn."""
        return np.array(self._video_table["redacted"], dtype=bool)

    @cached_property
    def video(self) -> Int32[np.ndarray, "narrations"]:
        """`[N]` index into `videos`."""
        return self._file.numeric("video")

    @cached_property
    def second(self) -> Float64[np.ndarray, "narrations"]:
        """`[N]` seconds from the start of the video."""
        second = self._file.numeric("second")
        if not np.all(np.isfinite(second) & (second >= 0)):
            raise self._file.wrong("second", "has a value that is negative, infinite or not a number")
        if not is_sorted(self.video, second):
            raise self._file.wrong("second", "is not sorted by video and second")
        return second

    @cached_property
    def _spans(self) -> tuple[np.ndarray, np.ndarray] | None:
        if "start_s" not in self._file or "end_s" not in self._file:
            return None
        start_s, end_s = self._file.numeric("start_s"), self._file.numeric("end_s")
        if not are_spans(start_s, end_s, len(self)):
            raise self._file.wrong("end_s", "and 'start_s' are not spans")
        return start_s, end_s

    @property
    def start_s(self) -> Float64[np.ndarray, "narrations"] | None:
        """`[N]` start of each narration's span in seconds; None if narrations have no spans."""
        return None if self._spans is None else self._spans[0]

    @property
    def end_s(self) -> Float64[np.ndarray, "narrations"] | None:
        """`[N]` end of each narration's span in seconds; None if narrations have no spans."""
        return None if self._spans is None else self._spans[1]

    @cached_property
    def passes(self) -> Int8[np.ndarray, "narrations"]:
        """`[N]` number of the annotation pass."""
        return self._file.numeric("pass")

    @cached_property
    def text_id(self) -> Int32[np.ndarray, "narrations"]:
        """`[N]` index into `texts`."""
        return self._file.numeric("text")

    @cached_property
    def written_id(self) -> Int32[np.ndarray, "narrations"]:
        """`[N]` index into `written`."""
        return self._file.numeric("written")

    @cached_property
    def words(self) -> Int16[np.ndarray, "narrations"]:
        """`[N]` word count of each narration without tags."""
        return self._file.numeric("words")

    @cached_property
    def texts(self) -> Texts:
        """Distinct texts in the style `tag_style`."""
        return self._texts("text")

    @cached_property
    def written(self) -> Texts:
        """Distinct texts as written by annotators."""
        return self._texts("written")

    def _texts(self, name: str) -> Texts:
        _, offsets, blob = buffers(self._file.column(name))
        return Texts(blob, offsets)

    @cached_property
    def row_split(self) -> Int8[np.ndarray, "narrations"] | None:
        """`[N]` index into `ROW_SPLITS`; None where narrations have no split of their own."""
        if "row_split" not in self._file:
            return None
        row_split = self._file.numeric("row_split")
        if not are_row_splits(row_split, len(self)):
            raise self._file.wrong("row_split", "has an index out of range")
        return row_split

    @cached_property
    def weight(self) -> Float32[np.ndarray, "narrations"] | None:
        """`[N]` how often each narration is drawn in an epoch; None for once."""
        if "weight" not in self._file:
            return None
        weight = self._file.numeric("weight")
        if not are_weights(weight, len(self)):
            raise self._file.wrong("weight", "has a value that is negative or not finite")
        return weight

    @cached_property
    def verbs(self) -> GroupIds | None:
        """Verb ids of each of `texts`; None if the source had none."""
        return self._groups("verb")

    @cached_property
    def nouns(self) -> GroupIds | None:
        """Noun ids of each of `texts`; None if the source had none."""
        return self._groups("noun")

    def _groups(self, name: str) -> GroupIds | None:
        if name not in self._file:
            return None
        offsets, ids = buffers(self._file.column(name))
        if len(ids) and ids.min() < 0:
            raise self._file.wrong(name, "has a negative id")
        row_of_text = np.full(len(self.texts), -1)
        row_of_text[self.text_id] = np.arange(len(self))  # rows of one text have the same ids
        return GroupIds(ids, offsets).take(row_of_text)
