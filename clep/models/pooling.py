"""Pooling of a window's rows."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def masked_mean(
    rows: Float[Tensor, "batch time dim"], mask: Bool[Tensor, "batch time"] | None = None
) -> Float[Tensor, "batch dim"]:
    """Average the rows that `mask` says are there; padding never dilutes the mean.

    Args:
        rows: the rows of each window. What stands in padded places does not matter, not even NaN.
        mask: True where a row is real; None where all are. A window without rows gives zeros.

    Returns:
        float32, or the dtype of `rows` where that is wider.
    """
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    if mask is None:
        return rows.mean(1)
    return rows.masked_fill(~mask[:, :, None], 0).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
