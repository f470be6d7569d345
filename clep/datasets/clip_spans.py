"""Clips of a benchmark: an id each, and the span of the video that it was cut from."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from clep.errors import InputError
from clep.files import atomic_path


@dataclass(frozen=True)
class ClipSpans:
    """Clips as parallel arrays.

    A feature bank may hold a clip under its own id, with one row or one row a view, or the whole video that it is a
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
        """Write `clip,video,start,end` atomically, the table from which a job encodes one row a clip.

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
