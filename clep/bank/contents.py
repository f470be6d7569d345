"""Tables and rows of an open bank, joined over its files."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from clep.bank.clock import Clock
from clep.bank.files import FileLengths, join_shards, read_shards
from clep.bank.format import Shard
from clep.bank.lmdb import LMDB_SUFFIX, read_lmdb
from clep.bank.long_term import FirstRows
from clep.bank.storage import Rows, Verify, open_rows, parse_device, read_seconds
from clep.checksums import digest
from clep.errors import InputError


@dataclass
class BankContents:
    """Tables and rows of an open bank, on the device of the rows; not pickled with the bank."""

    clock: Clock | None
    encoder: str
    source: str
    videos: list[str]
    rows: Rows
    first_row: Int64[Tensor, " videos_and_end"]
    n_rows: Int64[Tensor, " videos"]
    duration_s: Float64[Tensor, " videos"]
    last_start: Float64[Tensor, " videos"] | None
    seconds: Float64[Tensor, " rows"] | None
    nonfinite_rows: Int64[np.ndarray, " videos"] | None
    lengths: FileLengths
    digest: str

    @cached_property
    def position(self) -> dict[str, int]:
        """Index of each video id."""
        return {uid: index for index, uid in enumerate(self.videos)}

    @cached_property
    def first_rows(self) -> FirstRows | None:
        """The first row of each second, where rows have explicit seconds and the table is small."""
        return None if self.seconds is None else FirstRows.of_bank(self.seconds, self.first_row)


def read_contents(
    path: Path,
    device: str | torch.device,
    dtype: str | torch.dtype | None,
    clock: Clock | None,
    verify: Verify = "first_read",
) -> BankContents:
    """Open the files of a bank and join their tables; see `FeatureBank.open`."""
    if parse_device(device)[0] == "lmdb":
        blocks, table, second = read_lmdb(path, dtype, clock, verify)
        return _contents([table], blocks, second)
    if path.suffix == LMDB_SUFFIX:
        raise InputError(f"{path} is an LMDB bank: open it with device='lmdb', or open the bank it was made from")
    shards = read_shards(path, clock)
    rows = open_rows(
        [extent for shard in shards for extent in shard.rows],
        [shard.digests for shard in shards for _ in shard.rows],
        device,
        dtype,
        verify,
    )
    extents = [shard.seconds for shard in shards if shard.seconds is not None]
    return _contents(shards, rows, read_seconds(extents) if extents else None)


def _contents(shards: list[Shard], rows: Rows, seconds: Float64[Tensor, " rows"] | None) -> BankContents:
    joined, clock = join_shards(shards), shards[0].clock
    first_row, duration_s = torch.from_numpy(joined.first_row), torch.from_numpy(joined.duration_s)
    return BankContents(
        clock,
        joined.encoder,
        joined.source,
        joined.ids,
        rows,
        first_row,
        first_row.diff(),
        duration_s,
        clock.last_start(first_row.diff(), duration_s) if clock is not None and clock.rows_per_second else None,
        seconds,
        joined.nonfinite_rows,
        FileLengths([shard.path for shard in shards]),
        digest(*(shard.identity for shard in shards)),
    )
