"""Noise-contrastive estimation with several positives, at least one of which is correct (MIL-NCE)."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from clep.losses.clip import TwoWayLoss, Weights


class MultiPositiveNCELoss(TwoWayLoss):
    """Maximise the joint probability of a query's positives: `-log(sum over positives of exp / sum over all of exp)`.

    It is the mean of both directions, each a mean over its queries. The sum over positives is *inside* the logarithm,
    as in MIL-NCE (Miech et al. 2020, "End-to-End Learning of Visual Representations from Uncurated Instructional
    Videos"). `ClipLoss` averages the logarithms over the positives instead: at its optimum all positives of a query are
    equally similar, so a wrong positive always contributes a gradient. Here any distribution of the probability over
    the positives is optimal, and the gradient favours positives that are already similar. So this loss suits noisy
    positives, and `ClipLoss` reliable ones. With one positive per query they are equal; if all items are positives,
    this loss is 0.

    Unlike the published MIL-NCE, each direction has its own denominator, as in CLIP; MIL-NCE puts the negatives of a
    pair's row and column into one.

    Weights between 0 and 1 multiply `exp` in the sum over positives. Both sums use `logsumexp`: the logarithm of a sum
    of softmaxes is minus infinity once the probabilities round to 0.

    Examples:
        >>> import torch
        >>> from clep.losses import MultiPositiveNCELoss
        >>> video = text = torch.eye(3)
        >>> positives = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
        >>> round(float(MultiPositiveNCELoss()(video, text, 1.0, positives)), 3)
        0.343
    """

    def per_query(
        self,
        logits: Float[Tensor, "queries items"],
        positives: Weights,
        has_positive: Bool[Tensor, "queries"],
    ) -> Float[Tensor, "queries"]:
        """Return the negative log of the probability that each query's softmax assigns to its positives."""
        # For a query without positives all items count as positives, so that its loss is 0 and finite.
        if positives.dtype == torch.bool:
            positive_logits = logits.masked_fill((~positives).logical_and_(has_positive[:, None]), -torch.inf)
        else:
            positive_logits = logits + torch.where(has_positive[:, None], positives, 1.0).to(logits.dtype).log()
        return logits.logsumexp(dim=1) - positive_logits.logsumexp(dim=1)
