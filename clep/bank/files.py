"""Files of a bank: one bank file, a folder of shards, or the tutorial's file with one dataset per video."""

import logging
import weakref
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np

from clep.bank.clock import Clock
from clep.bank.format import FORMAT, Extent, Shard, file_format, read_header, read_shard
from clep.errors import InputError
from clep.hdf5 import open_hdf5
from clep.remote import RemoteFile, is_remote

BANK_SUFFIXES = (".h5", ".hdf5")
_log = logging.getLogger(__name__)


class FileLengths:
    """Lengths of the files of an open bank, to detect truncation.

    Reading a mapped page beyond the end of its file kills the process (SIGBUS), so truncation of an open file must be
    detected before the read.
    """

    opened: ClassVar["weakref.WeakSet[FileLengths]"] = weakref.WeakSet()

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files = {path: _inode_and_size(path) for path in paths}
        FileLengths.opened.add(self)

    def check(self) -> None:
        """Compare the lengths with those at opening; a file that was replaced or deleted keeps its old pages.

        Raises:
            InputError: a file is shorter than when it was opened.
        """
        for path, (inode, length) in self._files.items():
            now, size = _inode_and_size(path)
            if now == inode and size < length:
                raise InputError(
                    f"{path} was truncated while it was in use: it has {size:,} bytes of {length:,}. Nothing may "
                    f"write to an open bank; make it again, or copy it again under another name and rename it"
                )


def check_open_banks() -> None:
    """Check that no file of the banks open in this process was truncated; costs one system call for each file.

    Raises:
        InputError: a file is shorter than when it was opened.
    """
    for lengths in list(FileLengths.opened):
        lengths.check()


