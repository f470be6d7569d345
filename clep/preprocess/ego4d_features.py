"""Job: Ego4D's folder of `<uid>.pt` features → one feature bank."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clep.bank import Clock
from clep.datasets.ego4d import read_videos
from clep.extraction.coverage import Coverage, file_digest
from clep.extraction.features import PackReport
from clep.preprocess.job import given_paths
from clep.preprocess.packing import PackingJob
from clep.text import Narrations


@dataclass(frozen=True, kw_only=True)
class Ego4DFeatures(PackingJob, job="ego4d_features"):
    """Ego4D's folder of <uid>.pt features → one feature bank.

    Packs tensors float [rows, dim] or [rows, 1, dim]. An interrupted run is continued; does nothing when the bank is up
    to date.

    Attributes:
        features_folder: folder of <uid>.pt (or .npy) files.
        output: the bank to write, e.g. ego4d_features.h5.
        ego4d_json: Ego4D's metadata: durations, and the list of all videos. null: unknown.
        narrations: a narrations.arrow; its narrated videos that have no features are listed. null: not checked.
        encoder: name of the video encoder that made the features; models remember it.
        rows_per_second: rows that the encoder made per second (30 frames/s over a stride of 16).
        row_seconds: seconds that one row covers (a window of 32 frames at 30 frames/s).
    """

    features_folder: str | Path = "${paths.ego4d}/features"
    output: str | Path = "${paths.out}/ego4d_features.h5"
    ego4d_json: str | Path | None = "${paths.ego4d}/ego4d.json"
    narrations: str | Path | None = None
    encoder: str = "omnivore_video_swinl"
    rows_per_second: float | int = 30 / 16
    row_seconds: float | int = 32 / 30

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
        return self.pack()

    @property
    def folder(self) -> Path:
        """The folder of feature files."""
        return Path(self.features_folder)

    @property
    def source(self) -> str:
        """Where the features come from, for the bank."""
        return f"{self.folder.name}/*.pt"

    def clock(self) -> Clock:
        """Return the clock of the features."""
        return Clock(float(self.rows_per_second), float(self.row_seconds))

    def other_inputs(self) -> str:
        """Return a digest of the metadata and the narrations."""
        return file_digest(self.ego4d_json, self.narrations)

    def durations(self) -> Mapping[str, float]:
        """Return the seconds of the videos in the metadata."""
        known = read_videos(self.ego4d_json) if self.ego4d_json is not None else {}
        return {video: entry.duration_s for video, entry in known.items()}

    def describe(
        self, coverage: Coverage, files: Mapping[str, Path], report: PackReport, durations: Mapping[str, float]
    ) -> None:
        """List the videos of the metadata and the narrations that have no features, and the other way round."""
        packed = set(report.videos)
        if self.ego4d_json is not None:
            coverage.add_list("in_ego4d_json_without_a_file", sorted(set(durations) - set(files)))
            coverage.add_list("not_in_ego4d_json", sorted(packed - set(durations)))
        if self.narrations is not None:
            table = Narrations.open(self.narrations)
            narrated = {str(table.videos[index]) for index in np.unique(table.video)}
            coverage.add_list("narrated_without_features", sorted(narrated - packed))
