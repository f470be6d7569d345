"""Rows with a mask: their mean, their maximum, and their projection."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import embedding_bag


def masked_mean(
    rows: Float[Tensor, "batch time dim"], mask: Bool[Tensor, "batch *queries time"] | None = None
) -> Float[Tensor, "batch *queries dim"]:
    """Average the rows that `mask` says are there; padding never dilutes the mean.

    Args:
        rows: the rows of each window. What stands in padded places does not matter, not even NaN.
        mask: True where a row is real; None where all are. A window without rows gives zeros. A mask
            `[batch, queries, time]` averages other rows of a window for each query.

    Returns:
        float32, or the dtype of `rows` where that is wider.
    """
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    if mask is None:
        return rows.mean(1)
    if rows.is_cuda and mask.ndim == 2:
        return rows.masked_fill(~mask[:, :, None], 0).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
    return _pool_present(rows, mask, "mean")


def masked_max(
    rows: Float[Tensor, "batch time dim"], mask: Bool[Tensor, "batch *queries time"]
) -> Float[Tensor, "batch *queries dim"]:
    """Return the largest value of each number over the rows that `mask` says are there.

    Args:
        rows: the rows of each window. What stands in padded places does not matter, not even NaN.
        mask: True where a row is real. A window without rows gives zeros. A mask `[batch, queries, time]` compares
            other rows of a window for each query.

    Returns:
        float32, or the dtype of `rows` where that is wider.
    """
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    if rows.is_cuda and rows.shape[1] and mask.ndim == 2:
        largest = rows.masked_fill(~mask[:, :, None], -torch.inf).amax(1)
        return largest.masked_fill(~mask.any(1, keepdim=True), 0)
    return _pool_present(rows, mask, "max")


def project_present(
    project: Callable[[Tensor], Tensor],
    rows: Float[Tensor, "batch time dim"],
    mask: Bool[Tensor, "batch time"],
    every: bool | None = None,
) -> Float[Tensor, "batch time out"]:
    """Return `project(rows)` where `mask` says that a row is there, and zeros elsewhere.

    Args:
        project: from rows `[n, dim]` to rows `[n, out]`, each by itself.
        rows: what stands in padded places does not matter, not even NaN, neither for values nor for gradients.
        mask: True where a row is real.
        every: project empty places too, as zeros, whose number the host would have to wait for on a GPU. None does so
            on a GPU; False is for what costs more than waiting, or looks at the statistics of its rows.
    """
    if rows.is_cuda if every is None else every:
        empty = ~mask[:, :, None]
        filled = rows.masked_fill(empty, 0).flatten(0, 1)
        return project(filled).unflatten(0, mask.shape).masked_fill(empty, 0)
    place = _present(mask)
    real = project(rows.flatten(0, 1).index_select(0, place))
    return real.new_zeros(mask.numel(), real.shape[-1]).index_copy(0, place, real).unflatten(0, mask.shape)


def _present(mask: Bool[Tensor, "batch time"]) -> Int64[Tensor, " rows"]:
    """Return the places of the rows that are there: not on a GPU, where the host would wait to learn how many."""
    return mask.flatten().nonzero().squeeze(1)


def _pool_present(
    rows: Float[Tensor, "batch time dim"], mask: Bool[Tensor, "batch *queries time"], mode: str
) -> Float[Tensor, "batch *queries dim"]:
    """Pool without a copy of the rows, reading those alone that are there; a window without rows is an empty bag."""
    if mask.ndim == 2:
        place = _present(mask)
    else:
        of_window, _, of_time = mask.nonzero(as_tuple=True)
        place = of_window * mask.shape[-1] + of_time
    count = mask.sum(-1).flatten()
    pooled = embedding_bag(place, rows.flatten(0, 1), count.cumsum(0) - count, mode=mode)
    return pooled.view(*mask.shape[:-1], rows.shape[-1])
