"""A user's table as narrations: `video, start, end, text` or `video, time, text`; csv, tsv, parquet or jsonl."""

import difflib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Float32, Float64, Int8, Int64

from clep.config.check import did_you_mean
from clep.errors import InputError
from clep.files import check_input, open_input, unique_keys
from clep.tables import parse_clock_times, read_table
from clep.text import NarrationTable
from clep.text.narration_table import ROW_SPLITS, VideoMetadata, assemble
from clep.text.tags import TagStyle

logger = logging.getLogger(__name__)

COLUMNS = ("video", "start", "end", "time", "text", "split", "verb", "noun", "weight")
SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson")
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
    table = _read(path, _names(columns or {}))
    n = len(table.video)
    report = {"rows": n}
    codes, ids = pd.factorize(table.video)
    videos = [str(name) for name in ids]
    unknown: dict[str, str] = {}
    known_row = np.ones(n, bool)
    if ends_s is not None:
        videos, unknown = _match_videos(videos, ends_s, path)
        known_row = np.array([name not in unknown for name in videos], bool)[codes]
    report["rows_of_unknown_videos"] = int(np.count_nonzero(~known_row))
    empty = np.array([not text.strip() for text in table.texts], bool)[table.text]
    report["empty"] = int(np.count_nonzero(known_row & empty))
    good_span = table.end_s > table.start_s
    report["bad_span"] = int(np.count_nonzero(known_row & ~empty & ~good_span))
    kept = known_row & ~empty & good_span
    if ends_s is not None:
        end_of_row = np.array([ends_s.get(name, np.nan) for name in videos])[codes]
        late = kept & (table.start_s > end_of_row + 1.0)
        _refuse_other_units(path, table, late, kept, end_of_row, videos, codes)
        report["after_the_end"] = int(np.count_nonzero(late))
        kept &= ~late
    index = np.flatnonzero(kept)
    repeated = _repeated(codes[index], table.start_s[index], table.end_s[index], table.text[index])
    report["repeated"] = int(np.count_nonzero(repeated))
    index = index[~repeated]
    if not len(index):
        raise InputError(
            f"{path} has no usable row ({', '.join(f'{name}: {count:,}' for name, count in report.items())}); "
            f"{_first_unknown(unknown)}"
        )
    verb_sets, verb_names = _groups(table.verb, table.text, index, len(table.texts))
    noun_sets, noun_names = _groups(table.noun, table.text, index, len(table.texts))
    used, video = np.unique(codes[index], return_inverse=True)
    chosen = [videos[code] for code in used]
    if len(set(chosen)) < len(chosen):  # "a" and "a.mp4" are one video of the bank
        names, again = np.unique(chosen, return_inverse=True)
        video, chosen = again[video], [str(name) for name in names]
    about = {name: VideoMetadata(ends_s[name]) for name in chosen} if ends_s is not None else {}
    narrations = assemble(
        videos=chosen,
        redacted=np.zeros(len(chosen), bool),
        about=about,
        video=video.astype(np.int32),
        second=np.maximum(0.0, table.time[index]),
        passes=np.ones(len(index), np.int8),
        written=table.texts,
        written_id=table.text[index].astype(np.int32),
        tag_style=tag_style,
        spans=(np.maximum(0.0, table.start_s[index]), table.end_s[index]) if table.has_spans else None,
        groups=_both(verb_sets, noun_sets),
        row_split=None if table.split is None else table.split[index],
        weight=None if table.weight is None else table.weight[index],
    )
    if not len(narrations):
        raise InputError(f"{path} has no row with a text after its tags are removed")
    unused = sorted(set(ends_s) - set(narrations.videos)) if ends_s is not None else []
    return MomentTable(narrations, verb_names, noun_names, report | {"kept": len(narrations)}, unknown, unused)


