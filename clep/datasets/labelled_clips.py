"""Labelled clips of a zero-shot benchmark: ids, classes and labels; their features are in a bank."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Bool, Int64, UInt8

from clep.checksums import check_digest, digest, warn_unverified
from clep.errors import InputError
from clep.files import atomic_path
from clep.hdf5 import open_hdf5

FORMAT = "clep-clips"
VERSION = 2


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
            name: column for name in ("label", "labels", "first_person") if (column := getattr(self, name)) is not None
        }
        with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
            file.attrs["format"] = np.bytes_(FORMAT)
            file.attrs["version"] = VERSION
            file.attrs["task"] = np.bytes_(self.task.encode())
            file.attrs["digest"] = np.bytes_(self._digest())
            for name, strings in (("clip/id", self.ids), ("class/name", self.classes)):
                encoded = [string.encode() for string in strings]
                # Fixed length, since damaged variable-length strings can put libhdf5 into an endless loop.
                dtype = h5py.string_dtype("utf-8", max([1, *map(len, encoded)]))
                file.create_dataset(name, data=np.array(encoded, dtype=dtype))
            for name, column in columns.items():
                file.create_dataset(f"clip/{name}", data=column)

    def _digest(self) -> str:
        columns = [getattr(self, name) for name in ("label", "labels", "first_person")]
        arrays = [np.zeros(0) if column is None else np.asarray(column) for column in columns]
        return digest(json.dumps([self.task, self.ids, self.classes]), *arrays)

    @classmethod
    def open(cls, path: str | Path) -> "LabelledClips":
        """Read a file written by `write`.

        Raises:
            InputError: the file is missing, damaged, of another format, or of a newer version.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(
                f"{path} does not exist; make it with `python -m clep.preprocess kinetics` (or ego_charades)"
            )
        try:
            with open_hdf5(path) as file:
                found, version = _text(file.attrs.get("format")), int(file.attrs.get("version", 0))
                if found != FORMAT or not 1 <= version <= VERSION:
                    raise InputError(
                        f"{path} is not a file of labelled clips (format {found!r}, version {version}); make it again"
                    )
                if version > 1 and any(file[name].dtype.kind != "S" for name in ("clip/id", "class/name")):
                    raise InputError(f"{path} cannot be read (its ids are not fixed-length strings); make it again")

                def column(name: str) -> np.ndarray | None:
                    return file[name][...] if name in file else None

                stored = _text(file.attrs.get("digest"))
                clips = cls(
                    task=_text(file.attrs["task"]),
                    ids=[str(name) for name in file["clip/id"].asstr()[...]],
                    classes=[str(name) for name in file["class/name"].asstr()[...]],
                    label=column("clip/label"),
                    labels=column("clip/labels"),
                    first_person=column("clip/first_person"),
                )
        except InputError:
            raise
        except (OSError, KeyError, ValueError, TypeError, RuntimeError, OverflowError, MemoryError) as error:
            raise InputError(f"{path} cannot be read ({error}); make it again") from error
        if version == 1:
            warn_unverified(path)
        else:
            check_digest(path, "its table of clips", stored, clips._digest())
        return clips


def _text(value: object) -> str:
    """Return an attribute as str; clep writes them as bytes of fixed length."""
    return value.decode() if isinstance(value, bytes) else str(value)
