"""What the jobs share that write `narrations.arrow` and the embeddings of its distinct texts beside it."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from clep.compute import Slurm
from clep.config.targets import TARGET
from clep.extraction.coverage import Coverage
from clep.extraction.text import TextBank, text_bank_path
from clep.text import Narrations, NarrationTable

logger = logging.getLogger(__name__)

OnError = Literal["stop", "skip"]


def write_if_outdated(
    coverage: Coverage, overwrite: bool, read: Callable[[], NarrationTable], describe: Callable[[NarrationTable], None]
) -> dict[str, Any]:
    """Write what `read` returns to `coverage.output` unless it is up to date; return its coverage.

    Args:
        coverage: of the job, for the inputs and settings of this run.
        overwrite: write it even where it is up to date.
        read: makes the table, or raises where there is nothing to train on.
        describe: counts what is in the table; called once the file is written.
    """
    done = None if overwrite else coverage.last_run(Narrations.open)
    if done is not None:
        logger.info("%s is up to date", coverage.output)
        return done | {"up_to_date": True}
    table = read()
    coverage.forget_last_run()
    table.write(coverage.output)
    describe(table)
    return coverage.write() | {"up_to_date": False}


def text_bank(output_folder: str | Path, encoder: str) -> TextBank:
    """Return the bank, written or to be written, of the texts of `narrations.arrow` in a folder."""
    narrations = Narrations.open(Path(output_folder) / "narrations.arrow")
    return TextBank(Path(output_folder), "texts", {"texts": narrations.texts}, encoder, narrations.digest)


def outputs(options: dict[str, Any]) -> list[Path]:
    """Return the files that a job with these options leaves, all of them there once it is done."""
    folder = Path(options["output_folder"])
    return [folder / "narrations.arrow", text_bank_path(folder, "texts", options["text_encoder"])]


def texts_cost_warning(options: dict[str, Any], long_texts: int, write: Callable[[], object]) -> str | None:
    """Say why encoding the texts of a folder's narrations would take long; None where it would not.

    How many texts there are shows only once `narrations.arrow` is written, so this calls `write`, which is short.
    """
    if _on_a_cluster(options.get("compute")) or (torch.cuda.is_available() and options["device"] != "cpu"):
        return None
    write()
    left = text_bank(options["output_folder"], options["text_encoder"]).texts_left()
    return f"{left:,} distinct texts are to be encoded without a GPU" if left > long_texts else None


def _on_a_cluster(compute: Any) -> bool:
    return isinstance(compute, Slurm) or (isinstance(compute, Mapping) and compute.get(TARGET) == "clep.compute.Slurm")


def write_clip_narrations(
    job: str,
    output: Path,
    digest: str,
    settings: dict[str, str | bool],
    overwrite: bool,
    read: Callable[[], NarrationTable],
) -> dict[str, Any]:
    """Write `narrations.arrow` with what `read` returns unless it is up to date; return its coverage."""
    coverage = Coverage(job, output, digest, settings)
    return write_if_outdated(coverage, overwrite, read, lambda table: _describe_clips(coverage, table))


def _describe_clips(coverage: Coverage, table: NarrationTable) -> None:
    coverage.count(
        videos=len(table.videos),
        narrations=len(table),
        distinct_as_written=len(table.written),
        distinct_texts=len(table.texts),
        empty=table.report["empty"],
        summary=table.report["summary"],
        bad_span=table.report["bad_span"],
        bad_line=table.report.get("bad_line", 0),
        median_span_s=float(np.median(table.end_s - table.start_s)) if table.end_s is not None else None,
        after_end=int(np.count_nonzero(table.second > table.duration_s[table.video])),
    )
    if table.verbs is not None and table.nouns is not None:
        has = [np.diff(groups.offsets) > 0 for groups in (table.verbs, table.nouns)]
        coverage.count(texts_with_a_verb=int(has[0].sum()), texts_with_a_verb_and_a_noun=int((has[0] & has[1]).sum()))
    unknown = [video for video, length in zip(table.videos, table.duration_s, strict=True) if np.isnan(length)]
    coverage.add_list("videos_without_duration", unknown)
