"""Whether the files of a bank are those that something was made from."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clep.bank.format import Shard

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
