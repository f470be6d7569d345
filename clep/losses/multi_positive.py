"""Noise-contrastive estimation with several positives: it is enough that one of them is found."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from clep.losses.clip import TwoWayLoss, Weights


class MultiPositiveNCELoss(TwoWayLoss):
    """Raise the joint probability of an item's positives: `-log(sum over positives of exp / sum over all of exp)`.

    It is the mean of both directions, each a mean over its items. The sum over positives stands *inside* the logarithm,
    as in MIL-NCE (Miech et al. 2020, "End-to-End Learning of Visual Representations from Uncurated Instructional
    Videos"). `ClipLoss` with the same positives takes the mean of the logarithms of each: there the best
    that can be is that all positives of an item are equally near, and a positive that is wrong pulls for ever; here it
    is that all probability lies on positives, however it is divided, and the gradient goes to those that are near
    already. So this loss suits positives of which some are false, down to 0 where everything is a positive, and
    `ClipLoss` suits positives that are surely right. With one positive an item the two are the same.

    It differs from MIL-NCE's own form in that each direction has its own denominator, as in CLIP, where MIL-NCE adds up
    the negatives of a pair's row and column in one.

    Weights between 0 and 1 multiply `exp` in the sum over positives. Both sums are computed by `logsumexp`: the
    logarithm of a sum of softmaxes is minus infinity as soon as the probabilities round to 0.
    """

    def per_query(
        self,
        logits: Float[Tensor, "queries items"],
        positives: Weights,
        has_positive: Bool[Tensor, "queries"],
    ) -> Float[Tensor, "queries"]:
        """Return minus the logarithm of the probability that each query's softmax gives to its positives."""
        # A query without positives gets all of them, which costs 0: nothing is minus infinity, the gradient neither.
        if positives.dtype == torch.bool:
            right = logits.masked_fill((~positives).logical_and_(has_positive[:, None]), -torch.inf)
        else:
            right = logits + torch.where(has_positive[:, None], positives, 1.0).to(logits.dtype).log()
        return logits.logsumexp(dim=1) - right.logsumexp(dim=1)
