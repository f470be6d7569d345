"""Compact arrays for millions of texts: strings as one block of bytes, and one set of ids per text."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import overload

import numpy as np
import pyarrow as pa
from jaxtyping import Int32, Int64, Integer, UInt8

from clep.columns import buffers, string_array


class Texts(Sequence[str]):
    """Read-only sequence of strings, decoded on access.

    Args:
        blob: `[bytes]` uint8, all texts concatenated in UTF-8.
        offsets: `[n + 1]` int64; text i is `blob[offsets[i] : offsets[i + 1]]`.

    Both may be views of a memory-mapped file.

    Examples:
        >>> from clep.text import Texts
        >>> texts = Texts.of(["opens the fridge", "washes the cup"])
        >>> texts[1], len(texts)
        ('washes the cup', 2)
    """

    def __init__(self, blob: UInt8[np.ndarray, "bytes"], offsets: Int64[np.ndarray, "bounds"]):
        self.blob, self.offsets = blob, offsets

    @classmethod
    def of(cls, strings: Iterable[str]) -> "Texts":
        """Encode strings. A lone surrogate, which UTF-8 cannot represent, becomes "?"."""
        encoded = [string.encode("utf-8", "replace") for string in strings]
        offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
        np.cumsum([len(item) for item in encoded], out=offsets[1:])
        return cls(np.frombuffer(b"".join(encoded), dtype=np.uint8), offsets)

    @classmethod
    def from_arrow(cls, strings: pa.LargeStringArray) -> "Texts":
        """Share the memory of an Arrow array without nulls."""
        offsets, blob = buffers(strings)
        return cls(blob, offsets)

    def to_arrow(self) -> pa.LargeStringArray:
        """Return an Arrow array that shares the memory."""
        return string_array(self.offsets, self.blob)

    def digest(self) -> str:
        """Return the hexadecimal SHA-256 of the texts in order."""
        return sha256(self.offsets.astype("<i8").tobytes() + self.blob.tobytes()).hexdigest()

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | np.integer | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = int(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"text {position} of {len(self)}")
        position %= len(self)
        return self.blob[self.offsets[position] : self.offsets[position + 1]].tobytes().decode("utf-8")

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Texts):
            return np.array_equal(self.offsets, other.offsets) and np.array_equal(self.blob, other.blob)
        return isinstance(other, Sequence) and not isinstance(other, str) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Texts({len(self):,} texts, {len(self.blob):,} bytes)"


@dataclass(frozen=True, eq=False)
class GroupIds:
    """One set of group ids per text, concatenated.

    Attributes:
        ids: `[entries]`, 0 or more; the set of text `i` is `ids[offsets[i] : offsets[i + 1]]`, ascending.
        offsets: `[texts + 1]`, from 0.

    Examples:
        >>> from clep.text import GroupIds
        >>> verbs = GroupIds.of([[3], [], [1, 4]])
        >>> verbs.padded(2).tolist()
        [[3, -1], [-1, -1], [1, 4]]
    """

    ids: Int32[np.ndarray, " entries"]
    offsets: Int64[np.ndarray, " bounds"]

    @classmethod
    def of(cls, sets: Iterable[Iterable[int]]) -> "GroupIds":
        """Store one set per text."""
        ordered = [sorted(set(ids)) for ids in sets]
        offsets = np.zeros(len(ordered) + 1, dtype=np.int64)
        np.cumsum([len(ids) for ids in ordered], out=offsets[1:])
        return cls(np.array([one for ids in ordered for one in ids], dtype=np.int32), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, text: int | np.integer) -> list[int]:
        return self.ids[self.offsets[text] : self.offsets[text + 1]].tolist()

    @property
    def widest(self) -> int:
        """Size of the largest set."""
        return int(np.diff(self.offsets).max(initial=0))

    def take(self, index: Integer[np.ndarray, " chosen"]) -> "GroupIds":
        """Return the sets at `index`; -1 gives an empty set."""
        counts = np.append(np.diff(self.offsets), 0)[index]
        offsets = np.zeros(len(index) + 1, dtype=np.int64)
        np.cumsum(counts, out=offsets[1:])
        source = np.arange(offsets[-1]) + np.repeat(self.offsets[index] - offsets[:-1], counts)
        return GroupIds(self.ids[source], offsets)

    def padded(self, width: int) -> Int32[np.ndarray, "texts width"]:
        """Return one row per text: its ids, padded with -1; `width` must be at least `widest`."""
        counts = np.diff(self.offsets)
        table = np.full((len(self), width), -1, dtype=np.int32)
        table[np.arange(width) < counts[:, None]] = self.ids
        return table


def distinct_texts(texts: Sequence[str]) -> tuple[list[str], Int64[np.ndarray, " texts"]]:
    """Return each text once, in order of appearance, and the index of each text among them."""
    position: dict[str, int] = {}
    index = np.array([position.setdefault(text, len(position)) for text in texts], dtype=np.int64)
    return list(position), index
