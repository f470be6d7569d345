"""Jobs of one's own data: features or videos → a bank, and a table of moments → narrations and text embeddings."""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clep.bank import Clock, FeatureBank
from clep.config.resolvers import bank_of
from clep.datasets.moment_table import MomentTable, read_moment_table
from clep.errors import InputError
from clep.extraction import Extraction, extract
from clep.extraction.coverage import Coverage, file_digest, folder_digest
from clep.extraction.feature_files import feature_files
from clep.extraction.features import PackSettings, pack_features
from clep.extraction.items import Dtype, OnError
from clep.extraction.listing import list_videos, other_files
from clep.extraction.videos import output_files, videos_cost_warning
from clep.preprocess.job import Job, config_group, given_paths
from clep.preprocess.narrations import NarrationsJob, write_if_outdated
from clep.text import NarrationTable
from clep.text.tags import TagStyle

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Features(Job, job="features"):
    """A folder of feature files, or of videos, of one's own → one feature bank; a bank is used as it is.

    Packs .npy, .npz, .pt and .h5 files, one a video, in the folder and below it; float [rows, dim], [rows, 1, dim] or
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
        dtype: number format of the bank; float16 halves its size.
        on_error: "skip" lists files that cannot be used and goes on, "stop" ends at the first of them.
        allow_nonfinite: keep videos whose features hold NaN or infinity.
        overwrite: write the bank again even where it is up to date.
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
    dtype: Dtype = "float16"
    on_error: OnError = "skip"
    allow_nonfinite: bool = False
    overwrite: bool = False

    def inputs(self) -> list[Path]:
        """Return the folder of features or of videos."""
        return given_paths(self.videos, self.features)[:1]

    def outputs(self) -> list[Path]:
        """Return the bank."""
        if self.output is not None:
            return [Path(self.output)]
        if self.videos is not None:
            return [Path(bank_of(None, str(self.videos)))]
        return [Path(bank_of(None if self.features is None else str(self.features)))]

    def run(self) -> dict[str, Any]:
        """Return the coverage: counts, and lists of the files that are not in the bank, with the reason.

        Raises:
            InputError: neither features nor videos are given, the rate is missing, no file can be used, or the disk is
                full.
        """
        if self.features is None and self.videos is None:
            raise InputError("give the features (a folder or a bank) or the videos: features=DIR or videos=DIR")
        (output,) = self.outputs()
        if self.videos is not None:
            return extract(
                self.name,
                list_videos(self.videos),
                output,
                Extraction.of(self.extraction),
                source=f"videos: {Path(self.videos).name}",
                dtype=self.dtype,
                on_error=self.on_error,
                overwrite=self.overwrite,
                skipped=other_files(self.videos, output_files(output)),
            )
        assert self.features is not None
        if Path(self.features) == output:
            bank = FeatureBank.open(output)
            return {"up_to_date": True, "counts": {"videos": len(bank), "rows": bank.n_rows, "dim": bank.dim}}
        return self._pack(Path(self.features), output)

    def cost_warning(self, long_texts: int, long_bytes: float | int) -> str | None:
        """Return why encoding the videos would take long, or None."""
        if self.videos is None:
            return None
        (output,) = self.outputs()
        items = list_videos(self.videos)
        return videos_cost_warning(items, output, Extraction.of(self.extraction), self.dtype, self.overwrite)

    def _pack(self, folder: Path, output: Path) -> dict[str, Any]:
        if self.rows_per_second is None or not self.rows_per_second > 0:
            raise InputError(
                f"{folder}: how many rows per second do the features have? Give features_per_second=2 "
                f"(data.features_per_second in training, rows_per_second in the job)"
            )
        seconds = 1 / self.rows_per_second if self.row_seconds is None else self.row_seconds
        files = feature_files(folder)
        settings = PackSettings(
            clock=Clock(float(self.rows_per_second), float(seconds)),
            dtype=self.dtype,
            encoder=self.encoder,
            source=f"{folder.name}/",
            on_error=self.on_error,
            allow_nonfinite=self.allow_nonfinite,
            array=self.array,
        )
        described: dict[str, str | float | bool] = {
            "dtype": self.dtype,
            "encoder": self.encoder,
            "rows_per_second": float(self.rows_per_second),
            "row_seconds": float(seconds),
            "allow_nonfinite": self.allow_nonfinite,
            "array": self.array or "",
        }
        coverage = Coverage(self.name, output, folder_digest(files.values()), described)
        done = None if self.overwrite else coverage.last_run(FeatureBank.open)
        if done is not None:
            logger.info("%s is up to date", output)
            return done | {"up_to_date": True}
        coverage.forget_last_run()
        report = pack_features(files, output, settings, overwrite=self.overwrite)
        coverage.count(files=len(files))
        report.add_to(coverage)
        return coverage.write() | {"up_to_date": False}


@dataclass(frozen=True, kw_only=True)
class Table(NarrationsJob, job="table"):
    """A table of moments of one's own (csv, tsv, parquet or jsonl) → narrations.arrow and the embeddings of its texts.

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