@dataclass(frozen=True)
class _Columns:
    """The columns of a table, one value per row; texts are indices into `texts`."""

    video: pd.Series
    text: Int64[np.ndarray, " rows"]
    texts: list[str]
    start_s: Float64[np.ndarray, " rows"]
    end_s: Float64[np.ndarray, " rows"]
    time: Float64[np.ndarray, " rows"]
    has_spans: bool
    split: Int8[np.ndarray, " rows"] | None
    verb: pd.Series | None
    noun: pd.Series | None
    weight: Float32[np.ndarray, " rows"] | None


def _names(columns: Mapping[str, str | None]) -> dict[str, str]:
    """Return the name in the table of each of `COLUMNS`."""
    for name in columns:
        if name not in COLUMNS:
            raise InputError(f"data.columns.{name}: there is no such column. {did_you_mean(name, COLUMNS)}")
    return {name: str(columns.get(name) or name) for name in COLUMNS}


def _read(path: Path, names: dict[str, str]) -> _Columns:
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path} is no table that can be read; its name should end in {', '.join(SUFFIXES)}")
    frame = _read_parquet(path, names) if path.suffix.lower() == ".parquet" else _read_text(path, names)
    hint = "if it has another name, give it: "
    for name in ("video", "text"):
        if name not in frame:
            raise InputError(
                f"{path} lacks the column {names[name]!r}; its columns are {', '.join(frame.attrs['found'][:20])}; "
                f"{hint}data.columns.{name}=NAME"
            )
    has_spans = "start" in frame and "end" in frame
    if not has_spans and "time" not in frame:
        raise InputError(
            f"{path} needs the columns {names['start']!r} and {names['end']!r}, or {names['time']!r} (seconds); its "
            f"columns are {', '.join(frame.attrs['found'][:20])}; {hint}data.columns.time=NAME"
        )
    blank = frame["video"].isin([""]).to_numpy()
    if blank.any():
        raise InputError(
            f"{path}, line {frame.index[int(blank.argmax())]}: {names['video']} is empty ({blank.sum()} such rows)"
        )
    if has_spans:
        start_s, end_s = (_seconds(frame[name], path, names[name]) for name in ("start", "end"))
        time = (start_s + end_s) / 2
    else:
        time = _seconds(frame["time"], path, names["time"])
        start_s, end_s = time, time + 1.0
    codes, texts = pd.factorize(frame["text"])
    return _Columns(
        video=frame["video"],
        text=codes.astype(np.int64),
        texts=[str(text) for text in texts],
        start_s=start_s,
        end_s=end_s,
        time=time,
        has_spans=has_spans,
        split=_splits(frame["split"], path, names["split"]) if "split" in frame else None,
        verb=frame.get("verb"),
        noun=frame.get("noun"),
        weight=_weights(frame["weight"], path, names["weight"]) if "weight" in frame else None,
    )


def _read_text(path: Path, names: dict[str, str]) -> pd.DataFrame:
    """Read a csv, tsv or jsonl; the index is the line."""
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        return _read_jsonl(path, names)
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    frame = read_table(path, (), "", separator, tuple(dict.fromkeys(names.values())))
    return _named({name: frame[column] for name, column in names.items() if column in frame}, frame.attrs["columns"])


