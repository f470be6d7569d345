"""A user's table as narrations: `video, start, end, text` or `video, time, text`; csv, tsv, parquet or jsonl."""

import difflib
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32, Float64, Int8, Int32, Shaped

from clep.datasets.user_table import EncodedStrings, UserTable, column_settings, is_blank, read_user_table
from clep.errors import InputError
from clep.text import NarrationTable
from clep.text.narration_table import ROW_SPLITS, VideoMetadata, assemble
from clep.text.tags import TagStyle

logger = logging.getLogger(__name__)

COLUMNS = ("video", "start", "end", "time", "text", "split", "verb", "noun", "weight")
_SPLIT_NAMES = {"train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "dev": 1, "test": 2, "testing": 2}
_VIDEO_SUFFIXES = (".mp4", ".mkv", ".avi", ".mov", ".webm", ".m4v", ".mpg", ".npy", ".npz", ".pt", ".h5")
_LATE_SHARE = 0.05


@dataclass(frozen=True)
class MomentTable:
    """What was read.

    Attributes:
        narrations: the moments, by video and second.
        verbs, nouns: names behind the verb and noun ids, sorted; empty where the table has no such column.
        report: counts of rows read and dropped.
        unknown_videos: ids of the table that the bank lacks, each with the nearest ids of the bank.
        unused_videos: ids of the bank that no row names.
    """

    narrations: NarrationTable
    verbs: list[str]
    nouns: list[str]
    report: dict[str, int]
    unknown_videos: dict[str, str] = field(default_factory=dict)
    unused_videos: list[str] = field(default_factory=list)


def read_moment_table(
    path: str | Path,
    columns: Mapping[str, str | None] | None = None,
    tag_style: TagStyle = "none",
    ends_s: Mapping[str, float] | None = None,
) -> MomentTable:
    """Read a table of moments.

    Required are `video`, `text` and either `start` and `end` or `time`, in seconds or as `hh:mm:ss.ms`. Optional are
    `split` (train, val or test), `verb` and `noun` (a class name, several separated by `|`), and `weight` (how often a
    row is drawn in an epoch: 2 is twice, 0.5 every second such row).

    Dropped and counted: rows without text (`empty`), with a span that does not end after its start (`bad_span`), equal
    to an earlier row (`repeated`), and with `ends_s` rows of unknown videos or after the end of their video.

    Args:
        path: the table; its suffix is the format.
        columns: names of the table's columns where they differ, `{"text": "caption"}`.
        tag_style: how narration tags are written, see `clep.text`; "none" for texts without tags.
        ends_s: second at which each video of the feature bank ends. Ids of the table may then have a file suffix that
            those of the bank lack.

    Raises:
        InputError: the table cannot be read, lacks a column, a cell is wrong, or no row is left; the message names the
            column and the line.
    """
    path = Path(path)
    table = _read(path, columns)
    codes, n = table.video.index, len(table.video.index)
    videos: list[str] = table.video.values.to_pylist()
    report = {"rows": n}
    unknown: dict[str, str] = {}
    known_row = np.ones(n, bool)
    if ends_s is not None:
        videos, unknown = match_videos(videos, ends_s, path)
        known_row = np.array([name not in unknown for name in videos], bool)[codes]
    report["rows_of_unknown_videos"] = int(np.count_nonzero(~known_row))
    empty = is_blank(table.text.values)[table.text.index]
    report["empty"] = int(np.count_nonzero(known_row & empty))
    good_span = table.end_s > table.start_s
    report["bad_span"] = int(np.count_nonzero(known_row & ~empty & ~good_span))
    kept = known_row & ~empty & good_span
    if ends_s is not None:
        video_end_s = np.array([ends_s.get(name, np.nan) for name in videos])[codes]
        late = refuse_other_units(
            str(path), table.start_s, table.end_s, video_end_s, kept, lambda row: videos[codes[row]]
        )
        report["after_the_end"] = int(np.count_nonzero(late))
        kept &= ~late
        del video_end_s, late
    index = np.flatnonzero(kept)
    repeated = repeated_rows(codes[index], table.text.index[index], table.start_s[index], table.end_s[index])
    report["repeated"] = int(np.count_nonzero(repeated))
    index = index[~repeated]
    if not len(index):
        remedy = _first_unknown(unknown)
        if not unknown and report["bad_span"] > report["empty"]:
            first = int(np.flatnonzero(~good_span)[0])
            remedy = (
                f"the first spans {table.start_s[first]:g} to {table.end_s[first]:g} s; if start and end are swapped, "
                f"name them: {column_settings('data.columns', start='END', end='START')}"
            )
        raise InputError(
            f"{path} has no usable row ({', '.join(f'{name}: {count:,}' for name, count in report.items())}); {remedy}"
        )
    verb_sets, verb_names = _groups(table.verb, table.text, index)
    noun_sets, noun_names = _groups(table.noun, table.text, index)
    used = np.flatnonzero(np.bincount(codes[index], minlength=len(videos)))
    chosen = sorted({videos[code] for code in used})  # "a" and "a.mp4" are one video of the bank
    position = {name: number for number, name in enumerate(chosen)}
    video = np.array([position.get(name, -1) for name in videos], np.int32)[codes[index]]
    about = {name: VideoMetadata(ends_s[name]) for name in chosen} if ends_s is not None else {}
    moments: dict[str, Any] = {
        "video": video,
        "second": table.time[index],
        "passes": np.ones(len(index), np.int8),
        "written": table.text.values,
        "written_id": table.text.index[index],
        "spans": (table.start_s[index], table.end_s[index]) if table.has_spans else None,
        "groups": _both(verb_sets, noun_sets),
        "row_split": None if table.split is None else table.split[index],
        "weight": None if table.weight is None else table.weight[index],
    }
    del (
        table,
        codes,
        empty,
        known_row,
        good_span,
        kept,
        index,
        repeated,
    )  # gigabytes where the table has 10,000,000 rows
    redacted = np.zeros(len(chosen), bool)
    narrations = assemble(videos=chosen, redacted=redacted, about=about, tag_style=tag_style, **moments)
    if not len(narrations):
        raise InputError(f"{path} has no row with a text after its tags are removed")
    unused = sorted(set(ends_s) - set(narrations.videos)) if ends_s is not None else []
    return MomentTable(narrations, verb_names, noun_names, report | {"kept": len(narrations)}, unknown, unused)


@dataclass(frozen=True)
class _Columns:
    """The columns of a table, one value per row."""

    video: EncodedStrings
    text: EncodedStrings
    start_s: Float64[np.ndarray, " rows"]
    end_s: Float64[np.ndarray, " rows"]
    time: Float64[np.ndarray, " rows"]
    has_spans: bool
    split: Int8[np.ndarray, " rows"] | None
    verb: EncodedStrings | None
    noun: EncodedStrings | None
    weight: Float32[np.ndarray, " rows"] | None


def _read(path: Path, columns: Mapping[str, str | None] | None) -> _Columns:
    table = read_user_table(path, COLUMNS, columns, "data.columns")
    table.require("video", "text")
    has_spans = "start" in table and "end" in table
    if not has_spans and "time" not in table:
        names = table.names
        raise InputError(
            f"{path} needs the columns {names['start']!r} and {names['end']!r}, or {names['time']!r} (seconds); "
            f"{table.hint('time')}"
        )
    if has_spans:
        start_s, end_s = table.seconds("start"), table.seconds("end")
        time = (start_s + end_s) / 2
    else:
        start_s = time = table.seconds("time")
        end_s = time + 1.0
    return _Columns(
        video=table.filled("video"),
        text=table.sentences("text"),
        start_s=start_s,
        end_s=end_s,
        time=time,
        has_spans=has_spans,
        split=_splits(table) if "split" in table else None,
        verb=table.strings("verb") if "verb" in table else None,
        noun=table.strings("noun") if "noun" in table else None,
        weight=table.numbers("weight").astype(np.float32) if "weight" in table else None,
    )


def _splits(table: UserTable) -> Int8[np.ndarray, " rows"]:
    strings, name = table.filled("split"), table.names["split"]
    found = []
    for value, split in enumerate(strings.values.to_pylist()):
        index = _SPLIT_NAMES.get(split.strip().lower())
        if index is None:
            row = int((strings.index == value).argmax())
            raise table.error(row, f"{name} is {split!r}, not one of {', '.join(ROW_SPLITS)}")
        found.append(index)
    return np.array(found, np.int8)[strings.index]


def _groups(
    column: EncodedStrings | None, text: EncodedStrings, index: np.ndarray
) -> tuple[list[list[int]], list[str]]:
    """Return the ids of each text, the union over its rows, and the names behind the ids; none without a column."""
    if column is None:
        return [], []
    named = [[part.strip() for part in cell.split("|") if part.strip()] for cell in column.values.to_pylist()]
    names = sorted({name for parts in named for name in parts})
    ids = {name: position for position, name in enumerate(names)}
    found: list[set[int]] = [set() for _ in range(len(text.values))]
    pairs = pd.DataFrame({"text": text.index[index], "cell": column.index[index]}).drop_duplicates()
    for of_text, cell in pairs.itertuples(index=False):
        found[of_text].update(ids[name] for name in named[cell])
    return [sorted(ids) for ids in found], names


def _both(verbs: list[list[int]], nouns: list[list[int]]) -> tuple[list[list[int]], list[list[int]]] | None:
    """Return the verbs and nouns of each text; no ids for a column that the table lacks, None if it lacks both."""
    if not verbs and not nouns:
        return None
    nothing: list[list[int]] = [[]] * max(len(verbs), len(nouns))
    return verbs or nothing, nouns or nothing


def match_videos(videos: list[str], ends_s: Mapping[str, float], path: Path) -> tuple[list[str], dict[str, str]]:
    """Return the ids in the bank's spelling, and those that it lacks with the nearest of its ids.

    An id of the table may have a file suffix that the bank's ids lack, or lack one that they have.

    Args:
        videos: distinct ids of the table.
        ends_s: by the bank's ids.
        path: of the table, for messages.

    Raises:
        InputError: the bank has none of the videos.
    """
    without = {without_suffix(name): name for name in ends_s}
    matched, unknown, changed = [], dict[str, str](), 0
    without_folder = {_last_part(name): name for name in ends_s}
    for name in videos:
        found = name if name in ends_s else without.get(without_suffix(name))
        changed += found is not None and found != name
        matched.append(found or name)
        if found is None:
            same = without_folder.get(_last_part(name))
            near = [same] if same else []
            if not same and len(unknown) < 100:
                near = difflib.get_close_matches(name, ends_s, n=3, cutoff=0.4)
            unknown[name] = f"nearest: {', '.join(near)}" if near else "no similar id"
    if changed:
        logger.info("%s: %d video ids differ from those of the features by a suffix, which is ignored", path, changed)
    if len(unknown) == len(videos):
        folders = " (the folders differ: write the ids as the features have them)"
        raise InputError(
            f"none of the {len(videos)} videos of {path} has features: {_first_unknown(unknown)}; the features have "
            f"{', '.join(sorted(ends_s)[:3])}{folders if _last_part(videos[0]) in without_folder else ''}"
        )
    return matched, unknown


def without_suffix(name: str) -> str:
    """Return a video's id without the suffix of a file of videos or features."""
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 - pathlib takes 30 times as long
    return stem if suffix.lower() in _VIDEO_SUFFIXES else name


def _last_part(name: str) -> str:
    """Return a video's id without folders and suffix."""
    return without_suffix(name.replace("\\", "/").rsplit("/", 1)[-1])


def _first_unknown(unknown: Mapping[str, str]) -> str:
    shown = "; ".join(f"{name!r} ({near})" for name, near in list(unknown.items())[:3])
    return shown or "correct the table"


def refuse_other_units(
    what: str,
    start_s: Float64[np.ndarray, " rows"],
    end_s: Float64[np.ndarray, " rows"],
    video_end_s: Float64[np.ndarray, " rows"],
    checked: Bool[np.ndarray, " rows"],
    video: Callable[[int], str],
    remedy: str = "data.features_per_second",
) -> Bool[np.ndarray, " rows"]:
    """Return which rows start after the end of their video, by more than a second.

    Args:
        what: the table, for messages.
        start_s, end_s: of each row.
        video_end_s: end of the row's video; NaN where unknown.
        checked: mask of the rows to compare.
        video: id of the video of a row.
        remedy: setting of the rate of the features.

    Raises:
        InputError: more than 5 % of the checked rows do, so that the times are not seconds; says what they look like.
    """
    late = checked & (start_s > video_end_s + 1.0)
    if late.sum() <= _LATE_SHARE * checked.sum():
        return late
    worst = int(np.argmax(np.where(late, start_s / np.maximum(video_end_s, 1e-9), 0.0)))
    ratio = float(np.nanmax(end_s[checked] / np.maximum(video_end_s[checked], 1e-9)))
    guess, factor = "frames", "the frame rate"
    if ratio > 200:
        guess, factor = ("milliseconds", "1000") if ratio < 200_000 else ("microseconds", "1,000,000")
    raise InputError(
        f"{what}: {int(late.sum()):,} of {int(checked.sum()):,} rows start after the end of their video, for example "
        f"at {start_s[worst]:,.0f} s in {video(worst)!r} of {video_end_s[worst]:,.0f} s; are these {guess}? "
        f"Divide them by {factor}, or correct {remedy}"
    )


def repeated_rows(
    one: Int32[np.ndarray, " rows"],
    other: Int32[np.ndarray, " rows"],
    *times: Float64[np.ndarray, " rows"],
) -> Bool[np.ndarray, " rows"]:
    """Mask of the rows that equal an earlier one in all columns: two of indices, and any of seconds.

    Rows are compared by a hash of 64 bits first, since comparing 10,000,000 rows by columns takes gigabytes.
    """
    hashed = (one.astype(np.uint64) << np.uint64(32)) | other.astype(np.uint64)
    for column in times:
        hashed *= np.uint64(0x9E3779B97F4A7C15)
        hashed ^= hashed >> np.uint64(32)
        hashed ^= (column + 0.0).view(np.uint64)  # -0.0 equals 0.0
    ordered = np.sort(hashed)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    repeated = np.zeros(len(hashed), bool)
    if len(twice):
        some = np.flatnonzero(np.isin(hashed, twice))
        columns: list[Shaped[np.ndarray, " rows"]] = [one, other, *times]
        frame = pd.DataFrame({number: column[some] for number, column in enumerate(columns)})
        repeated[some] = frame.duplicated().to_numpy()
    return repeated
