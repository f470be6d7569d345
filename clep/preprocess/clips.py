"""Job: a table of spans and their videos → one bank with one row per span."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from clep.errors import InputError
from clep.extraction.spans import SpanExtraction, SpanItem
from clep.preprocess.clip_films import find_clips
from clep.preprocess.job import config_group
from clep.preprocess.videos import VideosJob

USUAL_FPS = 30.0  # only to estimate how long spans in frames take


@dataclass(frozen=True, kw_only=True)
class Clips(VideosJob, job="clips"):
    """A table of spans (clip, video, start, end) and their videos → a bank with one row per span, indexed by clip id.

    A row shows the frames that the encoder's published rule chooses from the span. The columns of EPIC-KITCHENS are
    columns.clip=narration_id columns.video=video_id columns.start=start_timestamp columns.end=stop_timestamp. An
    interrupted run is continued; only new spans, and those whose span or video changed, are encoded.

    Attributes:
        table: csv, tsv, parquet or jsonl with the columns clip, video, start and end (seconds, 00:01:02.50, or frames),
            or with clip alone, each of them a whole film.
        videos: folder in which <video>.mp4 (or .mkv, …), a folder <video> or <video>.mp4 of its chunks (chunk_s=300),
            or a folder <video> of its frames (frame_0000000001.jpg) is found, also in subfolders. Where the video is
            missing: the film <clip>.mp4 of the clip alone, all of it.
        output: the bank to write; its ledger and coverage go beside it.
        columns: names of the table's columns where they differ, e.g. columns.clip=narration_id.
        unit: "seconds", or "frames": frame numbers as in the names of the images (for a film: indices from 0).
        extraction: how spans are encoded, see its options below.
    """

    table: str | Path = "${paths.data}/clips.csv"
    videos: str | Path = "${paths.data}/videos"
    output: str | Path = "${paths.out}/clips.h5"
    columns: Mapping[str, str | None] | None = None
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
            name, reason = next(iter(skipped.items()))
            raise InputError(f"{self.videos} has none of the {len(skipped)} clips of {self.table}; {name!r}: {reason}")
        if skipped and self.on_error == "stop":
            name, reason = next(iter(skipped.items()))
            raise InputError(f"span {name!r}: {reason} (on_error=skip continues without it)")
        return self.encode(items, f"spans of {Path(self.table).name}", skipped)

    @cached_property
    def _items_and_skipped(self) -> tuple[list[SpanItem], dict[str, str]]:
        clips, skipped = find_clips(self.table, self.columns, self.videos)
        per_second = USUAL_FPS if self.unit == "frames" else 1.0
        items: list[SpanItem] = []
        for clip in clips:
            length_s = (clip.end - clip.start) / per_second
            item = SpanItem(clip.id, str(clip.path), duration_s=length_s, max_rows=1)
            items.append(replace(item, start=clip.start, end=clip.end, unit=self.unit))
        return items, skipped