def _inode_and_size(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_ino, found.st_size


def looks_per_video(file: h5py.File) -> bool:
    """Whether an open file may be in the tutorial's layout: no attribute `format`, and its first key is a dataset."""
    return "format" not in file.attrs and len(file) > 0 and isinstance(file[next(iter(file))], h5py.Dataset)


def read_per_video(file: h5py.File, path: Path, clock: Clock | None) -> Shard:
    """Read the table of videos of a tutorial file, in alphabetical order of its keys.

    Shape of a dataset: `[T, dim]` or `[T, 1, dim]`, floating point. Such files have no checksums.

    Raises:
        InputError: `clock` is None; a dataset has another shape, type or dim. The message names the file and the key.
    """
    if clock is None:
        raise InputError(
            f"{path} has one dataset per video and no clock: pass clock=Clock(rows_per_second=..., row_seconds=...); "
            f"Clock() is the clock of Ego4D's features"
        )
    if clock.rows_per_second is None:
        raise InputError(f"{path} has no seconds of rows, so pass a regular clock: Clock(rows_per_second=...)")
    ids = sorted(file)
    extents = [_extent(file[uid], path, uid) for uid in ids]
    for uid, extent in zip(ids, extents, strict=True):
        if extent.shape[1] != extents[0].shape[1]:
            raise InputError(
                f"{path}: video {uid!r} has the feature dimension {extent.shape[1]}, video {ids[0]!r} has "
                f"{extents[0].shape[1]}; remove the wrong one"
            )
    first_row = np.concatenate([[0], np.cumsum([extent.shape[0] for extent in extents])]).astype(np.int64)
    unknown = np.full(len(ids), np.nan)
    return Shard(path, tuple(extents), ids, first_row, unknown, clock, "", path.name)


def _extent(found: object, path: Path, uid: str) -> Extent:
    fault = None
    if not isinstance(found, h5py.Dataset):
        fault = "is a group"
    elif found.dtype.kind != "f":
        fault = f"holds {found.dtype}"
    elif found.ndim not in (2, 3) or (found.ndim == 3 and found.shape[1] != 1) or 0 in found.shape:
        fault = f"has the shape {list(found.shape)}"
    if fault is not None:
        raise InputError(
            f"{path}: {uid!r} {fault}, where floating-point rows [T, dim] of a video are expected; remove that key"
        )
    assert isinstance(found, h5py.Dataset)
    return Extent.of(found, path, (found.shape[0], found.shape[-1]))


def read_shards(path: Path, clock: Clock | None = None) -> list[Shard]:
    """Read and verify the tables and metadata of all files of a bank, in the order of their names; not the rows.

    Args:
        path: a bank file; a folder of bank files, in which other HDF5 files and hidden files are ignored; or a file in
            the tutorial's layout.
        clock: required for the tutorial's layout; if the bank stores a clock, None or equal to it.

    Raises:
        InputError: there is no bank, a file is unreadable or damaged, or two files differ in clock, dim or encoder or
            share a video; the message names both files and their values.
    """
    shards = _read_folder(path) if path.is_dir() else [_read_file(path, clock)]
    first = shards[0]
    if clock is not None and first.clock != clock:
        raise InputError(f"{first.path} has the clock ({first.clock}), not ({clock}): leave clock out to use its own")
    facts: dict[str, Callable[[Shard], object]] = {
        "dim": lambda s: s.dim,
        "clock": lambda s: s.clock,
        "encoder": lambda s: s.encoder,
    }
    for other in shards[1:]:
        for name, fact in facts.items():
            if fact(first) != fact(other):
                raise InputError(
                    f"{first.path} and {other.path} differ in {name}: {fact(first)} and {fact(other)}. "
                    f"Shards of one bank must agree: move one of them out of the folder, or write it again"
                )
    if len(shards) > 1:
        _check_distinct(shards)
    return shards


def join_shards(shards: list[Shard]) -> Shard:
    """Join the tables and the extents of the files of a bank, in this order; without seconds of rows and digests."""
    n_rows = np.concatenate([np.diff(shard.first_row) for shard in shards])
    counts = [shard.nonfinite_rows for shard in shards if shard.nonfinite_rows is not None]
    return replace(
        shards[0],
        rows=tuple(extent for shard in shards for extent in shard.rows),
        ids=[uid for shard in shards for uid in shard.ids],
        first_row=np.concatenate([[0], n_rows.cumsum()]),
        duration_s=np.concatenate([shard.duration_s for shard in shards]),
        source="; ".join(dict.fromkeys(shard.source for shard in shards if shard.source)),
        seconds=None,
        digests=None,
        nonfinite_rows=np.concatenate(counts) if len(counts) == len(shards) else None,
        content_digest=None,
    )


def _read_file(path: Path, clock: Clock | None) -> Shard:
    header = read_header(path) if path.is_file() else None
    with open_hdf5(path, check_storage=False) as file:
        if header is None and looks_per_video(file):
            return read_per_video(file, path, clock)
        return read_shard(file, path, header)


def read_tables(path: str | Path) -> Shard:
    """Read and verify the tables and metadata of one bank file, but not its rows; of a remote one by range requests.

    Raises:
        InputError: the file is missing, damaged, or not a bank.
    """
    with RemoteFile(path) if is_remote(path) else nullcontext() as content:
        path = Path(path)
        header = read_header(path, content)
        with open_hdf5(path, check_storage=False, content=content) as file:
            return read_shard(file, path, header)


def _read_folder(folder: Path) -> list[Shard]:
    shards = []
    for path in sorted(folder.glob("*.h5"), key=lambda p: p.name):
        if path.name.startswith("."):
            continue
        header = read_header(path)
        with open_hdf5(path, check_storage=False) as file:
            if header is not None or file_format(file) == FORMAT:
                shards.append(read_shard(file, path, header))
            else:
                _log.info("ignored %s: not a bank (format %r)", path, file_format(file))
    if not shards:
        raise InputError(f"the folder {folder} holds no bank: no *.h5 file there has the format {FORMAT!r}")
    return shards


def _check_distinct(shards: list[Shard]) -> None:
    owner: dict[str, Path] = {}
    for shard in shards:
        for uid in shard.ids:
            if uid in owner:
                raise InputError(
                    f"video {uid!r} is in both {owner[uid]} and {shard.path}; video ids of a bank are unique: "
                    f"remove one of the files"
                )
            owner[uid] = shard.path
