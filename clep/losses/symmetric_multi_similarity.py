"""Ranking of all items by their relevancy: more relevant ones above, equally relevant ones together, others below."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from clep.errors import InputError
from clep.losses.max_margin import MaxMarginLoss


class SymmetricMultiSimilarityLoss(MaxMarginLoss):
    """Similarities should differ as the relevancies do, in both directions.

    Symmetric multi-similarity (Wang et al. 2024, arXiv 2406.12256; EVA02-AT, arXiv 2506.14356). With the difference of
    relevancies d = c(i, i) - c(i, k) and u = d * margin - s(i, i) + s(i, k), a pair i and an item k cost

    - `max(0, u)` where the pair is more relevant (d > equal): at least d * margin more similar;
    - `max(0, -u)` where the item is more relevant (d < -equal);
    - `max(0, |u| - slack)` where both are equally relevant.

    The loss is the mean over both directions, pairs and all other items. With relevancies 0 and 1 and no item that is
    as relevant as the pair it is `MaxMarginLoss`.

    Args:
        margin: difference of similarities for a difference of relevancies of 1.
        slack: difference of similarities that costs nothing where relevancies are equal.
        equal: relevancies that differ by less are equal; the published code stores them in steps of 1/240.

    Raises:
        InputError: `margin` is not above 0, or `slack` or `equal` is negative.

    Examples:
        >>> import torch
        >>> from clep.losses import SymmetricMultiSimilarityLoss
        >>> relevancy = torch.tensor([[1.0, 0.5], [0.5, 1.0]])  # the target is a difference of 0.3
        >>> float(SymmetricMultiSimilarityLoss(margin=0.6)(torch.eye(2), torch.eye(2), 1.0, relevancy))
        0.0
    """

    def __init__(self, margin: float | int = 0.6, slack: float | int = 0.1, equal: float | int = 1.1 / 240) -> None:
        super().__init__(margin)
        if slack < 0 or equal < 0:
            raise InputError(f"loss.slack={slack} and loss.equal={equal} must not be negative")
        self.slack, self.equal = float(slack), float(equal)

    def per_item(
        self,
        gap: Float[Tensor, "pairs items"],
        own: Float[Tensor, "pairs 1"],
        other: Float[Tensor, "pairs items"],
    ) -> tuple[Float[Tensor, "pairs items"], Bool[Tensor, "pairs items"]]:
        """Return the loss of each pair against each item; all items count."""
        difference = own - other
        excess = difference * self.margin - gap
        same = F.relu(excess.abs() - self.slack)
        signed = torch.where(difference > 0, F.relu(excess), F.relu(-excess))
        return torch.where(difference.abs() <= self.equal, same, signed), torch.ones_like(gap, dtype=torch.bool)
