"""Job: Ego4D's folder of `<uid>.pt` features → one feature bank."""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from clep.bank import Clock, FeatureBank
from clep.datasets.ego4d import read_videos
from clep.extraction.coverage import Coverage, file_digest, folder_digest
from clep.extraction.feature_files import FAULTS, feature_files
from clep.extraction.features import SHARD_BYTES, PackSettings, pack_features
from clep.extraction.items import Dtype, OnError
from clep.text import Narrations

logger = logging.getLogger(__name__)

SETTINGS = ("dtype", "encoder", "rows_per_second", "row_seconds", "allow_nonfinite")


def run(
    *,
    features_folder: str | Path,
    output: str | Path,
    ego4d_json: str | Path | None = None,
    narrations: str | Path | None = None,
    dtype: Dtype = "float16",
    encoder: str = "omnivore_video_swinl",
    rows_per_second: float | int = 30 / 16,
    row_seconds: float | int = 32 / 30,
    on_error: OnError = "skip",
    allow_nonfinite: bool = False,
    overwrite: bool = False,
    shard_bytes: int = SHARD_BYTES,
) -> dict[str, Any]:
    """Pack a folder of <uid>.pt features, float [rows, dim] or [rows, 1, dim], into one feature bank.

    Continues where an interrupted run stopped; does nothing when the bank is up to date.

    Args:
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
        overwrite: write the bank anew even where it is up to date.
        shard_bytes: bytes of feature files in one shard; a kill loses at most one shard.

    Returns:
        The coverage: counts, and complete lists of what is missing, cannot be used or looks wrong.

    Raises:
        InputError: an input is missing or of another format, no file can be used, or the disk is full.
    """
    files = feature_files(features_folder)
    settings = _settings(dtype, encoder, rows_per_second, row_seconds, allow_nonfinite)
    coverage = _coverage(files, output, ego4d_json, narrations, settings)
    done = None if overwrite else coverage.last_run(FeatureBank.open)
    if done is not None and (on_error == "skip" or not any(done["lists"][fault] for fault in FAULTS)):
        logger.info("%s is up to date", output)
        return done | {"up_to_date": True}
    known = read_videos(ego4d_json) if ego4d_json is not None else {}
    durations = {video: entry.duration_s for video, entry in known.items()}
    narrated = _narrated_videos(narrations) if narrations is not None else []
    coverage.forget_last_run()
    report = pack_features(
        files,
        output,
        PackSettings(
            clock=Clock(float(rows_per_second), float(row_seconds)),
            dtype=dtype,
            encoder=encoder,
            source=f"{Path(features_folder).name}/*.pt",
            on_error=on_error,
            allow_nonfinite=allow_nonfinite,
            shard_bytes=shard_bytes,
        ),
        durations,
        overwrite,
    )
    coverage.count(files=len(files))
    report.add_to(coverage)
    packed = set(report.videos)
    if ego4d_json is not None:
        coverage.add_list("in_ego4d_json_without_a_file", sorted(set(durations) - set(files)))
        coverage.add_list("not_in_ego4d_json", sorted(packed - set(durations)))
    if narrations is not None:
        coverage.add_list("narrated_without_features", sorted(set(narrated) - packed))
    return coverage.write() | {"up_to_date": False}


def inputs(options: dict[str, Any]) -> list[Path]:
    """Return the files and folders that a run with these options reads."""
    given = (options.get(name) for name in ("features_folder", "ego4d_json", "narrations"))
    return [Path(path) for path in given if path is not None]


def outputs(options: dict[str, Any]) -> list[Path]:
    """Return the files that a run with these options leaves, all of them there once it is done."""
    return [Path(options["output"])]


def cost_warning(options: dict[str, Any], long_texts: int, long_bytes: float | int) -> str | None:
    """Say why a run with these options, defaults included, would take long; None where it would not."""
    files = feature_files(options["features_folder"])
    size = sum(path.stat().st_size for path in files.values() if path.is_file())
    if size <= long_bytes:
        return None
    settings = _settings(*(options[name] for name in SETTINGS))
    if _coverage(files, options["output"], options["ego4d_json"], options["narrations"], settings).last_run(
        FeatureBank.open
    ):
        return None
    return f"{size / 1e9:,.0f} GB of features are to be packed"


def _settings(*values: Any) -> dict[str, Any]:
    return dict(zip(SETTINGS, values, strict=True))


def _coverage(
    files: dict[str, Path],
    output: str | Path,
    ego4d_json: str | Path | None,
    narrations: str | Path | None,
    settings: dict[str, Any],
) -> Coverage:
    digest = f"{folder_digest(files.values())}-{file_digest(ego4d_json, narrations)}"
    return Coverage("ego4d_features", output, digest, settings)


def _narrated_videos(narrations: str | Path) -> list[str]:
    table = Narrations.open(narrations)
    return [str(table.videos[index]) for index in np.unique(table.video)]
