"""What an opened bank holds in memory: its tables, joined over its files, and its rows."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from clep.bank.clock import Clock
from clep.bank.extent import Extent
from clep.bank.format import Shard
from clep.bank.shards import read_shards
from clep.bank.storage import RowStore, map_extents, open_rows


@dataclass
class BankContents:
    """Tables and rows of an opened bank, on the device of the rows; everything that a pickle of the bank leaves out."""

    clock: Clock | None
    encoder: str
    source: str
    videos: list[str]
    rows: RowStore
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
    shards = read_shards(path, clock)
    rows = open_rows([extent for shard in shards for extent in shard.rows], device, dtype)
    return _joined(shards, rows)


def _joined(shards: list[Shard], rows: RowStore) -> BankContents:
    clock, device = shards[0].clock, rows.device
    n_rows = torch.from_numpy(np.concatenate([np.diff(shard.first_row) for shard in shards])).to(device)
    first_row = torch.nn.functional.pad(n_rows.cumsum(0), (1, 0))
    duration_s = torch.from_numpy(np.concatenate([shard.duration_s for shard in shards])).to(device)
    extents = [shard.seconds for shard in shards if shard.seconds is not None]
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
        _seconds(extents).to(device) if extents else None,
    )


def _seconds(extents: list[Extent]) -> Float64[Tensor, " rows"]:
    """Mapped like rows; those of several files are joined, at a small part of the size of their rows."""
    parts = [
        map_extents([extent])[0]
        if extent.offset is not None
        else torch.cat([torch.from_numpy(block) for _, block in extent.blocks()])
        for extent in extents
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts)