def _read_jsonl(path: Path, names: dict[str, str]) -> pd.DataFrame:
    values: dict[str, list[Any]] = {name: [] for name in names}
    lines, found = [], dict[str, None]()
    with open_input(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig"), object_pairs_hook=unique_keys)
            except ValueError as error:
                raise InputError(f"{path}, line {number} is not valid JSON ({error}); correct the line") from error
            if not isinstance(row, dict):
                raise InputError(f"{path}, line {number} is not a JSON object; write one object a line")
            lines.append(number)
            found.update(dict.fromkeys(row))
            for name, column in names.items():
                values[name].append(row.get(column))
    if not lines:
        raise InputError(f"{path} has no rows")
    columns = {
        name: pd.Series(column, index=pd.Index(lines)) for name, column in values.items() if names[name] in found
    }
    for name in ("video", "text"):
        if name in columns:
            columns[name] = columns[name].map(lambda value: "" if value is None else str(value))
    return _named(columns, list(found))


def _named(columns: dict[str, pd.Series], found: list[str]) -> pd.DataFrame:
    """Return columns under our names; `attrs["found"]` are the names of all columns of the table."""
    frame = pd.DataFrame(columns)
    frame.attrs["found"] = found
    return frame


def _read_parquet(path: Path, names: dict[str, str]) -> pd.DataFrame:
    """Read a parquet file; texts become categories, which cost little memory where they repeat."""
    check_input(path)
    try:
        schema = pq.read_schema(path)
        wanted = {name: column for name, column in names.items() if column in schema.names}
        table = pq.read_table(path, columns=sorted(set(wanted.values())), use_threads=True)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is not a readable parquet file ({error}); write it again") from error
    if not table.num_rows:
        raise InputError(f"{path} has no rows")
    columns: dict[str, Any] = {}
    for name, column in wanted.items():
        values = table.column(column).combine_chunks()
        if name in ("video", "text", "split", "verb", "noun"):
            plain = values.cast(pa.large_string()) if not pa.types.is_dictionary(values.type) else values
            encoded = plain if pa.types.is_dictionary(plain.type) else pc.dictionary_encode(plain.fill_null(""))
            indices = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
            distinct = encoded.dictionary.cast(pa.large_string()).to_pylist()
            if (indices < 0).any():
                distinct, indices = [*distinct, ""], np.where(indices < 0, len(distinct), indices)
            columns[name] = pd.Categorical.from_codes(indices, pd.Index(distinct, dtype=object))
        else:
            columns[name] = values.to_pandas().to_numpy()
    rows = pd.RangeIndex(1, table.num_rows + 1)
    return _named({name: pd.Series(values, index=rows) for name, values in columns.items()}, list(schema.names))


def _seconds(column: pd.Series, path: Path, name: str) -> Float64[np.ndarray, " rows"]:
    """Convert seconds, as numbers or as `hh:mm:ss.ms`; the message names the line."""
    if pd.api.types.is_numeric_dtype(column):
        values = column.to_numpy(np.float64)
    else:
        values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64).copy()
        clock = column.astype(str).str.contains(":", regex=False).to_numpy()
        if clock.any():
            values[clock] = parse_clock_times(column[clock].astype(str).rename(name), path)
    wrong = ~np.isfinite(values) | (values < 0)
    if wrong.any():
        first = int(wrong.argmax())
        raise InputError(
            f"{path}, line {column.index[first]}: {name} is {str(column.iloc[first])[:100]!r}, not seconds such as "
            f"12.5 or 00:01:02.50 ({int(wrong.sum())} such rows)"
        )
    return values


def _splits(column: pd.Series, path: Path, name: str) -> Int8[np.ndarray, " rows"]:
    codes, names = pd.factorize(column)
    index = []
    for code, split in enumerate(names):
        found = _SPLIT_NAMES.get(str(split).strip().lower())
        if found is None:
            first = column.index[int((codes == code).argmax())]
            raise InputError(f"{path}, line {first}: {name} is {split!r}, not one of {', '.join(ROW_SPLITS)}")
        index.append(found)
    if (codes < 0).any():
        raise InputError(f"{path}, line {column.index[int((codes < 0).argmax())]}: {name} is empty")
    return np.array(index, np.int8)[codes]


def _weights(column: pd.Series, path: Path, name: str) -> Float32[np.ndarray, " rows"]:
    values = pd.to_numeric(column, errors="coerce").to_numpy(np.float32)
    wrong = ~np.isfinite(values) | (values < 0)
    if wrong.any():
        first = int(wrong.argmax())
        raise InputError(
            f"{path}, line {column.index[first]}: {name} is {column.iloc[first]!r}, not a number from 0 on"
        )
    return values


