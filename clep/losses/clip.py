"""The objective of CLIP: each video finds its text among all texts, and each text its video."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from clep.losses.two_way import TwoWayLoss, Weights


class ClipLoss(TwoWayLoss):
    """Contrast videos and texts by cross-entropy in both directions (Radford et al. 2021, figure 3).

    `loss(video, text, scale)` is the mean of video-to-text and text-to-video cross-entropy over the logits
    `scale * video @ text.T`.

    With `positives`, an item's target is spread over its positives in proportion to their weight: the targets of
    each row sum to 1, and those of each column do so separately. With weights from the similarity of texts
    (`TextSimilarityPositives`) that is soft-label CLIP.
    """

    def per_query(
        self,
        logits: Float[Tensor, "queries items"],
        positives: Weights,
        has_positive: Bool[Tensor, "queries"],
    ) -> Float[Tensor, "queries"]:
        """Return each query's cross-entropy to its positives, in proportion to their weight."""
        weight = positives.to(logits.dtype)
        total = weight.sum(dim=1)
        target = weight / torch.where(has_positive, total, 1.0)[:, None]
        return -(target * F.log_softmax(logits, dim=1)).sum(dim=1)
