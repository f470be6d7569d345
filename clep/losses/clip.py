"""CLIP's objective: cross-entropy from each video to all texts, and from each text to all videos."""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

Weights = Bool[Tensor, "queries items"] | Float[Tensor, "queries items"]


class TwoWayLoss(nn.Module):
    """Base class of softmax objectives: the mean of a video-to-text and a text-to-video loss.

    Each direction is a mean over its queries, and each query's softmax is over all items. Subclasses define
    `per_query`, the loss of a query with one or more positives. A query without positives only serves as a negative of
    others, and is excluded from the mean of its direction.

    Losses have no parameters and no state, and do not communicate (see `across_ranks`). Logits and softmax are computed
    in float32 under autocast too; float64 stays float64.
    """

    uses_bias = False  # a constant cancels in a softmax

    def forward(
        self,
        video: Float[Tensor, "n dim"],
        text: Float[Tensor, "m dim"],
        scale: Float[Tensor, ""] | float | int,
        positives: Bool[Tensor, "n m"] | Float[Tensor, "n m"] | None = None,
        bias: Float[Tensor, ""] | None = None,
    ) -> Float[Tensor, ""]:
        """Return the loss of a batch.

        Args:
            video: embeddings, one per row.
            text: embeddings; if `positives` is None, text i belongs to video i.
            scale: multiplier of the dot products (after `exp`, if the model stores the logarithm).
            positives: mask of the positives, or their non-negative weights.
            bias: ignored; accepted because all losses have the same signature.

        Raises:
            ValueError: n differs from m without `positives`; or, on a CPU, no row or no column has a positive. On a GPU
                the result is NaN instead, since the check would synchronise.
        """
        if positives is None:
            check_pairs(video, text)
        with full_precision(video, text) as (video, text):
            logits = scale * (video @ text.T)
            if positives is None:
                target = torch.arange(len(video), device=video.device)
                return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
            video_to_text, videos = self._sum(logits, positives)
            text_to_video, texts = self._sum(logits.T, positives.T)
            check_has_positives(torch.stack([videos, texts]))
            return (video_to_text / videos + text_to_video / texts) / 2

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

        With `sums` and `counts` summed over all ranks, the loss of the joined batch is `(sums / counts).mean()`. Only
        the `own` rows and columns of the logits are computed.

        Args:
            video, text, scale: as in `forward`, of the joined batch.
            own: the pairs of this rank.
            row_positives: `positives[own]`; None for pairs on the diagonal.
            column_positives: `positives[:, own]`.
            bias: ignored.

        Returns:
            sums: video-to-text summed over own videos, text-to-video summed over own texts.
            counts: number of queries in each sum.
        """
        with full_precision(video, text) as (video, text):
            rows = scale * (video[own] @ text.T)
            columns = scale * (text[own] @ video.T)
            if row_positives is None or column_positives is None:
                target = torch.arange(own.start, own.stop, device=video.device)
                sums = [F.cross_entropy(logits, target, reduction="sum") for logits in (rows, columns)]
                return torch.stack(sums), torch.full_like(torch.stack(sums), len(target), requires_grad=False)
            video_to_text, videos = self._sum(rows, row_positives)
            text_to_video, texts = self._sum(columns, column_positives.T)
            return torch.stack([video_to_text, text_to_video]), torch.stack([videos, texts])

    @abstractmethod
    def per_query(
        self,
        logits: Float[Tensor, "queries items"],
        positives: Weights,
        has_positive: Bool[Tensor, "queries"],
    ) -> Float[Tensor, "queries"]:
        """Return the loss of each query; finite with finite gradient, and 0 gradient for queries without a positive.

        Args:
            logits: similarity of each query to each item, times the scale.
            positives: mask or weights of each query's positives.
            has_positive: whether a query has a positive, or a weight above 0.
        """

    def _sum(self, logits: Float[Tensor, "queries items"], positives: Weights) -> tuple[Tensor, Tensor]:
        """Return the sum over the queries with a positive, and the count of these queries."""
        has_positive = (positives if positives.dtype == torch.bool else positives > 0).any(dim=1)
        losses = self.per_query(logits, positives, has_positive)
        return torch.where(has_positive, losses, 0.0).sum(), has_positive.sum().to(logits.dtype)


class ClipLoss(TwoWayLoss):
    """Symmetric cross-entropy over the logits `scale * video @ text.T` (Radford et al. 2021, figure 3).

    With `positives`, the target of a query is distributed over its positives in proportion to their weights: the
    targets of each row sum to 1, and separately those of each column. With weights from text similarity
    (`TextSimilarityPositives`) this is soft-label CLIP.

    Examples:
        >>> import torch
        >>> from clep.losses import ClipLoss
        >>> video, text = torch.eye(4), torch.eye(4)  # each video matches its own text only
        >>> round(float(ClipLoss()(video, text, scale=10.0)), 5)
        0.00014
        >>> round(float(ClipLoss()(video, text.flip(0), scale=10.0)), 2)
        10.0
    """

    def per_query(
        self,
        logits: Float[Tensor, "queries items"],
        positives: Weights,
        has_positive: Bool[Tensor, "queries"],
    ) -> Float[Tensor, "queries"]:
        """Return the cross-entropy of each query to its weighted positives."""
        weight = positives.to(logits.dtype)
        total = weight.sum(dim=1)
        target = weight / torch.where(has_positive, total, 1.0)[:, None]
        return -(target * F.log_softmax(logits, dim=1)).sum(dim=1)


@contextmanager
def full_precision(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Disable autocast inside the block, and yield the tensors in float32; float64 stays float64."""
    with torch.autocast(device_type=tensors[0].device.type, enabled=False):
        yield tuple(tensor.to(torch.promote_types(tensor.dtype, torch.float32)) for tensor in tensors)


def check_pairs(video: Float[Tensor, "n dim"], text: Float[Tensor, "m dim"]) -> None:
    """Check that there are as many videos as texts.

    Raises:
        ValueError: there are not.
    """
    if len(video) != len(text):
        raise ValueError(f"{len(video)} videos and {len(text)} texts: without positives, pair i is (video i, text i)")


def check_has_positives(counts: Float[Tensor, " directions"]) -> None:
    """Check that each direction has a query with a positive; CPU only, to avoid a GPU sync.

    Raises:
        ValueError: a count is 0.
    """
    if counts.device.type == "cpu" and not (counts > 0).all():
        raise ValueError("no video has a positive text, or no text a positive video; check the rule for positives")
