"""Job: Ego4D's folder of `<uid>.pt` features → one feature bank."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clep.bank import Clock, FeatureBank
from clep.datasets.ego4d import read_videos
from clep.extraction.coverage import Coverage, file_digest, folder_digest
from clep.extraction.feature_files import FAULTS, feature_files
from clep.extraction.features import SHARD_BYTES, PackSettings, pack_features
from clep.extraction.items import Dtype, OnError
from clep.preprocess.job import Job, given_paths
from clep.text import Narrations

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Ego4DFeatures(Job, job="ego4d_features"):
    """Ego4D's folder of <uid>.pt features → one feature bank.

    Packs tensors float [rows, dim] or [rows, 1, dim]. An interrupted run is continued; does nothing when the bank is up
    to date.

    Attributes:
        features_folder: folder of <uid>.pt (or .npy) files.
        output: the bank to write, e.g. ego4d_features.h5.
        ego4d_json: Ego4D's metadata: durations, and the list of all videos. null: unknown.
        narrations: a narrations.arrow; its narrated videos that have no features are listed. null: not checked.
        dtype: number format of the bank; float16 halves its size.
        encoder: name of the video encoder that made the features; models remember it.
        rows_per_second: rows that the encoder made per second (30 frames/s over a stride of 16).
        row_seconds: seconds that one row covers (a window of 32 frames at 30 frames/s).
        on_error: "skip" lists files that cannot be used and goes on, "stop" ends at the first of them.
        allow_nonfinite: keep videos whose features hold NaN or infinity.
        overwrite: write the bank again even where it is up to date.
        shard_bytes: bytes of feature files in one shard; a kill loses at most one shard.
    """

    features_folder: str | Path = "${paths.ego4d}/features"
    output: str | Path = "${paths.out}/ego4d_features.h5"
    ego4d_json: str | Path | None = "${paths.ego4d}/ego4d.json"
    narrations: str | Path | None = None
    dtype: Dtype = "float16"
    encoder: str = "omnivore_video_swinl"
    rows_per_second: float | int = 30 / 16
    row_seconds: float | int = 32 / 30
    on_error: OnError = "skip"
    allow_nonfinite: bool = False
    overwrite: bool = False
    shard_bytes: int = SHARD_BYTES

    def inputs(self) -> list[Path]:
        """Return the folder of features, the metadata and the narrations."""
        return given_paths(self.features_folder, self.ego4d_json, self.narrations)

    def outputs(self) -> list[Path]:
        """Return the bank."""
        return [Path(self.output)]

    def run(self) -> dict[str, Any]:
        """Return the coverage: counts, and complete lists of what is missing, cannot be used or looks wrong.

        Raises:
            InputError: an input is missing or of another format, no file can be used, or the disk is full.
        """
        files = feature_files(self.features_folder)
        coverage = self._coverage(files)
        done = None if self.overwrite else coverage.last_run(FeatureBank.open)
        if done is not None and (self.on_error == "skip" or not any(done["lists"][fault] for fault in FAULTS)):
            logger.info("%s is up to date", self.output)
            return done | {"up_to_date": True}
        known = read_videos(self.ego4d_json) if self.ego4d_json is not None else {}
        durations = {video: entry.duration_s for video, entry in known.items()}
        narrated = _narrated_videos(self.narrations) if self.narrations is not None else []
        coverage.forget_last_run()
        settings = PackSettings(
            clock=Clock(float(self.rows_per_second), float(self.row_seconds)),
            dtype=self.dtype,
            encoder=self.encoder,
            source=f"{Path(self.features_folder).name}/*.pt",
            on_error=self.on_error,
            allow_nonfinite=self.allow_nonfinite,
            shard_bytes=self.shard_bytes,
        )
        report = pack_features(files, self.output, settings, durations, self.overwrite)
        coverage.count(files=len(files))
        report.add_to(coverage)
        packed = set(report.videos)
        if self.ego4d_json is not None:
            coverage.add_list("in_ego4d_json_without_a_file", sorted(set(durations) - set(files)))
            coverage.add_list("not_in_ego4d_json", sorted(packed - set(durations)))
        if self.narrations is not None:
            coverage.add_list("narrated_without_features", sorted(set(narrated) - packed))
        return coverage.write() | {"up_to_date": False}

    def cost_warning(self, long_texts: int, long_bytes: float | int) -> str | None:
        """Return why packing the features would take long, or None."""
        files = feature_files(self.features_folder)
        size = sum(path.stat().st_size for path in files.values() if path.is_file())
        if size <= long_bytes or self._coverage(files).last_run(FeatureBank.open):
            return None
        return f"{size / 1e9:,.0f} GB of features are to be packed"

    def _coverage(self, files: dict[str, Path]) -> Coverage:
        digest = f"{folder_digest(files.values())}-{file_digest(self.ego4d_json, self.narrations)}"
        settings = {
            "dtype": self.dtype,
            "encoder": self.encoder,
            "rows_per_second": self.rows_per_second,
            "row_seconds": self.row_seconds,
            "allow_nonfinite": self.allow_nonfinite,
        }
        return Coverage(self.name, self.output, digest, settings)


def _narrated_videos(narrations: str | Path) -> list[str]:
    table = Narrations.open(narrations)
    return [str(table.videos[index]) for index in np.unique(table.video)]
