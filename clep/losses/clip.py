"""The objective of CLIP: each video finds its text among all texts, and each text its video."""

from abc import abstractmethod

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from clep.losses.precision import full_precision

Weights = Bool[Tensor, "queries items"] | Float[Tensor, "queries items"]


class TwoWayLoss(nn.Module):
    """The mean of a video-to-text and a text-to-video loss, each a mean over queries of a softmax over all items.

    A subclass says what a query with several positives costs. A query with one costs the cross-entropy to it. Losses
    are pure: no parameters, no state, no communication (see `across_ranks`). Logits and softmax are computed in
    float32, under autocast too; float64 stays float64.

    An item without any positive (a row or column that is there only as a negative) is left out of its direction's mean.
    """

    uses_bias = False  # a softmax does not see a constant

    def forward(
        self,
        video: Float[Tensor, "n dim"],
        text: Float[Tensor, "m dim"],
        scale: Float[Tensor, ""] | float | int,
        positives: Bool[Tensor, "n m"] | Float[Tensor, "n m"] | None = None,
        bias: Float[Tensor, ""] | None = None,
    ) -> Float[Tensor, ""]:
        """Compute the loss of a batch.

        Args:
            video: embeddings, one a row.
            text: embeddings; where `positives` is None, text i belongs to video i.
            scale: multiplier of the dot products (after `exp`, where the model stores a logarithm).
            positives: which texts are right for which videos, or their weights, which must not be negative.
            bias: taken so that every loss has the same call; a softmax does not see a constant.

        Raises:
            ValueError: n differs from m without `positives`; or no row, or no column, has a positive. On a GPU the
                second gives NaN, since asking would stall the device.
        """
        if positives is None:
            check_pairs(video, text)
        with full_precision(video, text) as (video, text):
            logits = scale * (video @ text.T)
            if positives is None:
                target = torch.arange(len(video), device=video.device)
                return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
            forth, rows = self._sum(logits, positives)
            back, columns = self._sum(logits.T, positives.T)
            check_some(torch.stack([rows, columns]))
            return (forth / rows + back / columns) / 2

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
        """Compute one rank's share of the loss of a joined batch, for the local form of `across_ranks`.

        Summed over ranks whose `own` parts make up the batch, `sums` and `counts` give the loss of the whole batch as
        `(sums / counts).mean()`. Only `own` rows and `own` columns of the logits are computed.

        Returns:
            sums: video-to-text over own videos, text-to-video over own texts.
            counts: how many items each sum is over.
        """
        with full_precision(video, text) as (video, text):
            rows = scale * (video[own] @ text.T)
            columns = scale * (text[own] @ video.T)
            if row_positives is None or column_positives is None:
                target = torch.arange(own.start, own.stop, device=video.device)
                sums = [F.cross_entropy(logits, target, reduction="sum") for logits in (rows, columns)]
                return torch.stack(sums), torch.full_like(torch.stack(sums), len(target), requires_grad=False)
            forth, n_rows = self._sum(rows, row_positives)
            back, n_columns = self._sum(columns, column_positives.T)
            return torch.stack([forth, back]), torch.stack([n_rows, n_columns])

    @abstractmethod
    def per_query(
        self,
        logits: Float[Tensor, "queries items"],
        positives: Weights,
        has_positive: Bool[Tensor, "queries"],
    ) -> Float[Tensor, "queries"]:
        """Return what each query costs: finite, gradient too, and without gradient where it has no positive.

        Args:
            logits: similarity of each query to each item, times the scale.
            positives: which items are right for which queries, or their weights.
            has_positive: whether a query has any, or a weight above 0.
        """

    def _sum(self, logits: Float[Tensor, "queries items"], positives: Weights) -> tuple[Tensor, Tensor]:
        """Sum over the queries that have a positive, and count them."""
        has_positive = (positives if positives.dtype == torch.bool else positives > 0).any(dim=1)
        losses = self.per_query(logits, positives, has_positive)
        return torch.where(has_positive, losses, 0.0).sum(), has_positive.sum().to(logits.dtype)


def check_pairs(video: Float[Tensor, "n dim"], text: Float[Tensor, "m dim"]) -> None:
    """Refuse videos and texts that make no pairs.

    Raises:
        ValueError: there are more of one than of the other.
    """
    if len(video) != len(text):
        raise ValueError(f"{len(video)} videos and {len(text)} texts: without positives, pair i is (video i, text i)")


def check_some(counts: Float[Tensor, " directions"]) -> None:
    """Refuse a batch in which nothing has a positive, where asking costs nothing: on a CPU.

    Raises:
        ValueError: a direction has no query with a positive.
    """
    if counts.device.type == "cpu" and not (counts > 0).all():
        raise ValueError("no video has a positive text, or no text a positive video: nothing to learn from")


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
