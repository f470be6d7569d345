"""Which verb or noun groups each text belongs to, as arrays."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32, Int64


@dataclass(frozen=True, eq=False)
class GroupNumbers:
    """Sets of group numbers, one a text, stored one after the other.

    Attributes:
        numbers: not negative; those of text `i` are `numbers[offsets[i] : offsets[i + 1]]`, ascending, each once.
        offsets: from 0, one more than there are texts.
    """

    numbers: Int32[np.ndarray, " entries"]
    offsets: Int64[np.ndarray, " bounds"]

    @classmethod
    def of(cls, sets: Iterable[Iterable[int]]) -> "GroupNumbers":
        """Store a set a text."""
        ordered = [sorted(set(numbers)) for numbers in sets]
        offsets = np.zeros(len(ordered) + 1, dtype=np.int64)
        np.cumsum([len(numbers) for numbers in ordered], out=offsets[1:])
        return cls(np.array([number for numbers in ordered for number in numbers], dtype=np.int32), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, text: int | np.integer) -> list[int]:
        return self.numbers[self.offsets[text] : self.offsets[text + 1]].tolist()

    @property
    def widest(self) -> int:
        """The most numbers of one text."""
        return int(np.diff(self.offsets).max(initial=0))

    def padded(self, width: int) -> Int32[np.ndarray, "texts width"]:
        """Return a row a text, its numbers first, then -1; `width` must be at least `widest`."""
        counts = np.diff(self.offsets)
        table = np.full((len(self), width), -1, dtype=np.int32)
        table[np.arange(width) < counts[:, None]] = self.numbers
        return table
