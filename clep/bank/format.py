"""The bank file: its HDF5 names, and reading everything of one file but its rows.

`rows` `[N, dim]` float16, float32 or uint8 (pixels), contiguous so that it can be memory-mapped; `video/id` `[V]`
utf-8; `video/first_row` `[V + 1]` int64, ascending; `video/duration_s` `[V]` float64, NaN where unknown; `row/second`
`[N]` float64 for an irregular clock. Attributes: `format`, `version`, `rows_per_second` (NaN: no regular grid),
`row_seconds` (NaN too: no clock at all, a bank of texts), `encoder`, `source`.
"""

import hashlib
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from clep.bank.clock import Clock
from clep.errors import InputError

_BLOCK_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Extent:
    """One numeric dataset of a file, found and closed again.

    Attributes:
        path, name: the file, and the dataset in it.
        shape: as it is to be read; a tutorial's `[T, 1, dim]` counts as `[T, dim]`.
        dtype: as stored.
        offset: byte of the file where its values begin; None where they are chunked, compressed, external, or not
            in the byte order of this machine, so that they cannot be memory-mapped.
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int | None

    @classmethod
    def of(cls, dataset: h5py.Dataset, path: Path, shape: tuple[int, ...] | None = None) -> "Extent":
        """Look at an open dataset; nothing of it is kept open."""
        created = dataset.id.get_create_plist()
        offset = None
        if created.get_layout() == h5py.h5d.CONTIGUOUS and created.get_external_count() == 0:
            offset = dataset.id.get_offset()
        dtype = dataset.dtype
        if offset is not None and (offset % dtype.itemsize or not dtype.isnative):
            offset = None
        return cls(path, str(dataset.name).lstrip("/"), shape or dataset.shape, dtype, offset)

    def map(self, file_bytes: np.memmap) -> Tensor:
        """The dataset as a tensor over a mapped file: no copy, and writing to it is an error of the process."""
        assert self.offset is not None
        size = int(np.prod(self.shape)) * self.dtype.itemsize
        values = file_bytes[self.offset : self.offset + size].view(self.dtype).reshape(self.shape)
        with warnings.catch_warnings():
            # Tensors cannot be read-only; no function of this folder hands out or writes to a mapped one.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            return torch.from_numpy(values)

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """The rows in order, in blocks of some 64 MB: the first row's number, and the rows."""
        size = max(1, _BLOCK_BYTES // max(1, int(np.prod(self.shape[1:])) * self.dtype.itemsize))
        with h5py.File(self.path, "r", locking=False) as file:
            dataset = file[self.name]
            for start in range(0, self.shape[0], size):
                try:
                    rows = dataset[start : start + size]
                except OSError as error:
                    raise InputError(f"{self.path}: '{self.name}' cannot be read ({error}); copy it again") from error
                yield start, rows.reshape(-1, *self.shape[1:])


def map_file(path: Path) -> np.memmap:
    """Map a whole file for reading: its pages belong to the system's cache and are shared by all processes.

    The mapping is read-only rather than copy-on-write, which Linux refuses for files larger than its memory.
    """
    return np.memmap(path, mode="r", dtype=np.uint8)


FORMAT, VERSION = "clep-bank", 1
ROWS, ROW_SECOND = "rows", "row/second"
VIDEO_ID, FIRST_ROW, DURATION = "video/id", "video/first_row", "video/duration_s"
ROW_DTYPES = ("float16", "float32", "uint8")


@dataclass(frozen=True)
class Shard:
    """What one file of a bank says about itself, its rows aside.

    Attributes:
        rows: extents of `[n, dim]` that follow each other; one in a bank file, one per video in the tutorial's layout.
        ids: `[V]` video ids. first_row: `[V + 1]` int64. duration_s: `[V]` float64 seconds.
        seconds: the extent of `row/second`, for an irregular clock.
    """

    path: Path
    rows: tuple[Extent, ...]
    ids: list[str]
    first_row: np.ndarray
    duration_s: np.ndarray
    clock: Clock | None
    encoder: str
    source: str
    seconds: Extent | None = None

    @property
    def dim(self) -> int:
        """Numbers in a row."""
        return self.rows[0].shape[1]


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading, without a lock.

    Raises:
        InputError: it does not exist, cannot be read, is not HDF5 or is truncated.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist")
    try:
        file = h5py.File(path, "r", locking=False)
    except OSError as error:
        if not path.is_file():
            raise InputError(f"{path} is not a file") from error
        try:
            known = h5py.is_hdf5(path)
        except OSError:
            known = False
        state = "is truncated or damaged" if known else "is not an HDF5 file, or is truncated"
        raise InputError(f"{path} {state} ({error}); copy it again or run the job that wrote it") from error
    with file:
        yield file


def file_format(file: h5py.File) -> str | None:
    """The attribute `format` of a file, None where it has none."""
    value = file.attrs.get("format")
    return value.decode() if isinstance(value, bytes) else value if isinstance(value, str) else None


def read_shard(file: h5py.File, path: Path) -> Shard:
    """Read all of one open bank file but its rows.

    Raises:
        InputError: another format, a newer version, something missing or contradictory; names the file and the key.
    """
    if (found := file_format(file)) != FORMAT:
        raise InputError(f"{path} is not a bank: its attribute format is {found!r} where {FORMAT!r} is expected")
    version = int(_attribute(file, path, "version"))
    if version > VERSION:
        raise InputError(f"{path} has the bank format {version}; this clep reads up to {VERSION}: upgrade clep")
    rows = Extent.of(_dataset(file, path, ROWS, ndim=2), path)
    if rows.dtype.name not in ROW_DTYPES:
        raise InputError(
            f"{path}: 'rows' is {rows.dtype.name}; a bank stores {' or '.join(ROW_DTYPES)}: write it again"
        )
    first_row = _dataset(file, path, FIRST_ROW, ndim=1)[()].astype(np.int64)
    ids = [uid.decode() for uid in _dataset(file, path, VIDEO_ID, ndim=1)[()].tolist()]
    duration_s = _dataset(file, path, DURATION, ndim=1)[()].astype(np.float64)
    if not len(ids) == len(duration_s) == len(first_row) - 1:
        raise InputError(
            f"{path}: {VIDEO_ID}, {DURATION} and {FIRST_ROW} have {len(ids)}, {len(duration_s)} and "
            f"{len(first_row)} entries, where V, V and V + 1 are expected; write it again"
        )
    if first_row[0] != 0 or first_row[-1] != rows.shape[0] or (np.diff(first_row) < 1).any():
        raise InputError(f"{path}: {FIRST_ROW} must rise from 0 to the {rows.shape[0]} rows of 'rows'; write it again")
    if len(set(ids)) < len(ids):
        double = next(i for i in ids if ids.count(i) > 1)
        raise InputError(f"{path}: the video id {double!r} occurs twice in {VIDEO_ID}; write it again")
    clock, seconds = _clock(file, path, rows.shape[0])
    return Shard(
        path,
        (rows,),
        ids,
        first_row,
        duration_s,
        clock,
        _text(file, path, "encoder"),
        _text(file, path, "source"),
        seconds,
    )


def _clock(file: h5py.File, path: Path, n_rows: int) -> tuple[Clock | None, Extent | None]:
    rate = float(_attribute(file, path, "rows_per_second"))
    row_seconds = float(_attribute(file, path, "row_seconds"))
    if not math.isnan(rate):
        return Clock(rate, row_seconds), None
    if ROW_SECOND not in file:
        if math.isnan(row_seconds):
            return None, None
        raise InputError(f"{path} has neither the attribute 'rows_per_second' nor the dataset '{ROW_SECOND}'")
    seconds = Extent.of(_dataset(file, path, ROW_SECOND, ndim=1), path)
    if seconds.shape != (n_rows,) or seconds.dtype != np.float64:
        raise InputError(
            f"{path}: '{ROW_SECOND}' must be float64 [{n_rows}], not {seconds.dtype.name} {list(seconds.shape)}"
        )
    return Clock.irregular(row_seconds), seconds


def _attribute(file: h5py.File, path: Path, name: str) -> Any:
    if name not in file.attrs:
        raise InputError(f"{path} lacks the attribute {name!r}; it was not written by BankWriter: write it again")
    return file.attrs[name]


def _text(file: h5py.File, path: Path, name: str) -> str:
    value = _attribute(file, path, name)
    return value.decode() if isinstance(value, bytes) else str(value)


def _dataset(file: h5py.File, path: Path, name: str, ndim: int) -> h5py.Dataset:
    found = file.get(name)
    if not isinstance(found, h5py.Dataset) or found.ndim != ndim:
        raise InputError(f"{path} lacks the {ndim}-dimensional dataset {name!r}; write it again")
    return found


FileFacts = list[str | int]  # name, bytes, nanoseconds of the last change


def bank_files(path: Path) -> list[FileFacts]:
    """Name, size and time of the last change of each file of a bank, in order."""
    files = sorted(path.glob("[!.]*.h5"), key=lambda p: p.name) if path.is_dir() else [path]
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]


class RowsDigest:
    """Digest of the rows of a bank, fed in order, and of its tables."""

    def __init__(self) -> None:
        self._digest = hashlib.blake2b(digest_size=16)

    def add(self, rows: np.ndarray) -> None:
        """The next rows, little-endian and contiguous."""
        self._digest.update(rows.reshape(-1).view(np.uint8).data)

    def finish(self, shards: Sequence[Shard]) -> str:
        """The digest as 32 hex digits."""
        for shard in shards:
            self._digest.update(repr((shard.ids, str(shard.clock), shard.encoder, shard.source)).encode())
            self._digest.update(shard.first_row.astype("<i8").tobytes())
            self._digest.update(shard.duration_s.astype("<f8").tobytes())
            for _, block in shard.seconds.blocks() if shard.seconds is not None else ():
                self._digest.update(block.astype("<f8").tobytes())
        return self._digest.hexdigest()


def rows_digest(shards: Sequence[Shard]) -> str:
    """Read all rows of a bank and digest them."""
    digest = RowsDigest()
    for shard in shards:
        for extent in shard.rows:
            for _, block in extent.blocks():
                digest.add(np.ascontiguousarray(block, dtype=block.dtype.newbyteorder("<")))
    return digest.finish(shards)
