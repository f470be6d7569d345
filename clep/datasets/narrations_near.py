"""Narrations near a moment, from the training data or from a user's table."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from clep.datasets.moment_table import read_moment_table
from clep.datasets.splits import held_out_videos
from clep.datasets.user_table import SUFFIXES
from clep.errors import InputError
from clep.text import Narrations, NarrationTable
from clep.text.narration_table import ROW_SPLITS

MOST = 60


class Narrated(NamedTuple):
    """A narration: its second and its text."""

    second: float
    text: str


class NarrationsNear:
    """Narrations by video and second, and the split of each video.

    Args:
        path: `narrations.arrow`, or a table (csv, tsv, parquet, jsonl) with `video`, `text` and times.
        val_fraction: share of the videos that training holds out by their ids; None where it is not known.

    Raises:
        InputError: the file cannot be read.
    """

    def __init__(self, path: str | Path, val_fraction: float | None = None) -> None:
        path = Path(path)
        if path.suffix == ".arrow":
            self._table: Narrations | NarrationTable = Narrations.open(path)
        elif path.suffix.lower() in SUFFIXES:
            self._table = read_moment_table(path).narrations
        else:
            raise InputError(f"narrations={path} should be narrations.arrow or a table ({', '.join(SUFFIXES)})")
        self._video = {uid: index for index, uid in enumerate(self._table.videos)}
        self.splits = _splits(self._table, val_fraction)

    def near(self, uid: str, start_s: float, end_s: float) -> list[Narrated]:
        """Return the narrations of a video from `start_s` to `end_s`, in order; those nearest to the middle if many."""
        index = self._video.get(uid)
        if index is None:
            return []
        first, last = np.searchsorted(self._table.video, [index, index + 1]).tolist()
        seconds = self._table.second[first:last]
        lower = first + int(np.searchsorted(seconds, start_s, side="left"))
        upper = first + int(np.searchsorted(seconds, end_s, side="right"))
        if upper - lower > MOST:
            middle = first + int(np.searchsorted(seconds, (start_s + end_s) / 2))
            lower = min(max(lower, middle - MOST // 2), upper - MOST)
            upper = lower + MOST
        rows = range(lower, upper)
        return [
            Narrated(float(self._table.second[row]), self._table.texts[int(self._table.text_id[row])]) for row in rows
        ]

    def text(self, uid: str, start_s: float, end_s: float) -> str:
        """Return the text that fits a span best, "" if there is none.

        Of narrations with spans, the one with the longest overlap; of others, the nearest to the middle of the span
        among those within it.
        """
        index = self._video.get(uid)
        if index is None:
            return ""
        first, last = np.searchsorted(self._table.video, [index, index + 1]).tolist()
        starts, ends, seconds = self._table.start_s, self._table.end_s, self._table.second[first:last]
        if starts is not None and ends is not None:
            fit = np.minimum(ends[first:last], end_s) - np.maximum(starts[first:last], start_s)
        else:
            fit = (end_s - start_s) / 2 - np.abs(seconds - (start_s + end_s) / 2)
        best = int(fit.argmax()) if len(fit) else 0
        return self._table.texts[int(self._table.text_id[first + best])] if len(fit) and fit[best] > 0 else ""

    def frequent(self, count: int) -> list[str]:
        """Return the texts that are narrated most often, as examples."""
        counts = np.bincount(self._table.text_id, minlength=len(self._table.texts))
        return [self._table.texts[int(index)] for index in np.argsort(-counts, kind="stable")[:count]]


def _splits(table: Narrations | NarrationTable, val_fraction: float | None) -> dict[str, str]:
    """Return the split of each narrated video: that of its dataset, or whether training held it out."""
    videos = list(table.videos)
    named = {name: column for name, column in table.splits.items() if any(column)}
    found = {
        uid: next((str(column[index]) for column in named.values() if column[index]), "")
        for index, uid in enumerate(videos)
    }
    if table.row_split is not None:
        found |= {videos[video]: ROW_SPLITS[split] for video, split in zip(table.video, table.row_split, strict=True)}
    elif val_fraction is not None:
        training = np.array([index for index, uid in enumerate(videos) if found[uid] in ("", "train")], np.int64)
        held_out = held_out_videos(videos, val_fraction, training)
        found |= {videos[index]: "held out" if held_out[index] else "training" for index in training}
    return {uid: split for uid, split in found.items() if split}
