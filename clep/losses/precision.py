"""Losses are computed in float32 wherever the model runs."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def full_precision(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Switch autocast off inside the block and yield the tensors in float32, or in float64 where they are that."""
    with torch.autocast(device_type=tensors[0].device.type, enabled=False):
        yield tuple(tensor.to(torch.promote_types(tensor.dtype, torch.float32)) for tensor in tensors)
