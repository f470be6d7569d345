"""The objective of SigLIP: whether a video and a text belong together is asked of each pair by itself."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from clep.errors import InputError
from clep.losses.pairwise import RowsOfPositives, sum_over_pairs
from clep.losses.precision import full_precision
from clep.losses.two_way import check_pairs


class SigmoidLoss(nn.Module):
    """Classify every pair of a batch as right or wrong (SigLIP: Zhai et al. 2023).

    The loss is the binary cross-entropy of the logits `scale * video @ text.T + bias`, summed over all n x m pairs and
    divided by the number of videos, as published. There nearly all pairs are wrong, so a model starts with a bias of
    -10 and a scale of 10, at which it calls all of them wrong (`loss=siglip` sets both). It is pure: no parameters, no
    state, no communication (see `across_ranks`). Computed in float32, under autocast too; float64 stays float64.

    Rows are taken `chunk` at a time, forward and backward, so memory grows with chunk x texts. The value and the
    gradient are those of all rows at once; there is no second derivative.

    Args:
        chunk: rows at a time, None for all.
    """

    by_rows = True  # positives may be a function that returns some rows of the matrix

    def __init__(self, chunk: int | None = 1024) -> None:
        super().__init__()
        if chunk is not None and chunk < 1:
            raise InputError(f"loss.chunk={chunk} must be a number of rows, or null for all")
        self.chunk = chunk

    def forward(
        self,
        video: Float[Tensor, "n dim"],
        text: Float[Tensor, "m dim"],
        scale: Float[Tensor, ""] | float | int,
        positives: Bool[Tensor, "n m"] | Float[Tensor, "n m"] | RowsOfPositives | None = None,
        bias: Float[Tensor, ""] | None = None,
    ) -> Float[Tensor, ""]:
        """Compute the loss of a batch.

        Args:
            video: embeddings, one a row.
            text: embeddings; where `positives` is None, text i belongs to video i.
            scale: multiplier of the dot products (after `exp`, where the model stores a logarithm).
            positives: which texts are right for which videos, or how surely, between 0 and 1; or a function from a
                slice of videos to their rows, so that the matrix never exists whole. A row need not have any.
            bias: added to all logits, None for 0.

        Raises:
            ValueError: n differs from m without `positives`, or these are of another shape.
        """
        if positives is None:
            check_pairs(video, text)
        with full_precision(video, text) as (video, text):
            total = sum_over_pairs(video, text, scale, bias, positives, self.chunk)
            return total / self._count(len(video), len(text))

    def share(
        self,
        video: Float[Tensor, "total dim"],
        text: Float[Tensor, "total dim"],
        own: slice,
        scale: Float[Tensor, ""] | float | int,
        row_positives: Bool[Tensor, "own total"] | Float[Tensor, "own total"] | RowsOfPositives | None = None,
        column_positives: Bool[Tensor, "total own"] | Float[Tensor, "total own"] | RowsOfPositives | None = None,
        bias: Float[Tensor, ""] | None = None,
    ) -> tuple[Float[Tensor, "terms"], Float[Tensor, "terms"]]:
        """Compute one rank's share of the loss of a joined batch, for the local form of `across_ranks`.

        It is over own videos and all texts, so that the ranks' shares hold each pair once; own columns are not needed.

        Returns:
            sums: the one sum over pairs.
            counts: what the sum is divided by, see `ClipLoss.share`.
        """
        with full_precision(video, text) as (video, text):
            total = sum_over_pairs(video[own], text, scale, bias, row_positives, self.chunk, own.start)
            count = self._count(own.stop - own.start, len(text))
            return total[None], torch.full_like(total[None], count, requires_grad=False)

    def _count(self, videos: int, texts: int) -> int:
        return videos
