"""Averages and maxima over the slots of a moment, of which no copy `[batch, slots, dim]` is made."""

import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from clep.bank.gather import bag_means, check_rows, groups
from clep.bank.storage import Rows, RowStore


def masked_means(
    store: Rows, row: Int64[Tensor, "batch slots"], mask: Bool[Tensor, "batch slots"]
) -> Float32[Tensor, "batch dim"]:
    """Mean of the rows where the mask is true, for each moment; zeros where there is none.

    Raises:
        ValueError: a row that the bank does not have.
    """
    length, real = mask.sum(1), row[mask]
    check_rows(store, real)
    if isinstance(store, RowStore) and store.dtype.is_floating_point and len(store.pieces) == 1:
        return bag_means(store.pieces[0], real, length)
    out = torch.zeros(len(row), store.dim, device=store.device)
    at = 0
    for begin, end in groups(length, store):
        part = length[begin:end]
        count = int(part.sum())
        every = torch.arange(count, device=store.device)
        out[begin:end] = bag_means(store.select(real[at : at + count]), every, part)
        at += count
    return out


def masked_maxima(
    store: Rows, row: Int64[Tensor, "batch slots"], mask: Bool[Tensor, "batch slots"]
) -> Float32[Tensor, "batch dim"]:
    """Maximum of the rows where the mask is true, number by number, for each moment; zeros where there is none.

    Raises:
        ValueError: a row that the bank does not have.
    """
    length, real = mask.sum(1).tolist(), row[mask]
    check_rows(store, real)
    out = torch.zeros(len(row), store.dim, device=store.device)
    # A moment's rows stay in the processor's cache between the two steps.
    held = torch.empty(max(length, default=0), store.dim, dtype=store.dtype, device=store.device)
    for index, part in enumerate(real.split(length)):
        if len(part):
            out[index] = store.select(part, held[: len(part)]).amax(0)
    return out
