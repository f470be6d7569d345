"""Binary cross-entropy of every pair of a batch, a few rows at a time: memory for those rows, not for the matrix."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

Matrix = Bool[Tensor, "rows m"] | Float[Tensor, "rows m"]
RowsOfPositives = Callable[[slice], Matrix]  # from some videos to their rows of the matrix


def sum_over_pairs(
    video: Float[Tensor, "n dim"],
    text: Float[Tensor, "m dim"],
    scale: Float[Tensor, ""] | float | int,
    bias: Float[Tensor, ""] | None,
    positives: Matrix | RowsOfPositives | None,
    chunk: int | None,
    first: int = 0,
) -> Float[Tensor, ""]:
    """Sum the binary cross-entropy of all n x m pairs, whose logits are `scale * video @ text.T + bias`.

    A chunk's logits live until its gradients are computed, in the forward pass already: they are sums over pairs, so
    backward has only to multiply them. That takes three products where plain autograd takes three too, and recomputing
    in backward (`torch.utils.checkpoint`) four. There is no second derivative.

    Args:
        video: float32 or float64, like `text`.
        text: see above.
        scale: multiplier of the dot products.
        bias: added to the logits, None for 0.
        positives: which pairs are right, or how surely, between 0 and 1; a function returns the rows of some videos, so
            that the matrix never exists whole; None, where video i belongs to text `first + i`.
        chunk: rows at a time, None for all.
        first: see `positives`.
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
        positives: Matrix | RowsOfPositives | None,
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
            del logits, slope  # before the next chunk's are made
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


def _targets(logits: Tensor, positives: Matrix | RowsOfPositives | None, rows: slice, first: int) -> Tensor:
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
    """Return the sum, and the derivative by the logits, which are overwritten.

    Each term is `softplus` of a logit whose sign says wrong: nothing is subtracted, as it is where cross-entropy is
    made for any target, and there every one of millions of negatives, each about exp(-10), gets an error of 1e-6.
    """
    if targets.dtype == torch.bool:
        wrong = torch.where(targets, -logits, logits)
        loss = F.softplus(wrong).sum()
        if not with_gradient:
            return loss, None
        slope = wrong.sigmoid_()
        return loss, torch.where(targets, -slope, slope, out=logits)
    targets = targets.to(logits.dtype)
    loss = ((1 - targets) * F.softplus(logits)).sum() + (targets * F.softplus(-logits)).sum()
    return loss, logits.sigmoid_().sub_(targets) if with_gradient else None
