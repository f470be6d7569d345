"""Mean average precision of multi-label classification, as defined by Charades and Charades-Ego."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor


def charades_map(
    scores: Float[np.ndarray, "n classes"] | Float[Tensor, "n classes"],
    targets: Shaped[np.ndarray, "n classes"] | Shaped[Tensor, "n classes"],
) -> tuple[float, Float[np.ndarray, "classes"]]:
    """Mean over classes of the average precision of videos ranked by score.

    The definition is that of Charades_v1_classify.m (Sigurdsson et al. 2016): scores are compared across videos without
    a softmax per video, and videos without any label rank last. Two rules are added: ties count against the model
    (negatives rank first), so that the value does not depend on the order of the videos; and classes without a positive
    video are excluded from the mean. Precisions are computed in float64. torchmetrics differs for ties (one threshold
    per score) and for classes without positives (0).

    Args:
        scores: higher is better; minus infinity is allowed.
        targets: 1 or True where the video has the class, 0 or False elsewhere.

    Returns:
        The mean in percent, NaN without any positive; and each class's average precision in percent, NaN for classes
        without a positive video.

    Raises:
        ValueError: shapes differ, a score is NaN, or a target is neither 0 nor 1.

    Examples:
        >>> import numpy as np
        >>> from clep.metrics import charades_map
        >>> scores, targets = np.array([[0.9, 0.2], [0.4, 0.8], [0.1, 0.3]]), np.array([[1, 0], [0, 1], [1, 1]])
        >>> mean, per_class = charades_map(scores, targets)
        >>> round(mean, 2), per_class.round(2).tolist()
        (91.67, [83.33, 100.0])
    """
    score = _numpy(scores)
    target = _numpy(targets)
    if score.shape != target.shape:
        raise ValueError(f"scores are {score.shape} and targets {target.shape}")
    if np.isnan(score).any():
        raise ValueError(f"{int(np.isnan(score).any(axis=1).sum())} of {len(score)} videos have scores that are NaN")
    if target.dtype != bool and ((target != 0) & (target != 1)).any():
        raise ValueError("targets must be 0 or 1")
    target = np.ascontiguousarray(target.T, dtype=bool)
    dtype = score.dtype if np.issubdtype(score.dtype, np.floating) else np.float64
    score = np.array(score.T, dtype=dtype, order="C")
    score[:, ~target.any(axis=0)] = -np.inf

    per_class = 100 * average_precision(score, target)
    defined = ~np.isnan(per_class)
    return float(per_class[defined].mean()) if defined.any() else float("nan"), per_class


def average_precision(
    scores: Float[np.ndarray, "rows n"], targets: Bool[np.ndarray, "rows n"]
) -> Float[np.ndarray, " rows"]:
    """Average precision of each row, from 0 to 1; NaN for a row without a positive.

    The mean, over the positives of a row, of the precision at their rank. Ties count against the model.

    Args:
        scores: higher is better; not NaN.
        targets: mask of the positives.
    """
    per_row = np.full(len(scores), np.nan)
    for row, (ascending, score, target) in enumerate(zip(np.sort(scores, axis=1), scores, targets, strict=True)):
        positive = np.sort(score[target])
        if not len(positive):
            continue
        # Positives down to each positive, and negatives of at least its score, which rank before it.
        found = np.arange(len(positive), 0, -1)
        at_least = len(ascending) - np.searchsorted(ascending, positive)
        negatives = at_least - (len(positive) - np.searchsorted(positive, positive))
        per_row[row] = (found / (found + negatives)).mean()
    return per_row


def _numpy(values: np.ndarray | Tensor) -> np.ndarray:
    if not isinstance(values, Tensor):
        return values
    return (values.float() if values.dtype == torch.bfloat16 else values).detach().cpu().numpy()
