"""Masked mean, maximum and projection of padded rows."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import embedding_bag


def masked_mean(
    rows: Float[Tensor, "batch time dim"], mask: Bool[Tensor, "batch *queries time"] | None = None
) -> Float[Tensor, "batch *queries dim"]:
    """Mean over the rows of each window, without padding.

    Args:
        rows: padded rows of each window. Padding may hold any values, even NaN.
        mask: False for padding; None if there is none. A window without rows gives zeros. A mask
            `[batch, queries, time]` selects the rows of a window for each query.

    Returns:
        float32, or float64 for float64 rows.
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
    """Elementwise maximum over the rows of each window, without padding.

    Args:
        rows: padded rows of each window. Padding may hold any values, even NaN.
        mask: False for padding. A window without rows gives zeros. A mask `[batch, queries, time]` selects the rows of
            a window for each query.

    Returns:
        float32, or float64 for float64 rows.
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
    """Return `project(rows)`, with zeros for padding.

    Args:
        project: row-wise function from `[n, dim]` to `[n, out]`.
        rows: padded rows. Padding may hold any values, even NaN, without effect on values and gradients.
        mask: False for padding.
        every: True projects padding too, as zeros, which avoids a GPU sync to count the rows; False projects only the
            rows, for an expensive `project` or one with batch statistics. None: True on a GPU, else False.
    """
    if rows.is_cuda if every is None else every:
        empty = ~mask[:, :, None]
        filled = rows.masked_fill(empty, 0).flatten(0, 1)
        return project(filled).unflatten(0, mask.shape).masked_fill(empty, 0)
    index = _present(mask)
    real = project(rows.flatten(0, 1).index_select(0, index))
    return real.new_zeros(mask.numel(), real.shape[-1]).index_copy(0, index, real).unflatten(0, mask.shape)


def _present(mask: Bool[Tensor, "batch time"]) -> Int64[Tensor, " rows"]:
    """Return the flat indices of the rows; synchronises a GPU."""
    return mask.flatten().nonzero().squeeze(1)


def _pool_present(
    rows: Float[Tensor, "batch time dim"], mask: Bool[Tensor, "batch *queries time"], mode: str
) -> Float[Tensor, "batch *queries dim"]:
    """Pool with `embedding_bag`, which neither copies rows nor reads padding; a window without rows is an empty bag."""
    if mask.ndim == 2:
        index = _present(mask)
    else:
        of_window, _, of_time = mask.nonzero(as_tuple=True)
        index = of_window * mask.shape[-1] + of_time
    count = mask.sum(-1).flatten()
    pooled = embedding_bag(index, rows.flatten(0, 1), count.cumsum(0) - count, mode=mode)
    return pooled.view(*mask.shape[:-1], rows.shape[-1])
