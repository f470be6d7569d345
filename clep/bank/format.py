"""Bank file format: names of the datasets, checksums, and reading the tables of one file.

HDF5 with a user block. `rows` `[N, dim]` float16, float32 or uint8 (pixels), contiguous so that it can be
memory-mapped; `video/id` `[V]` fixed-length UTF-8; `video/first_row` `[V + 1]` int64, ascending; `video/duration_s`
`[V]` float64, NaN if unknown; `video/nonfinite_rows` `[V]` int64, only if some row holds NaN or infinity;
`row/second` `[N]` float64 for an irregular clock. Attributes: `format`, `version`, `rows_per_second` (NaN: no regular
grid), `row_seconds` (NaN as well: no clock, a bank of texts), `encoder`, `source`, `block_rows`.

Checksums (version 2): `row/block_digest` `[blocks]` uint64 is the XXH3 of each block of `block_rows` rows. The user
block, the first 4,096 bytes, is a text with the file's length, the byte range of the rows, and the digest of all other
bytes. It is verified before HDF5 parses anything, since libhdf5 can hang or crash on damaged metadata.
"""

import io
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
import xxhash
from jaxtyping import Int64, UInt64
from torch import Tensor

from clep.bank.clock import Clock
from clep.checksums import block_digest, check_digest, warn_unverified
from clep.errors import InputError
from clep.hdf5 import REMEDY, refuse_outside_storage

FORMAT, VERSION = "clep-bank", 2
ROWS, ROW_SECOND, BLOCK_DIGEST = "rows", "row/second", "row/block_digest"
VIDEO_ID, FIRST_ROW, DURATION, NONFINITE = "video/id", "video/first_row", "video/duration_s", "video/nonfinite_rows"
ROW_DTYPES = ("float16", "float32", "uint8")

HEADER_BYTES = 4096  # a page: rows stay aligned to pages
BLOCK_BYTES = 1 << 16  # rows under one digest; a short window reads little less from disk anyway
_READ_BYTES = 64 << 20
_MAGIC = f"{FORMAT} checksums 1"


@dataclass(frozen=True)
class Header:
    """The user block of a bank file.

    Attributes:
        length: file size in bytes.
        rows_begin, rows_end: byte range of the rows.
        digest: digest of all bytes after the user block except the rows. They include the digests of the rows, so it
            identifies the whole content.
    """

    length: int
    rows_begin: int
    rows_end: int
    digest: str

    def encode(self) -> bytes:
        """Encode as a user block: lines of text, the digest of these lines, zeros."""
        lines = f"{_MAGIC}\nbytes {self.length}\nrows {self.rows_begin} {self.rows_end}\nmetadata {self.digest}\n"
        return f"{lines}header {xxhash.xxh3_128_hexdigest(lines.encode())}\n".encode().ljust(HEADER_BYTES, b"\0")

    @classmethod
    def decode(cls, block: bytes, path: Path) -> "Header | None":
        """Parse a user block; None if it is none of ours, as in files of version 1.

        Raises:
            InputError: it is damaged.
        """
        if not block.startswith(FORMAT.encode()):
            return None
        if len(block) < HEADER_BYTES:
            raise InputError(f"{path} is truncated or damaged: it has {len(block):,} bytes; {REMEDY}")
        try:
            _, length, rows, metadata, _ = block.rstrip(b"\0").decode().splitlines()
            begin, end = rows.split()[1:]
            header = cls(int(length.split()[1]), int(begin), int(end), metadata.split()[1])
        except (ValueError, IndexError) as error:
            raise InputError(f"{path} is damaged: its header cannot be read; {REMEDY}") from error
        check_digest(path, "its header", header.encode(), block)
        return header


def write_header(path: Path, rows_begin: int, rows_end: int) -> None:
    """Digest the metadata of a finished bank file and write its user block."""
    length = path.stat().st_size
    with path.open("r+b", buffering=0) as file:
        digest = _metadata_digest(file, length, rows_begin, rows_end)
        file.seek(0)
        file.write(Header(length, rows_begin, rows_end, digest).encode())


def read_header(path: Path, content: io.RawIOBase | None = None) -> Header | None:
    """Read and verify the user block and the metadata of a bank file, but not the rows; None for version 1.

    Args:
        path: the file.
        content: the open file, where it is not a local one.

    Raises:
        InputError: the file cannot be read, is truncated, or is damaged.
    """
    try:
        with nullcontext(content) if content is not None else path.open("rb", buffering=0) as file:
            file.seek(0)
            header = Header.decode(_read_exactly(file, HEADER_BYTES), path)
            if header is None:
                return None
            length = file.seek(0, os.SEEK_END)
            if length != header.length:
                raise InputError(
                    f"{path} is truncated or damaged: it has {length:,} bytes of {header.length:,}; {REMEDY}"
                )
            found = _metadata_digest(file, length, header.rows_begin, header.rows_end)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    check_digest(path, "its metadata", header.digest, found)
    return header