def _groups(
    column: pd.Series | None, text: np.ndarray, index: np.ndarray, texts: int
) -> tuple[list[list[int]], list[str]]:
    """Return the ids of each text, the union over its rows, and the names behind the ids; none without a column."""
    if column is None:
        return [], []
    codes, cells = pd.factorize(column)
    named = [[part.strip() for part in str(cell).split("|") if part.strip()] for cell in cells]
    names = sorted({name for parts in named for name in parts})
    number = {name: position for position, name in enumerate(names)}
    found: list[set[int]] = [set() for _ in range(texts)]
    pairs = pd.DataFrame({"text": text[index], "cell": codes[index]}).drop_duplicates()
    for of_text, cell in pairs.itertuples(index=False):
        if cell >= 0:
            found[of_text].update(number[name] for name in named[cell])
    return [sorted(ids) for ids in found], names


def _both(verbs: list[list[int]], nouns: list[list[int]]) -> tuple[list[list[int]], list[list[int]]] | None:
    """Return the verbs and nouns of each text; no ids for a column that the table lacks, None if it lacks both."""
    if not verbs and not nouns:
        return None
    nothing: list[list[int]] = [[]] * max(len(verbs), len(nouns))
    return verbs or nothing, nouns or nothing


def _match_videos(videos: list[str], ends_s: Mapping[str, float], path: Path) -> tuple[list[str], dict[str, str]]:
    """Return the ids in the bank's spelling, and those that it lacks with the nearest of its ids.

    An id of the table may have a suffix that the bank's ids lack, or lack one that they have.
    """
    without = {_without_suffix(name): name for name in ends_s}
    matched, unknown, changed = [], dict[str, str](), 0
    for name in videos:
        found = name if name in ends_s else without.get(_without_suffix(name))
        changed += found is not None and found != name
        matched.append(found or name)
        if found is None:
            near = difflib.get_close_matches(name, ends_s, n=3, cutoff=0.4) if len(unknown) < 100 else []
            unknown[name] = f"nearest: {', '.join(near)}" if near else "no similar id"
    if changed:
        logger.info("%s: %d video ids differ from those of the features by a suffix, which is ignored", path, changed)
    if len(unknown) == len(videos):
        raise InputError(
            f"none of the {len(videos)} videos of {path} has features: {_first_unknown(unknown)}; the features have "
            f"{', '.join(sorted(ends_s)[:3])}"
        )
    return matched, unknown


def _without_suffix(name: str) -> str:
    suffix = Path(name).suffix
    return name[: -len(suffix)] if suffix.lower() in _VIDEO_SUFFIXES else name


def _first_unknown(unknown: Mapping[str, str]) -> str:
    shown = "; ".join(f"{name!r} ({near})" for name, near in list(unknown.items())[:3])
    return shown or "correct the table"


def _refuse_other_units(
    path: Path,
    table: _Columns,
    late: np.ndarray,
    kept: np.ndarray,
    ends_s: np.ndarray,
    videos: list[str],
    codes: np.ndarray,
) -> None:
    """Refuse a table whose times are not seconds, by the rows that start after the end of their video."""
    if late.sum() <= _LATE_SHARE * max(1, kept.sum()):
        return
    worst = int(np.argmax(np.where(late, table.start_s / np.maximum(ends_s, 1e-9), 0.0)))
    ratio = float(np.max(table.end_s[kept] / np.maximum(ends_s[kept], 1e-9)))
    guess = "milliseconds" if ratio > 200 else "frames"
    factor = "1000" if guess == "milliseconds" else "the frame rate"
    raise InputError(
        f"{path}: {int(late.sum()):,} of {int(kept.sum()):,} rows start after the end of their video, for example at "
        f"{table.start_s[worst]:,.0f} s in {videos[codes[worst]]!r} of {ends_s[worst]:,.0f} s; are these {guess}? "
        f"Divide them by {factor}, or correct data.features_per_second"
    )


def _repeated(*columns: np.ndarray) -> np.ndarray:
    """Mask of the rows that equal an earlier one in all columns."""
    return pd.DataFrame(dict(enumerate(columns))).duplicated().to_numpy()
