"""Narrations in any order → the sorted table, its texts cleaned and numbered by their first use."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int8, Int32

from clep.text.ego4d_metadata import VideoMetadata
from clep.text.group_numbers import GroupNumbers
from clep.text.table import SPLITS, NarrationTable
from clep.text.tags import remove_tags, substitute_tags
from clep.text.texts import Texts

_MOST_WORDS = int(np.iinfo(np.int16).max)


def assemble(
    videos: Sequence[str],
    redacted: Bool[np.ndarray, " videos"],
    about: Mapping[str, VideoMetadata],
    video: Int32[np.ndarray, " narrations"],
    second: Float64[np.ndarray, " narrations"],
    passes: Int8[np.ndarray, " narrations"],
    written: Sequence[str],
    written_id: Int32[np.ndarray, " narrations"],
    tags: str,
    spans: tuple[Float64[np.ndarray, " narrations"], Float64[np.ndarray, " narrations"]] | None = None,
    groups: tuple[Sequence[Sequence[int]], Sequence[Sequence[int]]] | None = None,
) -> NarrationTable:
    """Make a narration table; a narration without a word of text is left out (`empty` in the table's report).

    Args:
        videos: ids, in the order that `video` counts in.
        redacted: which of them were withdrawn.
        about: durations and splits, of those that are known.
        video, second, passes: of each narration.
        written: distinct texts as they were written; `written_id` counts in them.
        tags: style of the cleaned texts.
        spans: start and end of each narration in seconds, if they have spans.
        groups: verb numbers and noun numbers of each of `written`, if they have any. A cleaned text has those of all
            that it was written as.
    """
    by_id = sorted(range(len(videos)), key=videos.__getitem__)
    ids = tuple(videos[i] for i in by_id)
    rank = np.empty(len(ids), dtype=np.int32)
    rank[by_id] = np.arange(len(ids), dtype=np.int32)

    cleaned = [" ".join(substitute_tags(text, tags).split()) for text in written]
    has_text = np.array([bool(text) for text in cleaned], dtype=bool)
    kept = np.flatnonzero(has_text[written_id]) if len(written_id) else np.zeros(0, dtype=np.int64)
    order = kept[np.lexsort((passes[kept], second[kept], rank[video[kept]]))]

    used, renumbered = _by_first_use(written_id[order])
    texts: dict[str, int] = {}
    text_of_written = np.array([texts.setdefault(cleaned[i], len(texts)) for i in used], dtype=np.int32)
    of_used = [written[i] for i in used]
    known = [about.get(name) or VideoMetadata() for name in ids]
    optional: dict[str, Any] = {}
    if spans is not None:
        optional |= {"start_s": spans[0][order], "end_s": spans[1][order]}
    if groups is not None:
        for name, of_written in zip(("verbs", "nouns"), groups, strict=True):
            sets: list[set[int]] = [set() for _ in texts]
            for text, i in zip(text_of_written.tolist(), used, strict=True):
                sets[text].update(of_written[i])
            optional[name] = GroupNumbers.of(sets)
    return NarrationTable(
        videos=ids,
        duration_s=np.array([one.duration_s for one in known], dtype=np.float64),
        splits={name: np.array([one.splits[i] for one in known], dtype=np.str_) for i, name in enumerate(SPLITS)},
        redacted=redacted[by_id] if len(by_id) else redacted,
        video=rank[video[order]],
        second=second[order],
        passes=passes[order],
        text_id=text_of_written[renumbered],
        written_id=renumbered,
        texts=Texts.of(texts),
        written=Texts.of(of_used),
        written_words=np.array([min(len(remove_tags(t).split()), _MOST_WORDS) for t in of_used], dtype=np.int16),
        tags=tags,
        report={"empty": len(written_id) - len(kept)},
        **optional,
    )


def _by_first_use(
    index: Int32[np.ndarray, " narrations"],
) -> tuple[list[int], Int32[np.ndarray, " narrations"]]:
    """Renumber indices in the order in which they first occur.

    Returns the old number of each new one, and the renumbered indices.
    """
    distinct, first, inverse = np.unique(index, return_index=True, return_inverse=True)
    order = np.argsort(first)
    renumber = np.empty(len(distinct), dtype=np.int32)
    renumber[order] = np.arange(len(distinct), dtype=np.int32)
    return distinct[order].tolist(), renumber[inverse]
