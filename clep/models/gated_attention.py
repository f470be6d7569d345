"""An embedding of means, and what attention to the order of rows adds to it."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from clep.errors import InputError
from clep.models.temporal_attention import TemporalAttention


class GatedAttention(nn.Module):
    """Mix an embedding with temporal attention over a window's rows: (1 − g) · embedding + g · out(attention).

    `g`, one number in (0, 1) for each number of the embedding, is learned and starts at `gate`: training starts near
    the path of the mean, which learns fast, and takes from the attention what the mean cannot tell.

    Args:
        attention: over the rows.
        out_dim: numbers in an embedding.
        gate: share of the attention at the start.

    Raises:
        InputError: `gate` is no share.
    """

    def __init__(self, attention: TemporalAttention, out_dim: int, gate: float | int = 0.05) -> None:
        super().__init__()
        if not 0 < gate < 1:
            raise InputError(f"gate={gate} must lie between 0 and 1: the share of the attention at the start")
        self.attention, self.out = attention, nn.Linear(attention.out_dim, out_dim)
        self.gate = nn.Parameter(torch.full((out_dim,), math.log(gate / (1 - gate))))

    def forward(
        self,
        embedding: Float[Tensor, "batch embed"],
        rows: Float[Tensor, "batch *time dim"],
        mask: Bool[Tensor, "batch time"] | None,
    ) -> Float[Tensor, "batch embed"]:
        """Return the mixture, in float32; a window without rows attends to nothing.

        Raises:
            InputError: the batch has the windows' means instead of their rows.
        """
        if rows.ndim != 3:
            raise InputError(
                f"temporal attention reads the rows of a window [b, t, d] and got {list(rows.shape)}, the windows' "
                f"means; set data.window.pool=rows"
            )
        attended = self.out(self.attention(rows, mask))
        return torch.lerp(embedding.float(), attended.float(), self.gate.float().sigmoid())
