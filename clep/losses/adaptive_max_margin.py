"""Max-margin ranking with a margin that grows with the relevancy of the pair."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from clep.losses.max_margin import MaxMarginLoss


class AdaptiveMaxMarginLoss(MaxMarginLoss):
    """Max-margin ranking in which a pair of relevancy c has the margin `c * margin`.

    Adaptive MI-MM of EgoVLP (Lin et al. 2022, arXiv 2206.01670) and AVION: `max(0, c * margin - s(i, i) + s(i, k))`,
    the mean over both directions, pairs i and all other items k. A clip's own narration has c = 1; pairs of less
    relevancy come from `data.relevant_texts`, which pairs a clip with another sentence that fits it in part.

    Args:
        margin: of a pair of relevancy 1.

    Examples:
        >>> import torch
        >>> from clep.losses import AdaptiveMaxMarginLoss
        >>> relevancy = torch.tensor([[1.0, 0.5], [0.5, 1.0]])
        >>> float(AdaptiveMaxMarginLoss(margin=0.4)(torch.eye(2), torch.eye(2), 1.0, relevancy))
        0.0
    """

    def __init__(self, margin: float | int = 0.4) -> None:
        super().__init__(margin)

    def per_item(
        self,
        gap: Float[Tensor, "pairs items"],
        own: Float[Tensor, "pairs 1"],
        other: Float[Tensor, "pairs items"],
    ) -> tuple[Float[Tensor, "pairs items"], Bool[Tensor, "pairs items"]]:
        """Return the loss of each pair against each item; all items count, as in the published code."""
        return F.relu(own * self.margin - gap), torch.ones_like(gap, dtype=torch.bool)
