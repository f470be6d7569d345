"""What the jobs share that read narrations with spans of their own from a csv."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int8

from clep.datasets.tables import number_sets
from clep.errors import InputError
from clep.extraction.coverage import Coverage
from clep.preprocess.narrations_file import write_if_outdated
from clep.text import NarrationTable
from clep.text.narrations import VideoMetadata, assemble
from clep.text.tags import TagStyle


@dataclass(frozen=True)
class NarratedClips:
    """Rows of a csv, in its order.

    Attributes:
        video, text: of each row.
        second: at which it was narrated.
        start_s, end_s: its span.
        passes: the number of its annotation pass.
        verbs, nouns: cells with the numbers of its verbs and nouns; None where the csv is read without them.
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
        InputError: a row has no video, a cell of `verbs` or `nouns` is not a list of numbers, or no row is left.
    """
    nameless = np.flatnonzero(clips.video == "")
    if len(nameless):
        line = clips.video.index[nameless[0]]
        raise InputError(f"{path}, line {line}: {clips.video.name} is empty ({len(nameless)} such lines)")
    start_s = np.maximum(clips.start_s, 0.0)
    good = clips.end_s > start_s
    video, videos = pd.factorize(clips.video[good])
    written_id, written = pd.factorize(clips.text[good])
    groups = None
    if clips.verbs is not None and clips.nouns is not None:
        both = (_of_texts(cells[good], path, written_id, len(written)) for cells in (clips.verbs, clips.nouns))
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
    return write_if_outdated(coverage, overwrite, read, lambda table: _describe(coverage, table))


def _describe(coverage: Coverage, table: NarrationTable) -> None:
    coverage.count(
        videos=len(table.videos),
        narrations=len(table),
        distinct_as_written=len(table.written),
        distinct_texts=len(table.texts),
        empty=table.report["empty"],
        summary=table.report["summary"],
        bad_span=table.report["bad_span"],
        median_span_s=float(np.median(table.end_s - table.start_s)) if table.end_s is not None else None,
        after_end=int(np.count_nonzero(table.second > table.duration_s[table.video])),
    )
    if table.verbs is not None and table.nouns is not None:
        has = [np.diff(groups.offsets) > 0 for groups in (table.verbs, table.nouns)]
        coverage.count(texts_with_a_verb=int(has[0].sum()), texts_with_a_verb_and_a_noun=int((has[0] & has[1]).sum()))
    unknown = [video for video, length in zip(table.videos, table.duration_s, strict=True) if np.isnan(length)]
    coverage.add_list("videos_without_duration", unknown)


def _of_texts(cells: pd.Series, path: str | Path, written_id: np.ndarray, texts: int) -> list[list[int]]:
    """Return the numbers of each text: those of all its rows."""
    codes, sets = number_sets(cells, path)
    found: list[set[int]] = [set() for _ in range(texts)]
    pairs = pd.DataFrame({"text": written_id, "set": codes}).drop_duplicates()
    for text, code in pairs.itertuples(index=False):
        found[text].update(sets[code])
    return [sorted(numbers) for numbers in found]
