"""Narrations in memory as columns, and how they are made from what a dataset's file says."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float32, Float64, Int8, Int16, Int32, Int64

from clep.columns import string_dictionary, write_columns
from clep.errors import InputError
from clep.text.tags import TAG_STYLES, is_summary, remove_tags, substitute_tags
from clep.text.texts import GroupIds, Texts

FORMAT, VERSION = "clep-narrations", 2
SPLITS = ("split_em", "split_fho", "split_av")
ROW_SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class VideoMetadata:
    """Duration of a video in seconds, NaN if unknown, and its splits, "" for none."""

    duration_s: float = math.nan
    splits: tuple[str, ...] = ("",) * len(SPLITS)


@dataclass(frozen=True, eq=False)
class NarrationTable:
    """Narrations in memory: one row per narration, sorted by video and second, and the distinct texts.

    Shapes: V videos, N narrations.

    Args:
        videos: `[V]` unique ids, sorted.
        duration_s: `[V]` seconds, NaN if unknown.
        splits: for each of `split_em`, `split_fho`, `split_av` a `[V]` array of str, "" for none.
        redacted: `[V]`, whether the video was withdrawn.
        video: `[N]` index into `videos`.
        second: `[N]` seconds from the start of the video.
        passes: `[N]` number of the annotation pass, 1 or 2.
        text_id: `[N]` index into `texts`.
        written_id: `[N]` index into `written`.
        texts: distinct texts in the style `tag_style`, with single blanks (except in style "raw").
        written: distinct texts as written by annotators.
        words: `[N]` word count of each narration without tags.
        tag_style: one of `TAG_STYLES`.
        report: counts of narrations read and dropped.
        start_s, end_s: `[N]` span of each narration in seconds; None if the source has only a time.
        verbs, nouns: verb ids and noun ids of each of `texts`; None if the source has none.
        row_split: `[N]` index into `ROW_SPLITS`, of a table that gives each narration a split; None if it has none.
        weight: `[N]` how often each narration is drawn in an epoch; None for once.

    Raises:
        InputError: columns of different lengths, rows out of order, indices out of range, a second that is negative
            or not a number, an unknown tag style.

    Examples:
        >>> from clep.datasets.ego4d import read_ego4d
        >>> table = read_ego4d("narration.json")
        >>> table.written[0], table.texts[0]
        ('#C C closes the pan again', 'Camera wearer closes the pan again')
        >>> table.write("my_narrations.arrow")
    """

    videos: tuple[str, ...]
    duration_s: Float64[np.ndarray, "videos"]
    splits: dict[str, np.ndarray]
    redacted: Bool[np.ndarray, "videos"]
    video: Int32[np.ndarray, "narrations"]
    second: Float64[np.ndarray, "narrations"]
    passes: Int8[np.ndarray, "narrations"]
    text_id: Int32[np.ndarray, "narrations"]
    written_id: Int32[np.ndarray, "narrations"]
    texts: Texts
    written: Texts
    words: Int16[np.ndarray, "narrations"]
    tag_style: str = "clean"
    report: dict[str, int] = field(default_factory=dict)
    start_s: Float64[np.ndarray, "narrations"] | None = None
    end_s: Float64[np.ndarray, "narrations"] | None = None
    verbs: GroupIds | None = None
    nouns: GroupIds | None = None
    row_split: Int8[np.ndarray, "narrations"] | None = None
    weight: Float32[np.ndarray, "narrations"] | None = None

    def __post_init__(self) -> None:
        n_videos = len(self.videos)
        problems = {
            "videos are not sorted or not unique": list(self.videos) != sorted(set(self.videos)),
            "a video id has a NUL character": any("\0" in name for name in self.videos),
            "duration_s, redacted or a split does not have one value per video": any(
                len(column) != n_videos for column in (self.duration_s, self.redacted, *self.splits.values())
            ),
            f"splits are not {', '.join(SPLITS)}": set(self.splits) != set(SPLITS),
            "columns differ in length": any(
                len(column) != len(self.video)
                for column in (self.second, self.passes, self.text_id, self.written_id, self.words)
            ),
            "a second is negative, infinite or not a number": not bool(
                np.all(np.isfinite(self.second) & (self.second >= 0))
            ),
            "video has an index out of range": not is_within(self.video, n_videos),
            "text_id has an index out of range": not is_within(self.text_id, len(self.texts)),
            "written_id has an index out of range": not is_within(self.written_id, len(self.written)),
            "rows are not sorted by video and second": not is_sorted(self.video, self.second),
            f"tag_style is {self.tag_style!r}, not one of {', '.join(TAG_STYLES)}": self.tag_style not in TAG_STYLES,
        }
        if self.start_s is not None or self.end_s is not None:
            problems["start_s and end_s are not one span per row"] = not are_spans(self.start_s, self.end_s, len(self))
        for kind, groups in (("verbs", self.verbs), ("nouns", self.nouns)):
            problems[f"{kind} does not have one set per text"] = groups is not None and len(groups) != len(self.texts)
        problems["row_split has an index out of range, or another length"] = not are_row_splits(
            self.row_split, len(self)
        )
        problems["a weight is negative or not finite, or there is not one per row"] = not are_weights(
            self.weight, len(self)
        )
        wrong = [problem for problem, found in problems.items() if found]
        if wrong:
            raise InputError(f"invalid narration table: {'; '.join(wrong)}")

    def __len__(self) -> int:
        return len(self.video)

    @property
    def digest(self) -> str:
        """SHA-256 of the distinct texts in order; text embeddings are matched to a table by it."""
        return self.texts.digest()

    def write(self, path: str | Path) -> None:
        """Write the table atomically as an Arrow IPC file; `Narrations.open` reads it.

        Each narration is a row. Videos and texts are dictionary columns, so that pandas and polars show ids and
        sentences.
        """
        columns: dict[str, pa.Array] = {
            "video": string_dictionary(self.video, *_strings(Texts.of(self.videos))),
            "second": pa.array(self.second),
            "pass": pa.array(self.passes),
            "text": string_dictionary(self.text_id, *_strings(self.texts)),
            "written": string_dictionary(self.written_id, *_strings(self.written)),
            "words": pa.array(self.words),
        }
        if self.start_s is not None and self.end_s is not None:
            columns |= {"start_s": pa.array(self.start_s), "end_s": pa.array(self.end_s)}
        columns |= {
            name: pa.array(column)
            for name, column in (("row_split", self.row_split), ("weight", self.weight))
            if column is not None
        }
        for name, groups in (("verb", self.verbs), ("noun", self.nouns)):
            if groups is not None:
                of_rows = groups.take(self.text_id)
                columns[name] = pa.LargeListArray.from_arrays(pa.array(of_rows.offsets), pa.array(of_rows.ids))
        header = {
            "format": FORMAT,
            "version": VERSION,
            "tag_style": self.tag_style,
            "digest": self.digest,
            "report": self.report,
        }
        videos = {
            "duration_s": [None if math.isnan(seconds) else seconds for seconds in self.duration_s.tolist()],
            "redacted": self.redacted.tolist(),
            **{name: self.splits[name].tolist() for name in SPLITS},
        }
        write_columns(path, columns, header, {"videos": json.dumps(videos, allow_nan=False)})


def _strings(texts: Texts) -> tuple[np.ndarray, np.ndarray]:
    return texts.offsets, texts.blob


def is_within(index: np.ndarray, size: int) -> bool:
    """Whether all indices are from 0 to `size` - 1."""
    return not len(index) or bool(index.min() >= 0 and index.max() < size)


def are_spans(start_s: np.ndarray | None, end_s: np.ndarray | None, rows: int) -> bool:
    """Whether both columns have one value per row, and each span starts at 0 or later and ends after its start."""
    if start_s is None or end_s is None or len(start_s) != rows or len(end_s) != rows:
        return False
    return bool(np.all(np.isfinite(end_s) & (start_s >= 0) & (end_s > start_s)))


def are_row_splits(row_split: np.ndarray | None, rows: int) -> bool:
    """Whether there are none, or one valid index into `ROW_SPLITS` per row."""
    return row_split is None or (len(row_split) == rows and is_within(row_split, len(ROW_SPLITS)))


def are_weights(weight: np.ndarray | None, rows: int) -> bool:
    """Whether there are none, or one finite number from 0 on per row."""
    return weight is None or (len(weight) == rows and bool(np.all(np.isfinite(weight) & (weight >= 0))))


def is_sorted(video: np.ndarray, second: np.ndarray) -> bool:
    """Whether rows are sorted by video and second."""
    if len(video) != len(second):
        return False
    step = np.diff(video)
    return bool(np.all((step > 0) | ((step == 0) & (np.diff(second) >= 0))))


_MOST_WORDS = int(np.iinfo(np.int16).max)
_TEXTS_AT_ONCE = 1 << 16


def assemble(
    videos: Sequence[str],
    redacted: Bool[np.ndarray, " videos"],
    about: Mapping[str, VideoMetadata],
    video: Int32[np.ndarray, " narrations"],
    second: Float64[np.ndarray, " narrations"],
    passes: Int8[np.ndarray, " narrations"],
    written: Sequence[str] | pa.LargeStringArray,
    written_id: Int32[np.ndarray, " narrations"],
    tag_style: str,
    spans: tuple[Float64[np.ndarray, " narrations"], Float64[np.ndarray, " narrations"]] | None = None,
    groups: tuple[Sequence[Sequence[int]], Sequence[Sequence[int]]] | None = None,
    row_split: Int8[np.ndarray, " narrations"] | None = None,
    weight: Float32[np.ndarray, " narrations"] | None = None,
) -> NarrationTable:
    """Make a narration table: clean the texts, drop empty ones, sort by video and second.

    Dropped and counted in the table's report: narrations whose text is empty in this tag style (`empty`) and rows that
    begin with `#Summary`, which summarise a video (`summary`).

    Args:
        videos: video ids, in any order.
        redacted: mask of the withdrawn videos.
        about: durations and splits of the known videos.
        video: index into `videos` of each narration.
        second, passes: time and annotation pass of each narration.
        written: distinct texts as written.
        written_id: index into `written` of each narration.
        tag_style: style of the cleaned texts.
        spans: start and end of each narration in seconds, if the source has spans.
        groups: verb ids and noun ids of each of `written`, if the source has them. If several written texts have the
            same cleaned text, it gets the ids of all of them.
        row_split: index into `ROW_SPLITS` of each narration, if they have splits of their own.
        weight: how often each narration is drawn in an epoch, if not once.
    """
    by_id = sorted(range(len(videos)), key=videos.__getitem__)
    ids = tuple(videos[i] for i in by_id)
    rank = np.empty(len(ids), dtype=np.int32)
    rank[by_id] = np.arange(len(ids), dtype=np.int32)

    strings = written if isinstance(written, pa.LargeStringArray) else Texts.of(written).to_arrow()
    cleaned = _clean(strings, tag_style)
    summary, empty = cleaned.summary[written_id], cleaned.empty[written_id]
    kept = np.flatnonzero(~(summary | empty))
    keys = (passes[kept], second[kept], rank[video[kept]])
    order = kept[np.lexsort(keys if len(kept) and np.ptp(keys[0]) else keys[1:])]

    used, new_written_id = _by_first_use(written_id[order], len(strings))
    used_texts, text_id = _by_first_use(cleaned.text_id[written_id[order]], len(cleaned.texts))
    known = [about.get(name) or VideoMetadata() for name in ids]
    optional: dict[str, Any] = {}
    if spans is not None:
        optional |= {"start_s": spans[0][order], "end_s": spans[1][order]}
    for name, column in (("row_split", row_split), ("weight", weight)):
        if column is not None:
            optional[name] = column[order]
    if groups is not None:
        for name, of_written in zip(("verbs", "nouns"), groups, strict=True):
            sets: list[set[int]] = [set() for _ in used_texts]
            new_text_id = np.empty(len(cleaned.texts), dtype=np.int32)
            new_text_id[used_texts] = np.arange(len(used_texts), dtype=np.int32)
            for text, i in zip(new_text_id[cleaned.text_id[used]].tolist(), used.tolist(), strict=True):
                sets[text].update(of_written[i])
            optional[name] = GroupIds.of(sets)
    return NarrationTable(
        videos=ids,
        duration_s=np.array([one.duration_s for one in known], dtype=np.float64),
        splits={name: np.array([one.splits[i] for one in known], dtype=np.str_) for i, name in enumerate(SPLITS)},
        redacted=redacted[by_id] if len(by_id) else redacted,
        video=rank[video[order]],
        second=second[order],
        passes=passes[order],
        text_id=text_id,
        written_id=new_written_id,
        texts=Texts.from_arrow(cleaned.texts.take(pa.array(used_texts))),
        written=Texts.from_arrow(strings.take(pa.array(used))),
        words=cleaned.words[used][new_written_id],
        tag_style=tag_style,
        report={"empty": int(np.count_nonzero(empty & ~summary)), "summary": int(np.count_nonzero(summary))},
        **optional,
    )


@dataclass(frozen=True)
class _Cleaned:
    """What written texts become in a tag style.

    Attributes:
        texts: the distinct results.
        text_id: index of the result of each written text.
        words: word count of each written text without tags.
        summary, empty: masks of the written texts that are summaries, and of those that are empty.
    """

    texts: pa.LargeStringArray
    text_id: Int32[np.ndarray, " written"]
    words: Int16[np.ndarray, " written"]
    summary: Bool[np.ndarray, " written"]
    empty: Bool[np.ndarray, " written"]


def _clean(written: pa.LargeStringArray, tag_style: str) -> _Cleaned:
    """Clean texts in blocks, so that millions of them are never Python strings at once."""
    blocks: list[pa.Array] = []
    words, summary, empty = np.zeros(len(written), np.int16), *(np.zeros(len(written), bool) for _ in range(2))
    for start in range(0, len(written), _TEXTS_AT_ONCE):
        some = slice(start, start + _TEXTS_AT_ONCE)
        before: list[str] = written[some].to_pylist()
        after = [substitute_tags(text, tag_style) for text in before]
        if tag_style == "tutorial":
            after = [" ".join(text.split()) for text in after]
        untagged = after if tag_style == "none" else map(remove_tags, before)
        words[some] = [min(text.count(" ") + bool(text), _MOST_WORDS) for text in untagged]  # single blanks
        for index in np.flatnonzero(pc.match_substring(written[some], "summary", ignore_case=True)):
            summary[start + index] = is_summary(before[index])
        empty[some] = [not text or text.isspace() for text in after]
        blocks.append(pa.array(after, pa.large_string()))
    encoded = pa.concat_arrays(blocks or [pa.array([], pa.large_string())]).dictionary_encode()
    return _Cleaned(encoded.dictionary, encoded.indices.to_numpy(), words, summary, empty)


def _by_first_use(
    index: Int32[np.ndarray, " narrations"], size: int
) -> tuple[Int64[np.ndarray, " used"], Int32[np.ndarray, " narrations"]]:
    """Replace indices below `size` by their rank in order of first occurrence.

    Returns:
        The distinct old indices in that order, and the new index of each narration.
    """
    first = np.full(size, len(index), dtype=np.int64)
    first[index[::-1]] = np.arange(len(index) - 1, -1, -1)  # of equal indices, the last assignment stays
    used = np.flatnonzero(first < len(index))
    used = used[np.argsort(first[used])]
    new_index = np.empty(size, dtype=np.int32)
    new_index[used] = np.arange(len(used), dtype=np.int32)
    return used, new_index[index]
