"""A video tower that sees the order of a window's rows."""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from clep.models.gated_attention import GatedAttention
from clep.models.pooling import masked_mean
from clep.models.projection import ProjectionHead
from clep.models.temporal_attention import TemporalAttention
from clep.models.tower import Tower


class TemporalTower(Tower):
    """Join the projection of a window's mean with temporal self-attention over its rows, see `GatedAttention`.

    A batch has `video` `[b, t, d]` with `video_mask` `[b, t]` (`data.window.pool=rows`). A window without rows counts
    as a mean of zeros with nothing attended to.

    Args:
        in_dim: numbers in a row of the bank.
        out_dim: numbers in an embedding.
        hidden_dim, layers, activation, dropout, init: of the projection of the mean, see `ProjectionHead`; `dropout`
            is the attention's too.
        dim, depth, heads, pool, positions, max_rows: of the attention, see `TemporalAttention`.
        gate: share of the attention at the start.

    Raises:
        InputError: an option has no meaning; when called, a batch of means instead of rows, or rows of another size.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        hidden_dim: int | None = None,
        layers: int = 2,
        activation: str = "relu",
        dropout: float | int = 0.0,
        init: str = "default",
        dim: int = 512,
        depth: int = 2,
        heads: int = 8,
        pool: str = "attention",
        positions: str = "rotary",
        max_rows: int = 16,
        gate: float | int = 0.05,
    ) -> None:
        super().__init__()
        self.in_dim, self.out_dim = in_dim, out_dim
        self.head = ProjectionHead(in_dim, out_dim, hidden_dim, layers, activation, dropout=dropout, init=init)
        attention = TemporalAttention(in_dim, dim, depth, heads, pool, positions, max_rows, dropout)
        self.mixture = GatedAttention(attention, out_dim, gate)

    def forward(self, batch: dict[str, Any]) -> Float[Tensor, "batch embed"]:
        """Embed a batch."""
        if "video" not in batch:
            raise ValueError(f"the batch has no 'video'; it has {sorted(batch)}")
        rows, mask = batch["video"], batch.get("video_mask")
        return self.mixture(self.head(masked_mean(rows, mask) if rows.ndim == 3 else rows), rows, mask)
