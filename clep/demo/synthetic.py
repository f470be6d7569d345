"""Base class of the synthetic datasets: settings, and a folder that is generated once and then reused."""

import hashlib
import json
import shutil
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from clep.checksums import read_checked_json, write_checked_json
from clep.compute.locks import file_lock
from clep.config.check import check_call
from clep.demo.encoder import EncoderSettings
from clep.demo.feature_files import FEATURE_DTYPES
from clep.errors import InputError
from clep.files import flush_files, read_json, write_json

DESCRIPTION = "dataset.json"
_UNFINISHED = "dataset.part.json"

DatasetT = TypeVar("DatasetT", bound="SyntheticDataset")


@dataclass(frozen=True)
class SyntheticDataset(ABC):
    """Settings of a synthetic dataset, which `make` generates in a folder.

    Subclasses are frozen dataclasses whose fields are the settings. They check these in `check`, and write the data in
    `generate`, which keeps files that exist.

    Raises:
        InputError: a setting is out of range; the message names it.
    """

    format: ClassVar[str]
    """Name of the kind of dataset in dataset.json."""
    version: ClassVar[int] = 1
    """Version of the generated data; datasets of another version are not reused."""
    folders: ClassVar[tuple[str, ...]]
    """Subfolders that a dataset of this kind has beside dataset.json."""

    def __post_init__(self) -> None:
        for item in fields(self):
            if isinstance(item.default, float):  # 210 and 210.0 are equal settings and need equal digests
                object.__setattr__(self, item.name, float(getattr(self, item.name)))
        self.check()

    @abstractmethod
    def check(self) -> None:
        """Raise an InputError for a setting that is out of range."""

    @abstractmethod
    def generate(self, folder: Path, seed: int, progress: bool) -> dict[str, Any]:
        """Write the data into the subfolders of `folder` and return counts of what is in them."""

    def make(self, out: str | Path, seed: int = 0, progress: bool = True) -> dict[str, Any]:
        """Generate the dataset in the folder `out`, or reuse the complete one there.

        dataset.json, with settings, seed, their digest and counts, is written last: without it a dataset is incomplete,
        and the same call continues it. Concurrent calls wait for the first one.

        Returns:
            The counts of dataset.json, their `bytes`, and `folder`.

        Raises:
            InputError: the folder holds a complete dataset of other settings or of another kind, or files that are not
                a synthetic dataset. Nothing is changed then.
        """
        out = Path(out)
        with file_lock(out / DESCRIPTION):
            digest = self.digest(seed)
            if (out / DESCRIPTION).exists():
                found = self.read(out)
                if found["digest"] != digest:
                    raise InputError(
                        f"{out / DESCRIPTION} describes a synthetic dataset of other settings or another seed (seed "
                        f"{found['seed']}, requested {seed}); choose another folder, or delete {out}"
                    )
                return {**found["counts"], "folder": str(out)}
            self._claim(out, digest)
            counts = self.generate(out, seed, progress)
            files = [file for name in self.folders for file in (out / name).rglob("*") if file.is_file()]
            counts["bytes"] = sum(file.stat().st_size for file in files)
            flush_files(files)
            described = {"seed": seed, "settings": self.as_dict(), "digest": digest, "counts": counts}
            write_checked_json(out / DESCRIPTION, {"format": self.format, "version": self.version, **described})
            (out / _UNFINISHED).unlink()
            return {**counts, "folder": str(out)}

    @classmethod
    def read(cls, folder: str | Path) -> dict[str, Any]:
        """Read the dataset.json of a complete dataset of this kind: `seed`, `settings`, `digest` and `counts`.

        Raises:
            InputError: there is none, or it is of another kind or version.
        """
        path = Path(folder) / DESCRIPTION
        content = read_checked_json(path, "generate the dataset again")
        if content.get("format") != cls.format or content.get("version") != cls.version:
            raise InputError(f"{path} is not a {cls.format} of version {cls.version}; generate one in another folder")
        return content

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls: type[DatasetT], values: dict[str, Any]) -> DatasetT:
        """Rebuild settings from `as_dict`, or from some of its values; the others keep their defaults.

        Raises:
            InputError: a name is unknown, or a value has the wrong type or is out of range.
        """
        values = dict(values)
        if isinstance(values.get("encoder"), dict):
            check_call(EncoderSettings, values["encoder"], "encoder")
            values["encoder"] = EncoderSettings(**{**cls().as_dict()["encoder"], **values["encoder"]})
        check_call(cls, values, "")
        return cls(**values)

    def digest(self, seed: int) -> str:
        """Return the digest of kind, version, settings and seed, which determine the data."""
        text = json.dumps([self.format, self.version, seed, self.as_dict()], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def _claim(self, out: Path, digest: str) -> None:
        """Mark the folder as an incomplete dataset; delete what a stopped call with other settings left."""
        marker = out / _UNFINISHED
        if marker.exists():
            if read_json(marker).get("digest") == digest:
                return
            for name in self.folders:
                shutil.rmtree(out / name, ignore_errors=True)
        else:
            foreign = [name for name in self.folders if (out / name).exists() and any((out / name).iterdir())]
            if foreign:
                raise InputError(
                    f"{out / foreign[0]} holds files that are not a synthetic dataset; choose an empty folder"
                )
        write_json(marker, {"digest": digest})

    def _check_range(self, name: str, low: int, high: int | None = None) -> None:
        value = getattr(self, name)
        if value < low or (high is not None and value > high):
            allowed = f"at least {low}" if high is None else f"in {low} … {high}"
            raise InputError(f"{type(self).__name__}: {name} must be {allowed}, got {value}")

    def _check_lengths(self, low: int, shortest_s: float | int, longest_s: float | int) -> None:
        if not low <= shortest_s <= longest_s:
            raise InputError(
                f"{type(self).__name__}: need {low} <= shortest_s <= longest_s, got {shortest_s} and {longest_s}"
            )

    def _check_dtype(self, feature_dtype: str) -> None:
        if feature_dtype not in FEATURE_DTYPES:
            raise InputError(
                f"{type(self).__name__}: feature_dtype must be one of {FEATURE_DTYPES}, got {feature_dtype!r}"
            )


def make_dataset(dataset: SyntheticDataset, out: str | Path, seed: int = 0, progress: bool = True) -> dict[str, Any]:
    """Generate a synthetic dataset in the folder `out`, or reuse the complete one there: `dataset.make(…)`."""
    return dataset.make(out, seed, progress)
