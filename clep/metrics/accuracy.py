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
    """Percentage of items whose target is among the `k` classes with the highest scores.

    Ties count against the model: other classes with the same score rank before the target, so constant scores give 0,
    unless `k` is at least the number of classes, which always gives 100.

    Args:
        scores: higher is better.
        target: class index of each item.
        ks: values of k, each at least 1.

    Returns:
        Percent by k.

    Raises:
        ValueError: no items, a score is NaN, a target is not a class index, or a k is below 1.
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
