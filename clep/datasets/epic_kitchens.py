"""EPIC-KITCHENS (Damen et al., ECCV 2018, IJCV 2022): narrated actions with spans, verb classes and noun classes."""

from pathlib import Path
from typing import Literal

import numpy as np

from clep.datasets.narrated_clips import NarratedClips, clip_table, counted
from clep.tables import parse_clock_times, parse_numbers, read_table
from clep.text import NarrationTable
from clep.text.narration_table import VideoMetadata

COLUMNS = ("video_id", "start_timestamp", "stop_timestamp", "narration")
TAG_COLUMNS = ("verb_class", "all_noun_classes")
HINT = (
    "EPIC_100_train.csv, EPIC_100_validation.csv and EPIC_55_train_action_labels.csv have them; verbs_nouns=false "
    "reads one without verb_class and all_noun_classes, for data.verb_noun=taxonomy or no tags"
)


def read_epic_kitchens(
    csv: str | Path,
    video_info: str | Path | None = None,
    verbs_nouns: bool = True,
    on_error: Literal["stop", "skip"] = "stop",
) -> NarrationTable:
    """Read the csv as a narration table with spans; the time of a narration is the middle of its span.

    Args:
        csv: action labels, for example `EPIC_100_train.csv`.
        video_info: `EPIC_100_video_info.csv`; None: durations are unknown.
        verbs_nouns: read the columns verb_class and all_noun_classes.
        on_error: "skip" drops rows with a wrong number of cells and counts them (`bad_line` in the table's report),
            "stop" raises.

    Raises:
        InputError: a file is missing, lacks a column or has an invalid cell; the message names the line.
    """
    skipped: list[str] | None = [] if on_error == "skip" else None
    rows = read_table(csv, [*COLUMNS, *(TAG_COLUMNS if verbs_nouns else ())], HINT, skipped=skipped)
    start_s, end_s = (parse_clock_times(rows[name], csv) for name in ("start_timestamp", "stop_timestamp"))
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
    table = clip_table(clips, csv, {} if video_info is None else read_durations(video_info), "clean")
    return counted(table, skipped)


def read_durations(path: str | Path) -> dict[str, VideoMetadata]:
    """Read the duration of each video from `EPIC_100_video_info.csv`.

    Raises:
        InputError: the file is missing, lacks a column, or a duration is not a number.
    """
    rows = read_table(path, ("video_id", "duration"), "video_info=null goes without")
    return {
        name: VideoMetadata(duration_s=float(seconds))
        for name, seconds in zip(rows["video_id"], parse_numbers(rows["duration"], path), strict=True)
    }
