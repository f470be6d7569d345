"""Narrations with spans of their own from a csv: what EgoClip and EPIC-KITCHENS have in common."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int8

from clep.errors import InputError
from clep.tables import parse_id_lists, refuse_empty
from clep.text import NarrationTable
from clep.text.narrations import VideoMetadata, assemble
from clep.text.tags import TagStyle

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NarratedClips:
    """Rows of a csv, in its order.

    Attributes:
        video, text: id of the video and narration of each row.
        second: at which it was narrated.
        start_s, end_s: its span.
        passes: number of its annotation pass.
        verbs, nouns: cells with its verb ids and noun ids; None where the csv is read without them.
    """

    video: pd.Series
    text: pd.Series
    second: Float64[np.ndarray, " rows"]
    start_s: Float64[np.ndarray, " rows"]
    end_s: Float64[np.ndarray, " rows"]
    passes: Int8[np.ndarray, " rows"]
    verbs: pd.Series | None = None
    nouns: pd.Series | None = None


def clip_table(
    clips: NarratedClips, path: str | Path, about: dict[str, VideoMetadata], tag_style: TagStyle
) -> NarrationTable:
    """Make the narration table of a csv's rows.

    A span that starts before its video starts with it. Left out and counted in the table's report: rows without a text
    (`empty`) and those whose span does not end after it starts (`bad_span`). Texts that are equal once cleaned have the
    verbs and nouns of all their rows.

    Raises:
        InputError: a row has no video, a cell of `verbs` or `nouns` is not a list of ids, or no row is left.
    """
    refuse_empty(clips.video, path)
    start_s = np.maximum(clips.start_s, 0.0)
    good = clips.end_s > start_s
    video, videos = pd.factorize(clips.video[good])
    written_id, written = pd.factorize(clips.text[good])
    groups = None
    if clips.verbs is not None and clips.nouns is not None:
        both = (_ids_of_texts(cells[good], path, written_id, len(written)) for cells in (clips.verbs, clips.nouns))
        groups = (next(both), next(both))
    table = assemble(
        videos=[str(name) for name in videos],
        redacted=np.zeros(len(videos), dtype=bool),
        about=about,
        video=video.astype(np.int32),
        second=np.maximum(clips.second, 0.0)[good],
        passes=clips.passes[good],
        written=[str(text) for text in written],
        written_id=written_id.astype(np.int32),
        tag_style=tag_style,
        spans=(start_s[good], clips.end_s[good]),
        groups=groups,
    )
    if not len(table):
        raise InputError(f"{path} holds no narration with a text and a span, so there is nothing to train on")
    table.report["bad_span"] = int(np.count_nonzero(~good))
    return table


def counted(table: NarrationTable, skipped: list[str] | None) -> NarrationTable:
    """Count the rows that `read_table` left out as `bad_line` in the table's report, and log the first of them."""
    if skipped is not None:
        table.report["bad_line"] = len(skipped)
        if skipped:
            _log.warning(
                "%d rows have a wrong number of cells and were left out, the first: %s", len(skipped), skipped[0]
            )
    return table


def _ids_of_texts(cells: pd.Series, path: str | Path, written_id: np.ndarray, texts: int) -> list[list[int]]:
    """Return the ids of each text: those of all its rows."""
    codes, lists = parse_id_lists(cells, path)
    found: list[set[int]] = [set() for _ in range(texts)]
    pairs = pd.DataFrame({"text": written_id, "set": codes}).drop_duplicates()
    for text, code in pairs.itertuples(index=False):
        found[text].update(lists[code])
    return [sorted(ids) for ids in found]
