"""The second of each row of a bank with an irregular clock."""

from collections.abc import Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

from clep.bank.extent import Extent
from clep.bank.storage import map_extents


def read_seconds(extents: Sequence[Extent]) -> Float64[Tensor, " rows"]:
    """Mapped like rows; those of several files are joined, at a small part of the size of their rows."""
    parts = [
        map_extents([extent])[0]
        if extent.offset is not None
        else torch.cat([torch.from_numpy(block) for _, block in extent.blocks()])
        for extent in extents
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts)
