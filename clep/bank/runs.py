"""Rows that follow each other in a bank, written to scattered places in one pass.

PyTorch has no operation that copies row `i` of one tensor to row `j` of another: it gathers, then scatters. The rows of
a moment's minute mostly lie side by side in the bank, so each run of them is a source that need not be gathered first.
"""

from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

FEWEST_ROWS = 8
"""Of a run on average, below which its own cost in Python is more than what one pass saves."""

MOST_THREADS = 2
"""A run is copied by one thread: with more than so many, gathering and scattering in parallel is left to PyTorch."""


def place_runs(
    rows: Shaped[Tensor, "_ dim"],
    row: Int64[Tensor, " taken"],
    place: Int64[Tensor, " taken"],
    out: Shaped[Tensor, "places dim"],
) -> bool:
    """Write rows to their places in `out`, if the way is open and worth while: says whether it has.

    Args:
        rows: all rows, as they lie in memory.
        row, place: which go where; they exist on both sides.
        out: of the same type.
    """
    alike = rows.dtype == out.dtype and not rows.is_cuda and not out.is_cuda
    if not alike or len(row) == 0 or rows.shape[1] == 0 or torch.get_num_threads() > MOST_THREADS:
        return False
    edges = ((row.diff() != 1).nonzero().squeeze(1) + 1).tolist()
    bounds = [0, *edges, len(row)]
    if len(row) < FEWEST_ROWS * (len(bounds) - 1) or not (rows.is_contiguous() and out.is_contiguous()):
        return False
    source, target = (as_items(tensor) for tensor in (rows, out))
    first, to = row[torch.tensor(bounds[:-1])].tolist(), place.numpy()
    for (begin, end), at in zip(pairwise(bounds), first, strict=True):
        target[to[begin:end]] = source[at : at + end - begin]
    return True


def as_items(rows: Shaped[Tensor, "n dim"]) -> np.ndarray:
    """The same memory as an array of one item a row, which NumPy copies whole."""
    size = rows.shape[1] * rows.element_size()
    return rows.view(torch.uint8).numpy().view(f"V{size}")[:, 0]
