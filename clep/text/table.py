"""The narrations of many videos as columns, and the file that holds them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Bool, Float64, Int8, Int16, Int32

from clep.errors import InputError
from clep.files import atomic_path
from clep.text.group_numbers import GroupNumbers
from clep.text.tags import TAG_STYLES
from clep.text.texts import Texts

FORMAT, VERSION = "clep-narrations", 1
SPLITS = ("split_em", "split_fho", "split_av")


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
        texts: distinct texts after tag substitution in the style `tags`, blanks folded.
        written: distinct texts as annotators wrote them.
        written_words: `[W]` words of each written text without its tags.
        tags: one of `TAG_STYLES`.
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
    tags: str = "clean"
    report: dict[str, int] = field(default_factory=dict)
    start_s: Float64[np.ndarray, "narrations"] | None = None
    end_s: Float64[np.ndarray, "narrations"] | None = None
    verbs: GroupNumbers | None = None
    nouns: GroupNumbers | None = None

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
            f"tags is {self.tags!r}, not one of {', '.join(TAG_STYLES)}": self.tags not in TAG_STYLES,
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
            file.attrs.update({"format": FORMAT, "version": VERSION, "tags": self.tags, "digest": self.digest})
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
