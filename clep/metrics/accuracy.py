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

    Examples:
        >>> import torch
        >>> from clep.metrics import topk_accuracy
        >>> scores = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.5, 0.3]])
        >>> topk_accuracy(scores, torch.tensor([0, 2]), ks=(1, 2))
        {1: 50.0, 2: 100.0}
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
    rank = target_ranks(scores, target)
    return {k: 100 * float((rank <= k).double().mean()) for k in ks}


def target_ranks(scores: Float[Tensor, "n classes"], target: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
    """Rank of each item's target by its score, from 1; other classes with the same score rank before it."""
    return (scores >= scores.gather(1, target[:, None])).sum(1)


def classification_metrics(scores: Float[Tensor, "items classes"], target: Int[Tensor, "items"]) -> dict[str, float]:
    """Return `top1`, `top5` and `mean_class_accuracy` in percent.

    Raises:
        ValueError: as for `topk_accuracy`.
    """
    found = {f"top{k}": value for k, value in topk_accuracy(scores, target, (1, 5)).items()}
    return found | {"mean_class_accuracy": mean_class_accuracy(scores, target)}


def mean_class_accuracy(
    scores: Float[Tensor, "n classes"] | Float[np.ndarray, "n classes"],
    target: Int[Tensor, "n"] | Int[np.ndarray, "n"],
) -> float:
    """Return the mean of the classes' top-1 accuracies in percent, as reported for EGTEA Gaze+.

    Classes without items are excluded. Ties count against the model, as in `topk_accuracy`.

    Args:
        scores: higher is better.
        target: class index of each item.

    Raises:
        ValueError: as for `topk_accuracy`.

    Examples:
        >>> import torch
        >>> from clep.metrics import mean_class_accuracy
        >>> scores = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
        >>> mean_class_accuracy(scores, torch.tensor([0, 0, 1]))  # 100 % of class 0, none of class 1
        50.0
    """
    scores, target = torch.as_tensor(scores), torch.as_tensor(target).long().cpu()
    return float(np.mean([topk_accuracy(scores[target == c], target[target == c], (1,))[1] for c in target.unique()]))


def egomcq_accuracy(
    similarity: Float[Tensor, "questions choices"] | Float[np.ndarray, "questions choices"],
    answer: Int[Tensor, "questions"] | Int[np.ndarray, "questions"],
    group: Sequence[int] | Int[np.ndarray, "questions"],
) -> dict[str, float]:
    """Return the accuracy on EgoMCQ (Lin et al. 2022) in percent, for each type of question.

    Type 1, "inter": the wrong clips are from other videos. Type 2, "intra": they are from the same video. The official
    code of EgoVLP and LaViLa prints the two names swapped. Ties count against the model.

    Args:
        similarity: similarity of the question's text to each of its clips, 5 in the official file.
        answer: index of the correct clip.
        group: type of each question, 1 or 2.

    Returns:
        Accuracy by "inter" and "intra"; a type without questions is left out.

    Raises:
        ValueError: as for `topk_accuracy`, or a type is neither 1 nor 2.
    """
    kinds = np.asarray(group)
    if not np.isin(kinds, (1, 2)).all() or len(kinds) != len(similarity):
        raise ValueError(f"types must be 1 or 2, one per question; got {sorted(set(kinds.tolist()))[:5]}")
    similarity, answer = torch.as_tensor(similarity), torch.as_tensor(answer)
    chosen = {name: torch.from_numpy(kinds == kind) for name, kind in (("inter", 1), ("intra", 2))}
    return {name: topk_accuracy(similarity[some], answer[some], (1,))[1] for name, some in chosen.items() if some.any()}
