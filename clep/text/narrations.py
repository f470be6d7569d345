"""Narrations on disk: opened in milliseconds whatever their number, read where they are used."""

import json
import mmap
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Bool, Float64, Int8, Int16, Int32

from clep.errors import InputError
from clep.text.group_numbers import GroupNumbers
from clep.text.table import FORMAT, SPLITS, VERSION
from clep.text.texts import Texts

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
    tags: str
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
            self.tags, self.digest = str(attributes["tags"]), str(attributes["digest"])
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
        """Distinct texts after tag substitution in the style `tags`, blanks folded."""
        return Texts(self._column("text/utf8"), self._column("text/offset"))

    @cached_property
    def verbs(self) -> GroupNumbers | None:
        """Numbers of the verbs of each of `texts`, as the csv had them; None where it had none."""
        return self._groups("verb")

    @cached_property
    def nouns(self) -> GroupNumbers | None:
        """The same of the nouns."""
        return self._groups("noun")

    def _groups(self, kind: str) -> GroupNumbers | None:
        if f"text/{kind}_offset" not in self._places:
            return None
        return GroupNumbers(self._column(f"text/{kind}"), self._column(f"text/{kind}_offset"))

    @cached_property
    def written(self) -> Texts:
        """Distinct texts as annotators wrote them."""
        return Texts(self._column("written/utf8"), self._column("written/offset"))

    @cached_property
    def written_words(self) -> Int16[np.ndarray, "written"]:
        """`[W]` words of each written text without its tags."""
        return self._column("written/words")
