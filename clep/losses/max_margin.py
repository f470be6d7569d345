"""Max-margin ranking of pairs above all other items (multi-instance retrieval)."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from clep.errors import InputError
from clep.losses.clip import check_pairs, full_precision

Relevancy = Bool[Tensor, "videos texts"] | Float[Tensor, "videos texts"]


class MaxMarginLoss(nn.Module):
    """A pair should be more similar than its video with any other text, and its text with any other video, by a margin.

    The mean over both directions, pairs i and other items k of `max(0, margin - s(i, i) + s(i, k))`, where s are the
    dot products of the embeddings (cosines, for a model that normalises). Without `positives` it is MI-MM as EgoVLP
    (Lin et al. 2022) and AVION (Zhao and Krähenbühl 2023) train on EPIC-KITCHENS-100. With a relevancy, items that are
    at least as relevant as the paired one are no negatives and leave the mean.

    Subclasses change `per_item`. Losses have no parameters and no state, and do not communicate (see `across_ranks`).
    They are computed in float32 under autocast too; float64 stays float64. The scale has no influence.

    Args:
        margin: least difference of similarities, above 0.

    Raises:
        InputError: `margin` is not above 0.

    Examples:
        >>> import torch
        >>> from clep.losses import MaxMarginLoss
        >>> video, text = torch.eye(2), torch.tensor([[1.0, 0.0], [0.9, 0.1]])
        >>> round(float(MaxMarginLoss(margin=0.2)(video, text, scale=1.0)), 3)
        0.3
    """

    uses_bias = False  # a constant cancels in a difference

    def __init__(self, margin: float | int = 0.2) -> None:
        super().__init__()
        if not margin > 0:
            raise InputError(f"loss.margin={margin} must be above 0")
        self.margin = float(margin)

    @classmethod
    def requires(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a run that this loss needs, by key: a model of cosines, without bias."""
        return {"model.init_bias": None, "model.normalize": True}

    def per_item(
        self,
        gap: Float[Tensor, "pairs items"],
        own: Float[Tensor, "pairs 1"],
        other: Float[Tensor, "pairs items"],
    ) -> tuple[Float[Tensor, "pairs items"], Bool[Tensor, "pairs items"]]:
        """Return the loss of each pair against each item, and which items count.

        Args:
            gap: similarity of the pair minus that with the item.
            own: relevancy of the pair.
            other: relevancy of the item.
        """
        return F.relu(self.margin - gap), other < own

    def forward(
        self,
        video: Float[Tensor, "n dim"],
        text: Float[Tensor, "m dim"],
        scale: Float[Tensor, ""] | float | int,
        positives: Relevancy | None = None,
        bias: Float[Tensor, ""] | None = None,
    ) -> Float[Tensor, ""]:
        """Return the loss of a batch.

        Args:
            video: embeddings, one per row.
            text: embeddings; text i belongs to video i.
            scale: ignored; a tensor gets a gradient of 0.
            positives: relevancy of each text for each video, from 0 to 1, or a mask; None for the diagonal.
            bias: ignored.

        Raises:
            ValueError: the numbers of videos and texts differ, or, on a CPU, no item counts.
        """
        check_pairs(video, text)
        sums, counts = self.share(video, text, slice(0, len(video)), scale, positives, positives)
        if counts.device.type == "cpu" and not (counts > 0).all():
            raise ValueError("every item is as relevant as the paired one: there is nothing to rank")
        return (sums / counts).mean()

    def share(
        self,
        video: Float[Tensor, "total dim"],
        text: Float[Tensor, "total dim"],
        own: slice,
        scale: Float[Tensor, ""] | float | int,
        row_positives: Bool[Tensor, "own total"] | Float[Tensor, "own total"] | None = None,
        column_positives: Bool[Tensor, "total own"] | Float[Tensor, "total own"] | None = None,
        bias: Float[Tensor, ""] | None = None,
    ) -> tuple[Float[Tensor, "terms"], Float[Tensor, "terms"]]:
        """Return one rank's share of the loss of a joined batch, for the local form of `across_ranks`.

        Args:
            video, text, scale: as in `forward`, of the joined batch.
            own: the pairs of this rank.
            row_positives: `positives[own]`; None for pairs on the diagonal.
            column_positives: `positives[:, own]`.
            bias: ignored.

        Returns:
            sums: video-to-text summed over own videos, text-to-video summed over own texts.
            counts: number of pairs and items in each sum.
        """
        with full_precision(video, text) as (video, text):
            paired = (video[own] * text[own]).sum(dim=1, keepdim=True)
            rows = self._sum(paired, video[own] @ text.T, row_positives, own.start)
            columns = self._sum(
                paired, text[own] @ video.T, None if column_positives is None else column_positives.T, own.start
            )
            sums, counts = (torch.stack(both) for both in zip(rows, columns, strict=True))
            if isinstance(scale, Tensor):
                sums = sums + 0 * scale  # so that DDP sees a gradient for it
            return sums, counts

    def _sum(
        self,
        paired: Float[Tensor, "pairs 1"],
        similarity: Float[Tensor, "pairs items"],
        relevancy: Relevancy | None,
        first: int,
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Return the sum over pairs and items that count, and their number; pair i is item `first + i`."""
        pairs, items = similarity.shape
        diagonal = torch.zeros(pairs, items, dtype=torch.bool, device=similarity.device)
        diagonal.diagonal(first).fill_(True)
        given = diagonal.to(similarity.dtype) if relevancy is None else relevancy.to(similarity.dtype)
        own = given.diagonal(first)[:pairs, None]
        losses, counts = self.per_item(paired - similarity, own, given)
        counts = counts & ~diagonal
        return torch.where(counts, losses, 0.0).sum(), counts.sum().to(similarity.dtype)
