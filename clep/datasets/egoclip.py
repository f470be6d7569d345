"""EgoClip (Lin et al., NeurIPS 2022): Ego4D's narrations with spans, verbs and nouns."""

from pathlib import Path
from typing import Literal

import numpy as np

from clep.datasets.ego4d import read_ego4d_metadata
from clep.datasets.narrated_clips import NarratedClips, clip_table, counted
from clep.errors import InputError
from clep.tables import parse_numbers, read_table
from clep.text import NarrationTable
from clep.text.tags import TagStyle

COLUMNS = ("video_uid", "narration_source", "narration_time", "clip_start", "clip_end", "clip_text")
TAG_COLUMNS = ("tag_verb", "tag_noun")
HINT = (
    "EgoClip's csv has them, separated by tabs; verbs_nouns=false reads one without tag_verb and tag_noun, for "
    "data.verb_noun=taxonomy or no tags"
)


def read_egoclip(
    csv: str | Path,
    ego4d_json: str | Path | None = None,
    tag_style: TagStyle = "clean",
    verbs_nouns: bool = True,
    on_error: Literal["stop", "skip"] = "stop",
) -> NarrationTable:
    """Read the csv as a narration table with spans.

    Args:
        csv: `egoclip.csv`, separated by tabs.
        ego4d_json: Ego4D's metadata; None: durations and splits are unknown.
        tag_style: style of the cleaned texts.
        verbs_nouns: read the columns tag_verb and tag_noun.
        on_error: "skip" drops rows with a wrong number of cells and counts them (`bad_line` in the table's report),
            "stop" raises.

    Raises:
        InputError: the file is missing, lacks a column or has an invalid cell; the message names the line.
    """
    skipped: list[str] | None = [] if on_error == "skip" else None
    rows = read_table(csv, [*COLUMNS, *(TAG_COLUMNS if verbs_nouns else ())], HINT, "\t", skipped=skipped)
    number = rows["narration_source"].str.extract(r"(\d)\s*$")[0]
    unknown = np.flatnonzero(number.isna())
    if len(unknown):
        raise InputError(
            f"{csv}, line {rows.index[unknown[0]]}: narration_source is {rows['narration_source'].iloc[unknown[0]]!r}, "
            f"not narration_pass_1 or narration_pass_2 ({len(unknown)} such lines)"
        )
    clips = NarratedClips(
        video=rows["video_uid"],
        text=rows["clip_text"],
        second=parse_numbers(rows["narration_time"], csv),
        start_s=parse_numbers(rows["clip_start"], csv),
        end_s=parse_numbers(rows["clip_end"], csv),
        passes=number.astype(np.int8).to_numpy(),
        verbs=rows["tag_verb"] if verbs_nouns else None,
        nouns=rows["tag_noun"] if verbs_nouns else None,
    )
    table = clip_table(clips, csv, {} if ego4d_json is None else read_ego4d_metadata(ego4d_json), tag_style)
    return counted(table, skipped)
