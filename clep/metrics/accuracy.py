"""Top-k accuracy."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


@torch.no_grad()
def topk_accuracy(
    scores: Float[Tensor, "n classes"] | Float[np.ndarray, "n classes"],
    target: Int[Tensor, "n"] | Int[np.ndarray, "n"],
    ks: Sequence[int] = (1, 5),
) -> dict[int, float]:
    """Tell in what percentage of items the right class is among the `k` best scored.

    Ties count against the model: every other class with the same score ranks before the right one, so constant
    scores reach 0 unless `k` is at least the number of classes, where any scores reach 100.

    Args:
        scores: higher is better.
        target: the right class of each item.
        ks: each at least 1.

    Returns:
        Percent by k.

    Raises:
        ValueError: no items, a score is NaN, a target is no class, or a k below 1.
    """
    scores = torch.as_tensor(scores)
    target = torch.as_tensor(target, device=scores.device).long()
    n, classes = scores.shape
    if n == 0:
        raise ValueError("accuracy of no items is undefined")
    if any(k < 1 for k in ks):
        raise ValueError(f"each k must be at least 1, got {tuple(ks)}")
    if torch.isnan(scores).any():
        raise ValueError(f"{int(torch.isnan(scores).any(1).sum())} of {n} items have scores that are NaN")
    if target.min() < 0 or target.max() >= classes:
        raise ValueError(f"targets must lie in [0, {classes}), got {int(target.min())} to {int(target.max())}")
    before = (scores >= scores.gather(1, target[:, None])).sum(1) - 1
    return {k: 100 * float((before < k).double().mean()) for k in ks}
