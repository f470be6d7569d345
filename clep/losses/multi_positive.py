"""Noise-contrastive estimation with several positives, of which one suffices (MIL-NCE)."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from clep.losses.clip import TwoWayLoss, Weights


class MultiPositiveNCELoss(TwoWayLoss):
    """Maximise the joint probability of a query's positives: `-log(sum over positives of exp / sum over all of exp)`.

    It is the mean of both directions, each a mean over its queries. The sum over positives is *inside* the logarithm,
    as in MIL-NCE (Miech et al. 2020, "End-to-End Learning of Visual Representations from Uncurated Instructional
    Videos"). `ClipLoss` averages the logarithms over the positives instead: its optimum has all positives of a query
    equally similar, and a wrong positive keeps pulling. Here any distribution of the probability over the positives is
    optimal, and the gradient favours those that are similar already. So this loss suits noisy positives, down to a loss
    of 0 where everything is a positive, and `ClipLoss` suits reliable ones. With one positive per query they are equal.

    It differs from the published MIL-NCE in that each direction has its own denominator, as in CLIP, where MIL-NCE
    joins the negatives of a pair's row and column in one.

    Weights between 0 and 1 multiply `exp` in the sum over positives. Both sums use `logsumexp`: the logarithm of a sum
    of softmaxes is minus infinity once the probabilities round to 0.
    """

    def per_query(
        self,
        logits: Float[Tensor, "queries items"],
        positives: Weights,
        has_positive: Bool[Tensor, "queries"],
    ) -> Float[Tensor, "queries"]:
        """Return the negative log of the probability that each query's softmax assigns to its positives."""
        # A query without positives is given all items as positives: its loss is 0, and nothing becomes infinite.
        if positives.dtype == torch.bool:
            positive_logits = logits.masked_fill((~positives).logical_and_(has_positive[:, None]), -torch.inf)
        else:
            positive_logits = logits + torch.where(has_positive[:, None], positives, 1.0).to(logits.dtype).log()
        return logits.logsumexp(dim=1) - positive_logits.logsumexp(dim=1)