def _metadata_digest(file: io.RawIOBase, length: int, rows_begin: int, rows_end: int) -> str:
    whole = xxhash.xxh3_128()
    for begin, end in ((HEADER_BYTES, rows_begin), (rows_end, length)):
        file.seek(begin)
        for at in range(begin, end, _READ_BYTES):
            whole.update(_read_exactly(file, min(_READ_BYTES, end - at)))
    return whole.hexdigest()


def _read_exactly(file: io.RawIOBase, count: int) -> bytes:
    """Read `count` bytes, fewer only at the end of the file."""
    parts = []
    while count and (part := file.read(count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


@dataclass(frozen=True)
class Extent:
    """Location of one numeric dataset in a file.

    Attributes:
        path, name: the file, and the dataset in it.
        shape: shape to read it in; a tutorial's `[T, 1, dim]` counts as `[T, dim]`.
        dtype: as stored.
        offset: byte of the file where its values begin; None if they cannot be memory-mapped (chunked, compressed, or
            in another byte order than this machine's).
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int | None

    @classmethod
    def of(cls, dataset: h5py.Dataset, path: Path, shape: tuple[int, ...] | None = None) -> "Extent":
        """Locate an open dataset, without keeping it open.

        Raises:
            InputError: its values lie in another file.
        """
        refuse_outside_storage(dataset, path)
        offset = None
        if dataset.id.get_create_plist().get_layout() == h5py.h5d.CONTIGUOUS:
            offset = dataset.id.get_offset()
        dtype = dataset.dtype
        if offset is not None and (offset % dtype.itemsize or not dtype.isnative):
            offset = None
        return cls(path, str(dataset.name).lstrip("/"), shape or dataset.shape, dtype, offset)

    def map(self, file_bytes: np.memmap) -> Tensor:
        """The dataset as a tensor over a mapped file, without a copy; writing to it crashes the process.

        Raises:
            InputError: the file ends before the dataset does; reading there would crash the process.
        """
        assert self.offset is not None
        size = int(np.prod(self.shape)) * self.dtype.itemsize
        if self.offset + size > len(file_bytes):
            raise InputError(f"{self.path} is truncated: '{self.name}' reaches beyond its end; {REMEDY}")
        values = file_bytes[self.offset : self.offset + size].view(self.dtype).reshape(self.shape)
        with warnings.catch_warnings():
            # PyTorch has no read-only tensors; no function of this package returns or writes to a mapped one.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            return torch.from_numpy(values)

    def blocks(self, digests: "RowDigests | None" = None) -> Iterator[tuple[int, np.ndarray]]:
        """The rows in order, in blocks of about 64 MB: index of the first row, and the rows.

        Args:
            digests: stored digests that the rows are compared with; None: they are not verified.

        Raises:
            InputError: the file cannot be read, or rows are damaged.
        """
        multiple = 1 if digests is None else digests.block_rows
        size = max(1, _READ_BYTES // max(1, int(np.prod(self.shape[1:])) * self.dtype.itemsize * multiple)) * multiple
        with h5py.File(self.path, "r", locking=False) as file:
            dataset = file[self.name]
            for start in range(0, self.shape[0], size):
                try:
                    rows = dataset[start : start + size]
                except OSError as error:
                    raise InputError(f"{self.path}: '{self.name}' cannot be read ({error}); copy it again") from error
                if digests is not None:
                    digests.check_run(start, rows)
                yield start, rows.reshape(-1, *self.shape[1:])


def map_file(path: Path) -> np.memmap:
    """Memory-map a file for reading: its pages are in the page cache, shared by all processes.

    The mapping is read-only, since Linux refuses copy-on-write mappings of files larger than the memory.
    """
    return np.memmap(path, mode="r", dtype=np.uint8)


class RowDigests:
    """Stored digests of the rows of one file, and which blocks of them this process has verified.

    Args:
        path: the file, for messages.
        block_rows: rows in a block; the last block may have fewer.
        digests: the stored digest of each block.
    """

    def __init__(self, path: Path, block_rows: int, digests: UInt64[np.ndarray, " blocks"]) -> None:
        self.path, self.block_rows, self.digests = path, block_rows, digests
        self.pending = np.ones(len(digests), dtype=bool)
        self.n_pending = len(digests)

    def check_block(self, block: int, rows: np.ndarray) -> None:
        """Compare the rows of one block, contiguous and little-endian, with their digest.

        Raises:
            InputError: they differ.
        """
        first = block * self.block_rows
        what = f"the data of rows {first:,} to {first + len(rows) - 1:,}"
        check_digest(self.path, what, int(self.digests[block]), block_digest(rows))
        self.n_pending -= int(self.pending[block])
        self.pending[block] = False

    def check_run(self, start: int, rows: np.ndarray) -> None:
        """Compare consecutive rows with their digests; `start`, the index of the first, must begin a block.

        Raises:
            InputError: a block differs.
        """
        rows = np.ascontiguousarray(rows, dtype=rows.dtype.newbyteorder("<"))
        for at in range(0, len(rows), self.block_rows):
            self.check_block((start + at) // self.block_rows, rows[at : at + self.block_rows])


class RowDigester:
    """Compute the block digests of a bank while it is written; the rows of a refused video can be rolled back.

    Args:
        row_bytes: bytes of a row.
    """

    def __init__(self, row_bytes: int) -> None:
        self.block_rows = max(1, BLOCK_BYTES // row_bytes)
        self._finished: list[int] = []
        self._open, self._rows = xxhash.xxh3_64(), 0
        self.keep()

    def update(self, rows: np.ndarray) -> None:
        """Update with the next rows, contiguous, in the stored dtype."""
        while len(rows):
            part = rows[: self.block_rows - self._rows]
            self._open.update(memoryview(part.view(np.uint8).reshape(-1).data))
            self._rows += len(part)
            rows = rows[len(part) :]
            if self._rows == self.block_rows:
                self._finished.append(self._open.intdigest())
                self._open, self._rows = xxhash.xxh3_64(), 0

    def keep(self) -> None:
        """Mark the present state: `forget` returns to it."""
        self._mark = len(self._finished), self._open.copy(), self._rows

    def forget(self) -> None:
        """Roll back the rows since `keep`."""
        kept, hasher, rows = self._mark
        del self._finished[kept:]
        self._open, self._rows = hasher.copy(), rows

    def finish(self) -> UInt64[np.ndarray, " blocks"]:
        """Digests of all blocks up to the last `keep`."""
        self.forget()
        return np.array([*self._finished, *([self._open.intdigest()] if self._rows else [])], dtype=np.uint64)


@dataclass(frozen=True)
class Shard:
    """Tables and metadata of one file of a bank, and the location of its rows.

    Attributes:
        rows: consecutive extents `[n, dim]`: one in a bank file, one per video in the tutorial's layout.
        ids: `[V]` video ids.
        first_row: `[V + 1]` int64, first row of each video, and the row count.
        duration_s: `[V]` float64 seconds.
        seconds: extent of `row/second`, for an irregular clock.
        digests: digests of the rows; None if the file has none.
        nonfinite_rows: `[V]` count of rows with NaN or infinity; None if they were not counted.
        content_digest: digest of tables and rows together; None if the file has none.
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
    digests: RowDigests | None = None
    nonfinite_rows: Int64[np.ndarray, " videos"] | None = None
    content_digest: str | None = None

    @property
    def dim(self) -> int:
        """Feature dimension."""
        return self.rows[0].shape[1]

    @property
    def identity(self) -> str:
        """Digest of the content, or name, size and time of a file without checksums; and the clock."""
        content = self.content_digest
        if content is None:
            status = self.path.stat()
            content = f"{self.path.name} {status.st_size} {status.st_mtime_ns}"
        return f"{content} {self.clock}"


def file_format(file: h5py.File) -> str | None:
    """The attribute `format` of a file, None if it has none."""
    value = file.attrs.get("format")
    return value.decode() if isinstance(value, bytes) else value if isinstance(value, str) else None


def read_shard(file: h5py.File, path: Path, header: Header | None = None) -> Shard:
    """Read the tables and metadata of one open bank file, but not its rows.

    Args:
        file, path: the open file.
        header: from `read_header`; None for files of version 1, which are read with a warning.

    Raises:
        InputError: another format, a newer version, a missing or contradictory key; names the file and the key.
    """
    if (found := file_format(file)) != FORMAT:
        raise InputError(f"{path} is not a bank: its attribute format is {found!r} where {FORMAT!r} is expected")
    version = int(_attribute(file, path, "version"))
    if version > VERSION:
        raise InputError(f"{path} has the bank format {version}; this clep reads up to {VERSION}: upgrade clep")
    if version > 1 and header is None:
        raise InputError(f"{path} is damaged: it lacks the header with its checksums; {REMEDY}")
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
            f"{len(first_row)} entries instead of V, V and V + 1; write it again"
        )
    if first_row[0] != 0 or first_row[-1] != rows.shape[0] or (np.diff(first_row) < 1).any():
        raise InputError(f"{path}: {FIRST_ROW} must rise from 0 to the {rows.shape[0]} rows of 'rows'; write it again")
    if len(set(ids)) < len(ids):
        duplicate = next(i for i in ids if ids.count(i) > 1)
        raise InputError(f"{path}: duplicate video id {duplicate!r} in {VIDEO_ID}; write it again")
    clock, seconds = _clock(file, path, rows.shape[0])
    encoder, source = _text(file, path, "encoder"), _text(file, path, "source")
    shard = Shard(path, (rows,), ids, first_row, duration_s, clock, encoder, source, seconds)
    if header is None:
        warn_unverified(path)
        return shard
    block_rows = int(_attribute(file, path, "block_rows"))
    digests = RowDigests(path, block_rows, _dataset(file, path, BLOCK_DIGEST, ndim=1)[()].astype(np.uint64))
    nonfinite = np.zeros(len(ids), dtype=np.int64)
    if NONFINITE in file:
        nonfinite = _dataset(file, path, NONFINITE, ndim=1)[()].astype(np.int64)
    return replace(shard, digests=digests, nonfinite_rows=nonfinite, content_digest=header.digest)


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
