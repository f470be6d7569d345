"""SigLIP's objective: binary classification of each pair of a video and a text as matching or not."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from clep.config.requirements import Need
from clep.errors import InputError
from clep.losses.clip import check_pairs, full_precision

Matrix = Bool[Tensor, "rows m"] | Float[Tensor, "rows m"]
PositivesOfRows = Callable[[slice], Matrix]  # from a slice of videos to their rows of the matrix of positives


class SigmoidLoss(nn.Module):
    """Binary cross-entropy of every pair of a batch (SigLIP: Zhai et al. 2023).

    The logits are `scale * video @ text.T + bias`; the loss is summed over all n x m pairs and divided by the number of
    videos, as published. It has no parameters and no state, and does not communicate (see `across_ranks`). It is
    computed in float32 under autocast too; float64 stays float64.

    Nearly all pairs are negatives, so the model's bias should start near the log odds of a positive: see `loss=siglip`.

    Rows are processed `chunk` at a time, forward and backward, so memory grows with chunk x texts. Value and gradient
    equal those of all rows at once; there is no second derivative.

    Args:
        chunk: rows processed at a time, None for all.

    Raises:
        InputError: `chunk` is below 1.

    Examples:
        >>> import torch
        >>> from clep.losses import SigmoidLoss
        >>> bias = torch.tensor(-10.0)
        >>> round(float(SigmoidLoss()(torch.eye(4), torch.eye(4), 20.0, bias=bias)), 4)
        0.0002
    """

    by_rows = True  # positives may be a function that returns rows of the matrix

    @classmethod
    def requires(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a run that this loss needs: a multiplier that can outgrow the bias of -10."""
        reason = "the multiplier starts at 10 and the bias at -10; a raw multiplier stays below ln 100"
        return {"model.scale_form": Need("exp", reason)}

    def __init__(self, chunk: int | None = 1024) -> None:
        super().__init__()
        if chunk is not None and chunk < 1:
            raise InputError(f"loss.chunk={chunk} must be at least 1, or null for all rows at once")
        self.chunk = chunk

    def forward(
        self,
        video: Float[Tensor, "n dim"],
        text: Float[Tensor, "m dim"],
        scale: Float[Tensor, ""] | float | int,
        positives: Bool[Tensor, "n m"] | Float[Tensor, "n m"] | PositivesOfRows | None = None,
        bias: Float[Tensor, ""] | None = None,
    ) -> Float[Tensor, ""]:
        """Return the loss of a batch.

        Args:
            video: embeddings, one per row.
            text: embeddings; if `positives` is None, text i belongs to video i.
            scale: multiplier of the dot products (after `exp`, if the model stores the logarithm).
            positives: mask of the positives, or soft labels between 0 and 1; or a function from a slice of videos to
                their rows of that matrix, so that the full matrix is never in memory. A row may have no positive.
            bias: added to all logits, None for 0.

        Raises:
            ValueError: n differs from m without `positives`, or these have another shape.
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
        row_positives: Bool[Tensor, "own total"] | Float[Tensor, "own total"] | PositivesOfRows | None = None,
        column_positives: Bool[Tensor, "total own"] | Float[Tensor, "total own"] | PositivesOfRows | None = None,
        bias: Float[Tensor, ""] | None = None,
    ) -> tuple[Float[Tensor, "terms"], Float[Tensor, "terms"]]:
        """Return one rank's share of the loss of a joined batch, for the local form of `across_ranks`.

        A share covers own videos and all texts, so the shares of all ranks cover each pair once.

        Args:
            video, text, scale, bias: as in `forward`, of the joined batch.
            own: the pairs of this rank.
            row_positives: `positives[own]`; None for pairs on the diagonal.
            column_positives: ignored.

        Returns:
            sums: one sum over pairs.
            counts: its divisor, see `ClipLoss.share`.
        """
        with full_precision(video, text) as (video, text):
            total = sum_over_pairs(video[own], text, scale, bias, row_positives, self.chunk, own.start)
            count = self._count(own.stop - own.start, len(text))
            return total[None], torch.full_like(total[None], count, requires_grad=False)

    def _count(self, videos: int, texts: int) -> int:
        return videos


def sum_over_pairs(
    video: Float[Tensor, "n dim"],
    text: Float[Tensor, "m dim"],
    scale: Float[Tensor, ""] | float | int,
    bias: Float[Tensor, ""] | None,
    positives: Matrix | PositivesOfRows | None,
    chunk: int | None,
    first: int = 0,
) -> Float[Tensor, ""]:
    """Sum the binary cross-entropy of all n x m pairs, with logits `scale * video @ text.T + bias`.

    The gradients of a chunk are computed in the forward pass, while its logits exist: the loss is a sum over pairs, so
    backward only multiplies them by the incoming gradient. That takes three matrix products, as plain autograd does;
    recomputing in backward (`torch.utils.checkpoint`) takes four. There is no second derivative.

    Args:
        video: float32 or float64, like `text`.
        text: one embedding per row.
        scale: multiplier of the dot products.
        bias: added to the logits, None for 0.
        positives: see `SigmoidLoss.forward`; None if video i belongs to text `first + i`.
        chunk: rows processed at a time, None for all.
        first: index of the text of the first video.
    """
    scale = torch.as_tensor(scale, dtype=video.dtype, device=video.device)
    bias = torch.zeros_like(scale) if bias is None else bias.to(scale)
    with_gradient = torch.is_grad_enabled() and any(t.requires_grad for t in (video, text, scale, bias))
    chunk = max(1, min(chunk or len(video), len(video)))
    return _SumOverPairs.apply(video, text, scale, bias, positives, first, chunk, with_gradient)


class _SumOverPairs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        video: Tensor,
        text: Tensor,
        scale: Tensor,
        bias: Tensor,
        positives: Matrix | PositivesOfRows | None,
        first: int,
        chunk: int,
        with_gradient: bool,
    ) -> Tensor:
        total, d_bias = torch.zeros_like(scale), torch.zeros_like(bias)
        d_video, d_text = (torch.zeros_like(side) if with_gradient else None for side in (video, text))
        for start in range(0, len(video), chunk):
            rows = slice(start, min(start + chunk, len(video)))
            logits = (video[rows] @ text.T).mul_(scale).add_(bias)
            loss, slope = _cross_entropy(logits, _targets(logits, positives, rows, first), with_gradient)
            total += loss
            if d_video is not None and d_text is not None and slope is not None:
                torch.mm(slope, text, out=d_video[rows])
                d_text.addmm_(slope.T, video[rows])
                d_bias += slope.sum()
            del logits, slope  # free them before the next chunk
        if d_video is not None and d_text is not None:
            d_scale = (d_video * video).sum()
            ctx.save_for_backward(d_video.mul_(scale), d_text.mul_(scale), d_scale, d_bias)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("the sum over pairs has no second derivative (create_graph=True)")
        wanted = zip(ctx.saved_tensors, ctx.needs_input_grad, strict=False)
        return *(saved * gradient if needed else None for saved, needed in wanted), None, None, None, None


def _targets(logits: Tensor, positives: Matrix | PositivesOfRows | None, rows: slice, first: int) -> Tensor:
    if positives is None:
        targets = torch.zeros_like(logits, dtype=torch.bool)
        targets.diagonal(first + rows.start).fill_(True)
        return targets
    targets = positives(rows) if callable(positives) else positives[rows]
    if targets.shape != logits.shape:
        raise ValueError(
            f"positives of shape {tuple(targets.shape)} for {logits.shape[0]} videos and {logits.shape[1]} texts"
        )
    return targets


def _cross_entropy(
    logits: Float[Tensor, "rows m"], targets: Matrix, with_gradient: bool
) -> tuple[Float[Tensor, ""], Float[Tensor, "rows m"] | None]:
    """Return the sum over pairs, and its derivative with respect to the logits, which are overwritten.

    For binary targets each term is `softplus(±logit)`. The general formula subtracts two large numbers: an error of
    1e-6 for each of millions of negatives whose terms are about exp(-10).
    """
    if targets.dtype == torch.bool:
        signed = torch.where(targets, -logits, logits)
        loss = F.softplus(signed).sum()
        if not with_gradient:
            return loss, None
        slope = signed.sigmoid_()
        return loss, torch.where(targets, -slope, slope, out=logits)
    targets = targets.to(logits.dtype)
    loss = ((1 - targets) * F.softplus(logits)).sum() + (targets * F.softplus(-logits)).sum()
    return loss, logits.sigmoid_().sub_(targets) if with_gradient else None
