"""Job: a table of spans and their videos → one bank with one row a span."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float64

from clep.errors import InputError
from clep.extraction.listing import find_videos
from clep.extraction.spans import SpanExtraction, SpanItem
from clep.preprocess.job import config_group
from clep.preprocess.videos import VideosJob
from clep.tables import parse_clock_times, parse_numbers, read_table

USUAL_FPS = 30.0  # only to estimate how long spans in frames take


@dataclass(frozen=True, kw_only=True)
class Clips(VideosJob, job="clips"):
    """A table of spans (clip, video, start, end) and their videos → a bank with one row a span, indexed by clip id.

    A row shows the frames that the encoder's published rule chooses from the span. The columns of EPIC-KITCHENS are
    clip_column=narration_id video_column=video_id start_column=start_timestamp end_column=stop_timestamp. An
    interrupted run is continued; only new spans, and those whose span or video changed, are encoded.

    Attributes:
        table: csv or tsv with a header.
        videos: folder in which <video>.mp4 (or .mkv, …), a folder <video> or <video>.mp4 of its chunks (chunk_s=300),
            or a folder <video> of its frames (frame_0000000001.jpg) is found, also in subfolders.
        output: the bank to write; its ledger and coverage go beside it.
        clip_column: column of the ids of spans.
        video_column: column of the videos.
        start_column, end_column: columns of the spans, in seconds, as 00:01:02.50, or in frames.
        unit: "seconds", or "frames": the numbers of the frames as their images are called (of a film: indices from 0).
        extraction: how spans are encoded, see its options below.
    """

    table: str | Path = "${paths.data}/clips.csv"
    videos: str | Path = "${paths.data}/videos"
    output: str | Path = "${paths.out}/clips.h5"
    clip_column: str = "clip"
    video_column: str = "video"
    start_column: str = "start"
    end_column: str = "end"
    unit: Literal["seconds", "frames"] = "seconds"
    extraction: Mapping[str, Any] | SpanExtraction | None = field(
        default=None, metadata=config_group("extraction", "clips")
    )

    def inputs(self) -> list[Path]:
        """Return the table and the folder of videos."""
        return [Path(self.table), Path(self.videos)]

    def settings(self) -> SpanExtraction:
        """Return the options in `extraction`, checked."""
        return SpanExtraction.of(self.extraction)

    def items(self) -> list[SpanItem]:
        """Return the spans whose video is found."""
        return self._items_and_skipped[0]

    def run(self) -> dict[str, Any]:
        """Return the coverage: counts, and lists of the spans that are not in the bank, with the reason.

        Raises:
            InputError: the table cannot be read, no span has a video, or nothing could be encoded.
        """
        items, skipped = self._items_and_skipped
        if not items:
            raise InputError(
                f"{self.videos} has a video for none of the {len(skipped)} spans of {self.table}; the first, "
                f"{next(iter(skipped.items()))}"
            )
        if skipped and self.on_error == "stop":
            name, reason = next(iter(skipped.items()))
            raise InputError(f"span {name!r}: {reason} (on_error=skip continues without it)")
        return self.encode(items, f"spans of {Path(self.table).name}", skipped)

    @cached_property
    def _items_and_skipped(self) -> tuple[list[SpanItem], dict[str, str]]:
        separator = "\t" if Path(self.table).suffix.lower() == ".tsv" else ","
        columns = [self.clip_column, self.video_column, self.start_column, self.end_column]
        hint = "Name the columns: clip_column=, video_column=, start_column=, end_column="
        table = read_table(self.table, list(dict.fromkeys(columns)), hint, separator)
        starts, ends = (self._times(table[column]) for column in columns[2:])
        names = table[self.video_column].tolist()
        files = find_videos(self.videos, sorted(set(names)))
        per_second = USUAL_FPS if self.unit == "frames" else 1.0
        items: list[SpanItem] = []
        skipped: dict[str, str] = {}
        for clip, video, start, end in zip(table[self.clip_column], names, starts, ends, strict=True):
            if not (isfinite(start) and isfinite(end) and 0 <= start <= end):
                skipped[clip] = f"its span is from {start:g} to {end:g}"
            elif video not in files:
                skipped[clip] = f"no video {video} in {Path(self.videos).name}"
            else:
                length_s = (end - start) / per_second
                item = SpanItem(clip, str(files[video]), duration_s=length_s, max_rows=1)
                items.append(replace(item, start=float(start), end=float(end), unit=self.unit))
        return items, skipped

    def _times(self, column: pd.Series) -> Float64[np.ndarray, " rows"]:
        clock = self.unit == "seconds" and column.str.contains(":").any()
        return parse_clock_times(column, self.table) if clock else parse_numbers(column, self.table)
