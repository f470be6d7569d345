"""Base of the jobs that pack feature files, one per video, into one bank."""

import logging
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clep.bank import Clock, FeatureBank
from clep.extraction.coverage import Coverage, folder_digest
from clep.extraction.feature_files import FAULTS, feature_files
from clep.extraction.features import SHARD_BYTES, PackReport, PackSettings, pack_features
from clep.extraction.items import Dtype, OnError
from clep.preprocess.job import Job

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PackingJob(Job):
    """Base of the jobs that pack feature files into one bank. Subclasses define `folder` and `clock`.

    Attributes:
        dtype: number format of the bank; float16 halves its size.
        on_error: "skip" lists files that cannot be used and goes on, "stop" ends at the first of them.
        allow_nonfinite: keep videos whose features hold NaN or infinity.
        overwrite: write the bank again even where it is up to date.
        shard_bytes: bytes of feature files in one shard; a kill loses at most one shard.
    """

    encoder: str
    dtype: Dtype = "float16"
    on_error: OnError = "skip"
    allow_nonfinite: bool = False
    overwrite: bool = False
    shard_bytes: int = SHARD_BYTES

    @property
    @abstractmethod
    def folder(self) -> Path:
        """The folder of feature files."""

    @property
    def source(self) -> str:
        """Where the features come from, for the bank."""
        return f"{self.folder.name}/"

    @abstractmethod
    def clock(self) -> Clock:
        """Return the clock of the features.

        Raises:
            InputError: the rate is not known.
        """

    def other_inputs(self) -> str:
        """Return a digest of the further files that the coverage depends on."""
        return ""

    def array_name(self) -> str | None:
        """Return the name of the array in files that hold several."""
        return None

    def durations(self) -> Mapping[str, float]:
        """Return the seconds of the videos, where known."""
        return {}

    def describe(
        self, coverage: Coverage, files: Mapping[str, Path], report: PackReport, durations: Mapping[str, float]
    ) -> None:
        """Add what a subclass knows to the coverage."""

    def pack(self) -> dict[str, Any]:
        """Write the bank unless it is up to date; return the coverage.

        Raises:
            InputError: an input is missing or of another format, no file can be used, or the disk is full.
        """
        (output,) = self.outputs()
        clock, files = self.clock(), feature_files(self.folder)
        coverage = self._coverage(files)
        done = None if self.overwrite else coverage.last_run(FeatureBank.open)
        if done is not None and (self.on_error == "skip" or not any(done["lists"][fault] for fault in FAULTS)):
            logger.info("%s is up to date", output)
            return done | {"up_to_date": True}
        durations = self.durations()
        coverage.forget_last_run()
        settings = PackSettings(
            clock=clock,
            dtype=self.dtype,
            encoder=self.encoder,
            source=self.source,
            on_error=self.on_error,
            allow_nonfinite=self.allow_nonfinite,
            array=self.array_name(),
            shard_bytes=self.shard_bytes,
        )
        report = pack_features(files, output, settings, durations, self.overwrite)
        coverage.count(files=len(files))
        report.add_to(coverage)
        self.describe(coverage, files, report, durations)
        return coverage.write() | {"up_to_date": False}

    def cost_warning(self, long_texts: int, long_bytes: float | int) -> str | None:
        """Return why packing the features would take long, or None."""
        files = feature_files(self.folder)
        size = sum(path.stat().st_size for path in files.values() if path.is_file())
        if size <= long_bytes or self._coverage(files).last_run(FeatureBank.open):
            return None
        return f"{size / 1e9:,.0f} GB of features are to be packed"

    def _coverage(self, files: Mapping[str, Path]) -> Coverage:
        (output,), clock = self.outputs(), self.clock()
        settings: dict[str, str | float | bool | None] = {
            "dtype": self.dtype,
            "encoder": self.encoder,
            "rows_per_second": clock.rows_per_second,
            "row_seconds": clock.row_seconds,
            "allow_nonfinite": self.allow_nonfinite,
        }
        if self.array_name() is not None:
            settings["array"] = self.array_name()
        return Coverage(self.name, output, f"{folder_digest(files.values())}-{self.other_inputs()}", settings)
