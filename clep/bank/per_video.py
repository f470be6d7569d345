"""The published tutorial's layout, one HDF5 dataset per video: read where it is, or converted to a bank file."""

from pathlib import Path

import h5py
import numpy as np

from clep.bank.clock import Clock
from clep.bank.extent import Extent
from clep.bank.format import Shard, open_hdf5
from clep.bank.writer import BankWriter
from clep.errors import InputError


def looks_per_video(file: h5py.File) -> bool:
    """Whether an open file could be in the tutorial's layout: no `format`, and only datasets at its root."""
    return "format" not in file.attrs and len(file) > 0 and isinstance(file[next(iter(file))], h5py.Dataset)


def read_per_video(file: h5py.File, path: Path, clock: Clock | None) -> Shard:
    """Find the rows of every video of a tutorial file; its keys are listed once, in alphabetical order.

    Shape of a dataset: `[T, dim]` or `[T, 1, dim]`, floating point.

    Raises:
        InputError: no clock was given; a dataset of another shape, type or dim; names the file and the key.
    """
    if clock is None:
        raise InputError(
            f"{path} has one dataset per video and does not say which seconds its rows cover: pass "
            f"clock=Clock(rows_per_second=..., row_seconds=...); Clock() is that of Ego4D's features"
        )
    if clock.rows_per_second is None:
        raise InputError(f"{path} has no second per row, so its clock must be regular: Clock(rows_per_second=...)")
    ids = sorted(file)
    extents = [_extent(file[uid], path, uid) for uid in ids]
    for uid, extent in zip(ids, extents, strict=True):
        if extent.shape[1] != extents[0].shape[1]:
            raise InputError(
                f"{path}: video {uid!r} has rows of {extent.shape[1]} numbers, video {ids[0]!r} of "
                f"{extents[0].shape[1]}; remove the wrong one"
            )
    first_row = np.concatenate([[0], np.cumsum([extent.shape[0] for extent in extents])]).astype(np.int64)
    unknown = np.full(len(ids), np.nan)
    return Shard(path, tuple(extents), ids, first_row, unknown, clock, "", path.name)


def convert_per_video(
    path: str | Path,
    out: str | Path,
    clock: Clock,
    dtype: str = "float16",
    encoder: str = "",
) -> None:
    """Write a tutorial file as a bank file, one video at a time; the bank opens and gathers many times faster.

    Raises:
        InputError: as `read_per_video` and `BankWriter.add`.
    """
    path = Path(path)
    with open_hdf5(path) as file:
        shard = read_per_video(file, path, clock)
    total = int(shard.first_row[-1])
    with BankWriter(out, shard.dim, clock, dtype, encoder, source=path.name, n_rows=total) as writer:
        for uid, extent in zip(shard.ids, shard.rows, strict=True):
            writer.add(uid, (rows for _, rows in extent.blocks()))


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
