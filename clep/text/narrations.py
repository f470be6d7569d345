"""Narrations on disk: opened in milliseconds whatever their number, read where they are used."""

import json
import math
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Bool, Float64, Int8, Int16, Int32

from clep.errors import InputError
from clep.files import atomic_path
from clep.text.tags import TAG_STYLES, is_summary, remove_tags, substitute_tags
from clep.text.texts import GroupIds, Texts

FORMAT, VERSION = "clep-narrations", 1
SPLITS = ("split_em", "split_fho", "split_av")


@dataclass(frozen=True)
class VideoMetadata:
    """One video: duration in seconds, NaN where unknown, and its splits, "" where there is none."""

    duration_s: float = math.nan
    splits: tuple[str, ...] = ("",) * len(SPLITS)


@dataclass(frozen=True, eq=False)
class NarrationTable:
    """Narrations in memory: one row a narration, sorted by video and second, and their distinct texts.

    Shapes: V videos sorted by id, N narrations, W distinct texts as written.

    Args:
        videos: `[V]` ids, sorted, each once.
        duration_s: `[V]` seconds, NaN where unknown.
        splits: for each of `split_em`, `split_fho`, `split_av` a `[V]` array of str, "" where there is none.
        redacted: `[V]`, whether the video was withdrawn.
        video: `[N]` index into `videos`.
        second: `[N]` seconds from the start of the video.
        passes: `[N]` the number of the annotation pass, 1 or 2.
        text_id: `[N]` index into `texts`.
        written_id: `[N]` index into `written`.
        texts: distinct texts after tag substitution in the style `tag_style`, blanks folded.
        written: distinct texts as annotators wrote them.
        written_words: `[W]` words of each written text without its tags.
        tag_style: one of `TAG_STYLES`.
        report: what was read and what was left out, as counts.
        start_s, end_s: `[N]` seconds of each narration's own span; None where narrations came with a time only.
        verbs, nouns: numbers of the verbs and nouns of each of `texts`, where they came with them; else None.

    Raises:
        InputError: columns of different lengths, rows out of order, indices out of range, a second that is negative
            or not a number, an unknown tag style.
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
    written_words: Int16[np.ndarray, "written"]
    tag_style: str = "clean"
    report: dict[str, int] = field(default_factory=dict)
    start_s: Float64[np.ndarray, "narrations"] | None = None
    end_s: Float64[np.ndarray, "narrations"] | None = None
    verbs: GroupIds | None = None
    nouns: GroupIds | None = None

    def __post_init__(self) -> None:
        n_videos = len(self.videos)
        problems = {
            "videos are not sorted, or one is there twice": list(self.videos) != sorted(set(self.videos)),
            "duration_s, redacted or a split has not one value a video": any(
                len(column) != n_videos for column in (self.duration_s, self.redacted, *self.splits.values())
            ),
            f"splits are not {', '.join(SPLITS)}": set(self.splits) != set(SPLITS),
            "columns differ in length": any(
                len(column) != len(self.video) for column in (self.second, self.passes, self.text_id, self.written_id)
            ),
            "written_words has not one value a written text": len(self.written_words) != len(self.written),
            "a second is negative, infinite or not a number": not bool(
                np.all(np.isfinite(self.second) & (self.second >= 0))
            ),
            "video has an index out of range": not _within(self.video, n_videos),
            "text_id has an index out of range": not _within(self.text_id, len(self.texts)),
            "written_id has an index out of range": not _within(self.written_id, len(self.written)),
            "rows are not sorted by video and second": not _sorted(self.video, self.second),
            f"tag_style is {self.tag_style!r}, not one of {', '.join(TAG_STYLES)}": self.tag_style not in TAG_STYLES,
        }
        if self.start_s is not None or self.end_s is not None:
            problems["start_s and end_s are not spans, one a row"] = not _spans(self.start_s, self.end_s, len(self))
        for kind, groups in (("verbs", self.verbs), ("nouns", self.nouns)):
            problems[f"{kind} has not one set a text"] = groups is not None and len(groups) != len(self.texts)
        wrong = [problem for problem, found in problems.items() if found]
        if wrong:
            raise InputError(f"this is no narration table: {'; '.join(wrong)}")

    def __len__(self) -> int:
        return len(self.video)

    @property
    def digest(self) -> str:
        """SHA-256 of the distinct texts and their order: which text embeddings belong to this table."""
        return self.texts.digest()

    def write(self, path: str | Path) -> None:
        """Write the table as HDF5, whole or not at all; `Narrations.open` reads it.

        Every column is a contiguous dataset at an aligned place, so that a reader can map it into memory.
        """
        with (
            atomic_path(path) as temporary,
            h5py.File(temporary, "w", alignment_threshold=1, alignment_interval=64) as file,
        ):
            file.attrs.update(
                {"format": FORMAT, "version": VERSION, "tag_style": self.tag_style, "digest": self.digest}
            )
            file.attrs["report"] = json.dumps(self.report)
            columns: dict[str, np.ndarray] = {
                "video/duration_s": self.duration_s,
                "video/redacted": self.redacted.astype(np.uint8),
                "narration/video": self.video,
                "narration/second": self.second,
                "narration/pass": self.passes,
                "narration/text_id": self.text_id,
                "narration/written_id": self.written_id,
                "text/utf8": self.texts.blob,
                "text/offset": self.texts.offsets,
                "written/utf8": self.written.blob,
                "written/offset": self.written.offsets,
                "written/words": self.written_words,
            }
            if self.start_s is not None and self.end_s is not None:
                columns |= {"narration/start_s": self.start_s, "narration/end_s": self.end_s}
            for kind, groups in (("verb", self.verbs), ("noun", self.nouns)):
                if groups is not None:
                    columns |= {f"text/{kind}": groups.numbers, f"text/{kind}_offset": groups.offsets}
            for name, column in columns.items():
                file.create_dataset(name, data=column, track_times=False)
            _write_strings(file, "video/id", self.videos)
            for name in SPLITS:
                _write_strings(file, f"video/{name}", self.splits[name].tolist())


def _write_strings(file: h5py.File, name: str, strings: Sequence[str]) -> None:
    """Write short strings as fixed-length utf-8, which any HDF5 viewer shows and a memory map can read."""
    encoded = [string.encode("utf-8") for string in strings]
    length = max([1, *map(len, encoded)])
    dtype = h5py.string_dtype("utf-8", length)
    file.create_dataset(name, data=np.array(encoded, dtype=dtype), track_times=False)


def _within(index: np.ndarray, size: int) -> bool:
    return not len(index) or bool(index.min() >= 0 and index.max() < size)


def _spans(start_s: np.ndarray | None, end_s: np.ndarray | None, rows: int) -> bool:
    """Whether both are there, as long as the table, and each span begins at 0 or later and ends after it began."""
    if start_s is None or end_s is None or len(start_s) != rows or len(end_s) != rows:
        return False
    return bool(np.all(np.isfinite(end_s) & (start_s >= 0) & (end_s > start_s)))


def _sorted(video: np.ndarray, second: np.ndarray) -> bool:
    if len(video) != len(second):
        return False
    step = np.diff(video)
    return bool(np.all((step > 0) | ((step == 0) & (np.diff(second) >= 0))))


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
    tag_style: str,
    spans: tuple[Float64[np.ndarray, " narrations"], Float64[np.ndarray, " narrations"]] | None = None,
    groups: tuple[Sequence[Sequence[int]], Sequence[Sequence[int]]] | None = None,
) -> NarrationTable:
    """Make a narration table.

    Left out and counted in the table's report: narrations whose text is empty in this tag style (`empty`) and rows that
    begin with `#Summary`, which sum up a whole video (`summary`).

    Args:
        videos: ids, in the order that `video` counts in.
        redacted: which of them were withdrawn.
        about: durations and splits, of those that are known.
        video, second, passes: of each narration.
        written: distinct texts as they were written; `written_id` counts in them.
        tag_style: style of the cleaned texts.
        spans: start and end of each narration in seconds, if they have spans.
        groups: verb numbers and noun numbers of each of `written`, if they have any. A cleaned text has those of all
            that it was written as.
    """
    by_id = sorted(range(len(videos)), key=videos.__getitem__)
    ids = tuple(videos[i] for i in by_id)
    rank = np.empty(len(ids), dtype=np.int32)
    rank[by_id] = np.arange(len(ids), dtype=np.int32)

    cleaned = [substitute_tags(text, tag_style) for text in written]
    if tag_style != "raw":
        cleaned = [" ".join(text.split()) for text in cleaned]
    summary = np.array([is_summary(text) for text in written], dtype=bool)[written_id]
    empty = np.array([not text.strip() for text in cleaned], dtype=bool)[written_id]
    kept = np.flatnonzero(~(summary | empty))
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
            optional[name] = GroupIds.of(sets)
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
        tag_style=tag_style,
        report={"empty": int(np.count_nonzero(empty & ~summary)), "summary": int(np.count_nonzero(summary))},
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


_REMEDY = "Make it again with: python -m clep.preprocess ego4d_narrations"
_COLUMNS = {
    "video/duration_s": "<f8",
    "video/redacted": "u1",
    "video/id": None,
    **{f"video/{name}": None for name in SPLITS},
    "narration/video": "<i4",
    "narration/second": "<f8",
    "narration/pass": "i1",
    "narration/text_id": "<i4",
    "narration/written_id": "<i4",
    "text/utf8": "u1",
    "text/offset": "<i8",
    "written/utf8": "u1",
    "written/offset": "<i8",
    "written/words": "<i2",
}


_OPTIONAL = {
    "narration/start_s": "<f8",
    "narration/end_s": "<f8",
    "text/verb": "<i4",
    "text/verb_offset": "<i8",
    "text/noun": "<i4",
    "text/noun_offset": "<i8",
}


class Narrations:
    """A `narrations.h5` with the attributes of `NarrationTable`, each read from disk at its first use.

    The file is mapped into memory: workers share its pages, and no HDF5 handle stays open. Columns are read-only
    arrays. Pickles as its path, and is opened again where it is unpickled.
    """

    path: Path
    tag_style: str
    digest: str
    report: dict[str, int]

    @classmethod
    def open(cls, path: str | Path) -> "Narrations":
        """Open a file that `NarrationTable.write` made.

        Raises:
            InputError: the file is missing, cut off, of another format or version, or lacks a column.
        """
        narrations = cls.__new__(cls)
        narrations._open(Path(path))
        return narrations

    def __init__(self) -> None:
        raise TypeError("use Narrations.open(path)")

    def _open(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise InputError(f"{path} does not exist. {_REMEDY}")
        try:
            with h5py.File(path, "r") as file:
                self._read_header(file)
        except OSError as error:
            raise InputError(f"{path} cannot be read as HDF5 ({error}); it may be cut off. {_REMEDY}") from error
        # Mapped now, not at the first use: a file that is replaced in between would not fit the places just read.
        with path.open("rb") as raw:
            self._bytes = mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ)

    def _read_header(self, file: h5py.File) -> None:
        attributes = dict(file.attrs)
        if attributes.get("format") != FORMAT or attributes.get("version") != VERSION:
            raise InputError(
                f"{self.path} has format {attributes.get('format')!r} version {attributes.get('version')!r}, "
                f"but {FORMAT!r} version {VERSION} is needed. {_REMEDY}"
            )
        try:
            self.tag_style, self.digest = str(attributes["tag_style"]), str(attributes["digest"])
            self.report = json.loads(attributes["report"])
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise InputError(f"{self.path} has no readable attribute {error}. {_REMEDY}") from error
        self._places: dict[str, tuple[np.dtype, int, int]] = {}
        for name, dtype in (_COLUMNS | _OPTIONAL).items():
            if name in _OPTIONAL and name not in file:
                continue
            try:
                column = h5py.h5d.open(file.id, name.encode())
            except KeyError as error:
                raise InputError(f"{self.path} has no column {name!r}. {_REMEDY}") from error
            count, offset = column.shape[0], column.get_offset()
            stored = column.dtype if dtype is None else np.dtype(dtype)
            if stored != column.dtype or (count and offset is None):
                raise InputError(f"{self.path}: column {name!r} is not a contiguous array of {stored}. {_REMEDY}")
            self._places[name] = (stored, count, offset or 0)

    def _column(self, name: str) -> np.ndarray:
        dtype, count, offset = self._places[name]
        return np.frombuffer(self._bytes, dtype, count, offset) if count else np.empty(0, dtype)

    def _strings(self, name: str) -> list[str]:
        return [item.decode("utf-8") for item in self._column(name).tolist()]

    def __len__(self) -> int:
        return self._places["narration/video"][1]

    def __getstate__(self) -> dict[str, Any]:
        return {"path": str(self.path)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._open(Path(state["path"]))

    def __repr__(self) -> str:
        return f"Narrations({str(self.path)!r}: {len(self):,} narrations, {len(self.texts):,} texts)"

    @cached_property
    def videos(self) -> tuple[str, ...]:
        """`[V]` video ids, sorted."""
        return tuple(self._strings("video/id"))

    @cached_property
    def duration_s(self) -> Float64[np.ndarray, "videos"]:
        """`[V]` seconds, NaN where unknown."""
        return self._column("video/duration_s")

    @cached_property
    def splits(self) -> dict[str, np.ndarray]:
        """`split_em`, `split_fho` and `split_av`: `[V]` arrays of str, "" where there is none."""
        return {name: np.array(self._strings(f"video/{name}"), dtype=np.str_) for name in SPLITS}

    @cached_property
    def redacted(self) -> Bool[np.ndarray, "videos"]:
        """`[V]`, whether the video was withdrawn."""
        return self._column("video/redacted").astype(bool)

    @cached_property
    def video(self) -> Int32[np.ndarray, "narrations"]:
        """`[N]` index into `videos`."""
        return self._column("narration/video")

    @cached_property
    def second(self) -> Float64[np.ndarray, "narrations"]:
        """`[N]` seconds from the start of the video."""
        return self._column("narration/second")

    @cached_property
    def start_s(self) -> Float64[np.ndarray, "narrations"] | None:
        """`[N]` second at which a narration's own span starts; None where they have no spans."""
        return self._column("narration/start_s") if "narration/start_s" in self._places else None

    @cached_property
    def end_s(self) -> Float64[np.ndarray, "narrations"] | None:
        """`[N]` second at which it ends."""
        return self._column("narration/end_s") if "narration/end_s" in self._places else None

    @cached_property
    def passes(self) -> Int8[np.ndarray, "narrations"]:
        """`[N]` number of the annotation pass."""
        return self._column("narration/pass")

    @cached_property
    def text_id(self) -> Int32[np.ndarray, "narrations"]:
        """`[N]` index into `texts`."""
        return self._column("narration/text_id")

    @cached_property
    def written_id(self) -> Int32[np.ndarray, "narrations"]:
        """`[N]` index into `written`."""
        return self._column("narration/written_id")

    @cached_property
    def texts(self) -> Texts:
        """Distinct texts after tag substitution in the style `tag_style`, blanks folded."""
        return Texts(self._column("text/utf8"), self._column("text/offset"))

    @cached_property
    def verbs(self) -> GroupIds | None:
        """Numbers of the verbs of each of `texts`, as the csv had them; None where it had none."""
        return self._groups("verb")

    @cached_property
    def nouns(self) -> GroupIds | None:
        """The same of the nouns."""
        return self._groups("noun")

    def _groups(self, kind: str) -> GroupIds | None:
        if f"text/{kind}_offset" not in self._places:
            return None
        return GroupIds(self._column(f"text/{kind}"), self._column(f"text/{kind}_offset"))

    @cached_property
    def written(self) -> Texts:
        """Distinct texts as annotators wrote them."""
        return Texts(self._column("written/utf8"), self._column("written/offset"))

    @cached_property
    def written_words(self) -> Int16[np.ndarray, "written"]:
        """`[W]` words of each written text without its tags."""
        return self._column("written/words")
