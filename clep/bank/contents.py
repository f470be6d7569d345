"""What an opened bank holds in memory: its tables, joined over its files, and its rows."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from clep.bank.clock import Clock
from clep.bank.format import Shard
from clep.bank.lmdb_contents import read_lmdb
from clep.bank.lmdb_file import LMDB_SUFFIX
from clep.bank.seconds import read_seconds
from clep.bank.shards import read_shards
from clep.bank.storage import Rows, open_rows, parse_device
from clep.errors import InputError


@dataclass
class BankContents:
    """Tables and rows of an opened bank, on the device of the rows; everything that a pickle of the bank leaves out."""

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

    @cached_property
    def position(self) -> dict[str, int]:
        """The number of each video id."""
        return {uid: index for index, uid in enumerate(self.videos)}


def read_contents(
    path: Path, device: str | torch.device, dtype: str | torch.dtype | None, clock: Clock | None
) -> BankContents:
    """Open the files of a bank, and join their tables; see `FeatureBank.open`."""
    if parse_device(device)[0] == "lmdb":
        blocks, table, second = read_lmdb(path, dtype, clock)
        return _joined([table], blocks, second)
    if path.suffix == LMDB_SUFFIX:
        raise InputError(f"{path} is a bank in an LMDB: open it with device='lmdb', or open the bank it was made from")
    shards = read_shards(path, clock)
    rows = open_rows([extent for shard in shards for extent in shard.rows], device, dtype)
    extents = [shard.seconds for shard in shards if shard.seconds is not None]
    return _joined(shards, rows, read_seconds(extents) if extents else None)


def _joined(shards: list[Shard], rows: Rows, seconds: Float64[Tensor, " rows"] | None) -> BankContents:
    clock, device = shards[0].clock, rows.device
    n_rows = torch.from_numpy(np.concatenate([np.diff(shard.first_row) for shard in shards])).to(device)
    first_row = torch.nn.functional.pad(n_rows.cumsum(0), (1, 0))
    duration_s = torch.from_numpy(np.concatenate([shard.duration_s for shard in shards])).to(device)
    regular = clock is not None and clock.rows_per_second is not None
    return BankContents(
        clock,
        shards[0].encoder,
        "; ".join(dict.fromkeys(shard.source for shard in shards if shard.source)),
        [uid for shard in shards for uid in shard.ids],
        rows,
        first_row,
        n_rows,
        duration_s,
        clock.last_start(n_rows, duration_s) if clock is not None and regular else None,
        None if seconds is None else seconds.to(device),
    )
