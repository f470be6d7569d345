"""Labelled clips of a zero-shot benchmark: ids, classes and labels; their features are in a bank."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from clep.errors import InputError
from clep.hdf5 import read_table_file, write_table_file

FORMAT = "clep-clips"
VERSION = 3


@dataclass(frozen=True)
class LabelledClips:
    """Clips with one label each (`label`) or several (`labels`), stored in one HDF5 file.

    Attributes:
        task: name of the benchmark, "kinetics" or "ego_charades".
        ids: clip ids; each is a video of the feature bank beside the file.
        classes: class names.
        label: class index of each clip, for single-label tasks.
        labels: multi-hot labels, for multi-label tasks. A clip without labels is a row of zeros.
        first_person: whether each clip is first-person video, if known.

    Raises:
        InputError: no class, a label out of range, a duplicate id, or columns of different lengths.

    Examples:
        >>> import numpy as np
        >>> from clep.data import LabelledClips
        >>> clips = LabelledClips("mine", ["clip0", "clip1"], ["cut", "wash"], label=np.array([1, 0]))
        >>> clips.write("my_clips.h5")
        >>> LabelledClips.open("my_clips.h5").label.tolist()
        [1, 0]
    """

    task: str
    ids: list[str]
    classes: list[str]
    label: Int64[np.ndarray, " clips"] | None = None
    labels: UInt8[np.ndarray, "clips classes"] | None = None
    first_person: Bool[np.ndarray, " flags"] | None = None

    def __post_init__(self) -> None:
        n = len(self.ids)
        if not self.classes:
            raise InputError(f"the clips of {self.task} have no classes; check the file of the class names")
        if (self.label is None) == (self.labels is None):
            raise ValueError("give either label (one per clip) or labels (a matrix), not both")
        if len(set(self.ids)) != n:
            repeated = next(name for name, times in Counter(self.ids).items() if times > 1)
            raise InputError(f"the clips of {self.task} have the duplicate id {repeated!r}; list each clip once")
        if any("\0" in name for name in self.ids):
            raise InputError(f"the clips of {self.task} have an id with the character NUL; rename the clip")
        if self.label is not None and (
            len(self.label) != n or (n and not 0 <= self.label.min() <= self.label.max() < len(self.classes))
        ):
            raise InputError(
                f"the {n} clips of {self.task} need one label each, from 0 to {len(self.classes) - 1}; make them again"
            )
        if self.labels is not None and self.labels.shape != (n, len(self.classes)):
            raise InputError(
                f"labels of {self.task} have shape {self.labels.shape}, expected {(n, len(self.classes))}; make them "
                f"again"
            )
        if self.first_person is not None and len(self.first_person) != n:
            raise InputError(
                f"first_person of {self.task} has {len(self.first_person)} values for {n} clips; make it again"
            )

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.ids)

    def write(self, path: str | Path) -> None:
        """Write the file atomically.

        Raises:
            InputError: the disk is full or the folder cannot be written to.
        """
        columns = {
            f"clip/{name}": column
            for name in ("label", "labels", "first_person")
            if (column := getattr(self, name)) is not None
        }
        texts = {"clip/id": self.ids, "class/name": self.classes}
        write_table_file(path, FORMAT, VERSION, {"task": self.task}, {**texts, **columns})

    @classmethod
    def open(cls, path: str | Path) -> "LabelledClips":
        """Read a file written by `write`.

        Raises:
            InputError: the file is missing, damaged, of another format, or of a newer version.
        """
        remedy = "make it with `python -m clep.preprocess kinetics` (or ego_charades)"
        table = read_table_file(path, FORMAT, VERSION, 2, "a file of labelled clips", remedy)
        columns: dict[str, Any] = table.columns
        try:
            return cls(
                task=table.attributes["task"],
                ids=columns["clip/id"],
                classes=columns["class/name"],
                label=columns.get("clip/label"),
                labels=columns.get("clip/labels"),
                first_person=columns.get("clip/first_person"),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{path} is damaged ({type(error).__name__}: {error}); {remedy}") from error
