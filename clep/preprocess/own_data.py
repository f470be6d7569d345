"""Jobs of a user's own data: features or videos → a bank, and a table of moments → narrations and text embeddings."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clep.bank import Clock, FeatureBank
from clep.config.resolvers import bank_of
from clep.datasets.moment_table import MomentTable, read_moment_table
from clep.errors import InputError
from clep.extraction import Extraction
from clep.extraction.coverage import Coverage, file_digest
from clep.preprocess.job import config_group, given_paths
from clep.preprocess.narrations import NarrationsJob, write_if_outdated
from clep.preprocess.packing import PackingJob
from clep.preprocess.videos import Videos
from clep.remote import is_remote
from clep.text import NarrationTable
from clep.text.tags import TagStyle


@dataclass(frozen=True, kw_only=True)
class Features(PackingJob, job="features"):
    """Your own feature files or videos → one feature bank; an existing bank is used unchanged.

    Packs .npy, .npz, .pt and .h5 files, one per video, in the folder and below it; float [rows, dim], [rows, 1, dim] or
    [1, rows, dim]. An interrupted run is continued; does nothing when the bank is up to date.

    Attributes:
        features: folder of feature files (ids are paths in it without suffix), or a bank. Not read where videos
            are given.
        videos: folder or list of videos to encode instead, see the job `videos`.
        output: the bank. null: beside the folder, <folder>.bank.h5.
        rows_per_second: rows per second of the feature files; required for them.
        row_seconds: seconds that one row covers. null: 1 / rows_per_second.
        encoder: name of the encoder that made the feature files; models remember it.
        array: name of the array in files that hold several.
        extraction: how videos are encoded, see its options below.
    """

    features: str | Path | None = "${paths.data}/features"
    videos: str | Path | None = None
    output: str | Path | None = None
    rows_per_second: float | int | None = None
    row_seconds: float | int | None = None
    encoder: str = ""
    array: str | None = None
    extraction: Mapping[str, Any] | Extraction | None = field(
        default=None, metadata=config_group("extraction", "default")
    )

    def inputs(self) -> list[Path]:
        """Return the folder of features or of videos."""
        return given_paths(self.videos, self.features)[:1]

    def outputs(self) -> list[Path]:
        """Return the bank."""
        if self.output is not None:
            return [Path(self.output)]
        features, videos = (None if path is None else str(path) for path in (self.features, self.videos))
        bank = bank_of(features, videos)
        if not is_remote(bank) and is_remote(videos or features or ""):
            raise InputError(f"{videos or features} is remote, so say where the bank is written: output=FILE")
        return [Path(bank)]

    def run(self) -> dict[str, Any]:
        """Return the coverage: counts, and lists of the files that are not in the bank, with the reason.

        Raises:
            InputError: neither features nor videos are given, the rate is missing, no file can be used, or the disk is
                full.
        """
        if self.videos is not None:
            return self._videos_job().run()
        if self._is_bank():
            bank = FeatureBank.open(self.folder)
            return {"up_to_date": True, "counts": {"videos": len(bank), "rows": bank.n_rows, "dim": bank.dim}}
        return self.pack()

    def cost_warning(self, long_texts: int, long_bytes: float | int) -> str | None:
        """Return why encoding or packing would take long, or None."""
        if self.videos is not None:
            return self._videos_job().cost_warning(long_texts, long_bytes)
        return None if self._is_bank() else super().cost_warning(long_texts, long_bytes)

    @property
    def folder(self) -> Path:
        """The folder of feature files, or the bank.

        Raises:
            InputError: neither features nor videos are given.
        """
        if self.features is None:
            raise InputError("give the features (a folder or a bank) or the videos: features=DIR or videos=DIR")
        return Path(self.features)

    def clock(self) -> Clock:
        """Return the clock of the feature files.

        Raises:
            InputError: their rate is not given.
        """
        if self.rows_per_second is None or not self.rows_per_second > 0:
            raise InputError(
                f"{self.folder}: how many rows per second do the features have? Give features_per_second=2 "
                f"(data.features_per_second in training, rows_per_second in the job)"
            )
        seconds = 1 / self.rows_per_second if self.row_seconds is None else self.row_seconds
        return Clock(float(self.rows_per_second), float(seconds))

    def array_name(self) -> str | None:
        """Return the name of the array in files that hold several."""
        return self.array

    def _is_bank(self) -> bool:
        return self.folder == self.outputs()[0]

    def _videos_job(self) -> Videos:
        assert self.videos is not None
        return Videos(
            videos=self.videos,
            output=self.outputs()[0],
            extraction=self.extraction,
            dtype=self.dtype,
            on_error=self.on_error,
            overwrite=self.overwrite,
        )


@dataclass(frozen=True, kw_only=True)
class Table(NarrationsJob, job="table"):
    """Your own table of moments (csv, tsv, parquet or jsonl) → narrations.arrow and the embeddings of its texts.

    Columns: video, text, and start and end, or time (seconds or hh:mm:ss.ms); optionally split (train, val, test),
    verb, noun, and weight. An interrupted run is continued; does nothing where all is up to date.

    Attributes:
        table: the table; its suffix is the format.
        columns: names of the table's columns where they differ, e.g. columns.text=caption.
        bank: the bank of the videos' features: ids are matched with it, and rows after the end of a video are left out.
            null: nothing is checked.
        tag_style: how narration tags (#C, #O) are written; "none" for texts without tags.
    """

    table: str | Path = "${paths.data}/moments.csv"
    columns: Mapping[str, str | None] | None = None
    bank: str | Path | None = None
    output_folder: str | Path = "${paths.out}/table"
    tag_style: TagStyle = "none"

    def inputs(self) -> list[Path]:
        """Return the table and the bank."""
        return given_paths(self.table, self.bank)

    def write_narrations(self) -> dict[str, Any]:
        """Write `narrations.arrow` unless it is up to date; return its coverage."""
        ends_s = None if self.bank is None else _ends(self.bank)
        known = hashlib.sha256(json.dumps(ends_s, sort_keys=True).encode()).hexdigest()[:16]
        settings = {
            "tag_style": self.tag_style,
            "columns": json.dumps({name: one for name, one in (self.columns or {}).items() if one}, sort_keys=True),
        }
        coverage = Coverage(self.name, self.narrations, f"{file_digest(self.table)}-{known}", settings)
        found: list[MomentTable] = []

        def read() -> NarrationTable:
            found.append(read_moment_table(self.table, self.columns, self.tag_style, ends_s))
            return found[0].narrations

        return write_if_outdated(coverage, self.overwrite, read, lambda _: _describe(coverage, found[0]))


def _ends(bank: str | Path) -> dict[str, float]:
    """Return the second at which each video of a bank ends."""
    opened = FeatureBank.open(bank)
    return dict(zip(opened.videos, opened.end_s.tolist(), strict=True))


def _describe(coverage: Coverage, table: MomentTable) -> None:
    coverage.count(**table.report)
    narrations = table.narrations
    coverage.count(videos=len(narrations.videos), distinct_texts=len(narrations.texts))
    coverage.add_list("videos_without_features", table.unknown_videos)
    coverage.add_list("features_without_rows", table.unused_videos)
    for kind, names in (("verbs", table.verbs), ("nouns", table.nouns)):
        if names:
            coverage.add_list(kind, names)
