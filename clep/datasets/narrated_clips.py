"""Narration tables from csv files with spans, shared by EgoClip and EPIC-KITCHENS."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int8

from clep.errors import InputError
from clep.tables import parse_id_lists, refuse_empty
from clep.text import NarrationTable
from clep.text.narration_table import VideoMetadata, assemble
from clep.text.tags import TagStyle

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NarratedClips:
    """Columns of a csv, one value per row.

    Attributes:
        video, text: video id and narration.
        second: time of the narration in seconds.
        start_s, end_s: span in seconds.
        passes: annotation pass, 1 or 2.
        verbs, nouns: cells with verb ids and noun ids; None if they are not read.
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

    Starts are clamped to 0. Dropped and counted in the table's report: rows without text (`empty`) and rows whose span
    does not end after its start (`bad_span`). Rows with the same cleaned text share the verbs and nouns of all of them.

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
        raise InputError(f"{path} holds no narration with a text and a span; check that it is the right file")
    table.report["bad_span"] = int(np.count_nonzero(~good))
    return table


def counted(table: NarrationTable, skipped: list[str] | None) -> NarrationTable:
    """Add the count of rows that `read_table` skipped to the table's report (`bad_line`), and log the first one."""
    if skipped is not None:
        table.report["bad_line"] = len(skipped)
        if skipped:
            _log.warning("dropped %d rows with a wrong number of cells, the first: %s", len(skipped), skipped[0])
    return table


def _ids_of_texts(cells: pd.Series, path: str | Path, written_id: np.ndarray, texts: int) -> list[list[int]]:
    """Return the ids of each text, the union over its rows."""
    codes, lists = parse_id_lists(cells, path)
    found: list[set[int]] = [set() for _ in range(texts)]
    pairs = pd.DataFrame({"text": written_id, "set": codes}).drop_duplicates()
    for text, code in pairs.itertuples(index=False):
        found[text].update(lists[code])
    return [sorted(ids) for ids in found]
