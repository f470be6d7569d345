"""Building the LMDB of a bank."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clep.bank import lmdb_file as names
from clep.bank.clock import Clock
from clep.bank.files import read_shards
from clep.bank.format import ROW_DTYPES, RowsDigest, Shard, bank_files
from clep.bank.storage import read_seconds
from clep.errors import InputError
from clep.files import atomic_path

_COMMIT_BYTES = 64 << 20


def build_lmdb(path: str | Path, out: str | Path | None = None, clock: Clock | None = None) -> Path:
    """Write the rows and tables of a bank into an LMDB, for `FeatureBank.open(path, device="lmdb")`.

    It is made under a temporary name and renamed when whole. It takes about as much room as the bank.

    Args:
        path: the bank: a file, a folder of shards, or a tutorial file with its `clock`.
        out: where to; None for the place where `FeatureBank.open` looks, `features.lmdb` beside `features.h5`.

    Returns:
        Where it is.

    Raises:
        InputError: the bank cannot be read, holds none of float16, float32 and uint8, or the disk is full.
    """
    path = Path(path).absolute()
    target = names.lmdb_path(path) if out is None else Path(out).absolute()
    if path.suffix == names.LMDB_SUFFIX or target.suffix != names.LMDB_SUFFIX:
        raise InputError(f"an LMDB is made from a bank (.h5) and named *.lmdb, not {target} from {path}")
    lmdb = names.import_lmdb()
    # Looked at before the rows are read: a bank that changes meanwhile counts as changed.
    files, shards = bank_files(path), read_shards(path, clock)
    extents = [extent for shard in shards for extent in shard.rows]
    dtype = extents[0].dtype.newbyteorder("=")
    if dtype.name not in ROW_DTYPES or any(extent.dtype.newbyteorder("=") != dtype for extent in extents):
        raise InputError(f"{path} stores {dtype.name}, or several types; an LMDB holds one of {', '.join(ROW_DTYPES)}")
    dim, n_rows = shards[0].dim, sum(extent.shape[0] for extent in extents)
    block_rows = max(1, names.BLOCK_BYTES // (dim * dtype.itemsize))
    digest = RowsDigest()
    with atomic_path(target) as temporary:
        size = n_rows * dim * dtype.itemsize
        try:
            with lmdb.open(
                str(temporary), subdir=False, lock=False, map_size=2 * size + n_rows * 512 + (64 << 20), max_dbs=0
            ) as environment:
                _put_rows(environment, _blocks(shards, block_rows, dtype.newbyteorder("<"), digest))
                with environment.begin(write=True) as transaction:
                    for key, value in _tables(shards).items():
                        transaction.put(key, value)
                about = _about(shards, block_rows, dtype.name, n_rows)
                about |= {"bank": path.name, "files": files, "digest": digest.finish(shards)}
                with environment.begin(write=True) as transaction:
                    transaction.put(names.ABOUT, json.dumps(about).encode())
                environment.sync(True)
                used = names.bytes_used(environment)
            if temporary.stat().st_size < used:  # pages at the end that hold nothing were not written
                os.truncate(temporary, used)
        except lmdb.Error as error:
            raise InputError(f"cannot write {target}: {error}. Free some space, or choose another folder") from error
    return target


def _put_rows(environment: Any, blocks: Iterator[np.ndarray]) -> None:
    transaction, waiting = environment.begin(write=True), 0
    try:
        for number, block in enumerate(blocks):
            transaction.put(names.block_key(number), block.reshape(-1).view(np.uint8).data, append=True)
            waiting += block.nbytes
            if waiting >= _COMMIT_BYTES:
                transaction.commit()
                transaction, waiting = environment.begin(write=True), 0
        transaction.commit()
    except BaseException:
        transaction.abort()
        raise


def _blocks(shards: list[Shard], block_rows: int, dtype: np.dtype, digest: RowsDigest) -> Iterator[np.ndarray]:
    """All rows in order, `block_rows` at a time."""
    left = np.empty((0, shards[0].dim), dtype=dtype)
    for shard in shards:
        for extent in shard.rows:
            for _, part in extent.blocks():
                rows = np.ascontiguousarray(part, dtype=dtype)
                digest.add(rows)
                rows = np.concatenate([left, rows]) if len(left) else rows
                whole = len(rows) // block_rows * block_rows
                for begin in range(0, whole, block_rows):
                    yield rows[begin : begin + block_rows]
                left = rows[whole:].copy()
    if len(left):
        yield left


def _tables(shards: list[Shard]) -> dict[bytes, bytes]:
    n_rows = np.concatenate([np.diff(shard.first_row) for shard in shards])
    tables = {
        names.VIDEO_ID: json.dumps([uid for shard in shards for uid in shard.ids]).encode(),
        names.FIRST_ROW: np.concatenate([[0], n_rows.cumsum()]).astype("<i8").tobytes(),
        names.DURATION: np.concatenate([shard.duration_s for shard in shards]).astype("<f8").tobytes(),
    }
    extents = [shard.seconds for shard in shards if shard.seconds is not None]
    if extents:
        tables[names.ROW_SECOND] = read_seconds(extents).to(torch.float64).numpy().astype("<f8").tobytes()
    return tables


def _about(shards: list[Shard], block_rows: int, dtype: str, n_rows: int) -> dict[str, Any]:
    clock = shards[0].clock
    return {
        "format": names.FORMAT,
        "version": names.VERSION,
        "dim": shards[0].dim,
        "n_rows": n_rows,
        "dtype": dtype,
        "block_rows": block_rows,
        "rows_per_second": None if clock is None else clock.rows_per_second,
        "row_seconds": None if clock is None else clock.row_seconds,
        "encoder": shards[0].encoder,
        "source": "; ".join(dict.fromkeys(shard.source for shard in shards if shard.source)),
    }
