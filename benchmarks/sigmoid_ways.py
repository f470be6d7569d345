"""What `SigmoidLoss` is measured beside: the loss as it is usually written, and chunks that are computed twice."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


class PlainSigmoidLoss(nn.Module):
    """Logits, signs and terms of all pairs at once, differentiated by autograd."""

    def forward(
        self, video: Tensor, text: Tensor, scale: Tensor, positives: Tensor | None = None, bias: Tensor | None = None
    ) -> Tensor:
        """Compute the loss of a batch; see `clep.losses.SigmoidLoss`."""
        if positives is None:
            positives = torch.eye(len(video), dtype=torch.bool, device=video.device)
        return _terms(video, text, scale, bias, positives) / len(video)


class RecomputedSigmoidLoss(nn.Module):
    """Some rows at a time, whose logits are computed again in the backward pass (`torch.utils.checkpoint`)."""

    by_rows = True

    def __init__(self, chunk: int) -> None:
        super().__init__()
        self.chunk = chunk

    def forward(
        self, video: Tensor, text: Tensor, scale: Tensor, positives: object = None, bias: object = None
    ) -> Tensor:
        """Compute the loss of a batch; `positives` is a function from rows to their part of the matrix."""

        def some_rows(video: Tensor, text: Tensor, rows: slice) -> Tensor:
            return _terms(video, text, scale, bias, positives(rows))

        total = torch.zeros((), device=video.device)
        for start in range(0, len(video), self.chunk):
            rows = slice(start, start + self.chunk)
            total = total + checkpoint(some_rows, video[rows], text, rows, use_reentrant=False)
        return total / len(video)


def _terms(video: Tensor, text: Tensor, scale: Tensor, bias: Tensor | None, positives: Tensor) -> Tensor:
    logits = scale * (video @ text.T) + (0.0 if bias is None else bias)
    return -F.logsigmoid(logits * (2 * positives.to(logits.dtype) - 1)).sum()
