"""The objective of CLIP: each video finds its text among all texts, and each text its video."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from clep.losses.precision import full_precision


class ClipLoss(nn.Module):
    """Contrast videos and texts by cross-entropy in both directions (Radford et al. 2021, figure 3).

    `loss(video, text, scale)` is the mean of video-to-text and text-to-video cross-entropy over the logits
    `scale * video @ text.T`. It is pure: no parameters, no state, no communication (see `across_ranks`).
    Logits and softmax are computed in float32, under autocast too; float64 stays float64.

    With `positives`, an item's target is spread over its positives in proportion to their weight: the targets of
    each row sum to 1, and those of each column do so separately. An item without any positive (a row or column that
    is there only as a negative) is left out of its direction's mean.
    """

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
        if positives is None and len(video) != len(text):
            raise ValueError(
                f"{len(video)} videos and {len(text)} texts: without positives, pair i is (video i, text i)"
            )
        with full_precision(video, text) as (video, text):
            logits = scale * (video @ text.T)
            if positives is None:
                target = torch.arange(len(video), device=video.device)
                return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
            forth, rows = _sum_over_positives(logits, positives)
            back, columns = _sum_over_positives(logits.T, positives.T)
            _check_some(rows, columns)
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
            forth, n_rows = _sum_over_positives(rows, row_positives)
            back, n_columns = _sum_over_positives(columns, column_positives.T)
            return torch.stack([forth, back]), torch.stack([n_rows, n_columns])


def _sum_over_positives(
    logits: Float[Tensor, "queries items"], positives: Bool[Tensor, "queries items"] | Float[Tensor, "queries items"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Sum the cross-entropy of the queries that have a positive, and count them."""
    weight = positives.to(logits.dtype)
    total = weight.sum(dim=1)
    has_positive = total > 0
    target = weight / torch.where(has_positive, total, 1.0)[:, None]
    return -(target * F.log_softmax(logits, dim=1)).sum(), has_positive.sum().to(logits.dtype)


def _check_some(rows: Float[Tensor, ""], columns: Float[Tensor, ""]) -> None:
    if rows.device.type == "cpu" and not (rows > 0 and columns > 0):
        raise ValueError("no video has a positive text, or no text a positive video: nothing to learn from")
