"""A video tower that sees the minute around a moment."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from clep.errors import InputError
from clep.models.dual_encoder import Tower
from clep.models.feature_bank_operators import FeatureBankOperator
from clep.models.pooling import masked_mean
from clep.models.projection import ProjectionHead
from clep.models.temporal import GatedAttention, TemporalAttention


class LongTermTower(Tower):
    """Join a moment's short window with its long-term context by a feature bank operator, and project both.

    The short-term features and the operator's output are concatenated, as in "Long-Term Feature Banks" (Wu et al.,
    CVPR 2019). A batch has `video` `[b, d]`, or `[b, t, d]` with `video_mask`, whose rows ask the operator one by one
    and are averaged afterwards, and `context` `[b, slots, d]` with `context_mask` `[b, slots]`; or rows that all
    moments share, `context` `[rows, d]`, of which each has those that `context_mask` `[b, rows]` says.

    Args:
        in_dim: numbers in a row of the bank.
        out_dim: numbers in an embedding.
        operator: of `clep.models`, made for rows of `in_dim` numbers.
        attention: over the rows of the window, mixed in as a `GatedAttention` says; None for none.
        gate: its share at the start.
        hidden_dim, layers, activation, dropout, init: of the projection, see `ProjectionHead`.

    Raises:
        InputError: an option has no meaning, or the operator is for rows of another size; when called, a batch without
            context, or rows of another size.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        operator: FeatureBankOperator,
        hidden_dim: int | None = None,
        layers: int = 2,
        activation: str = "relu",
        dropout: float | int = 0.0,
        init: str = "default",
        attention: TemporalAttention | None = None,
        gate: float | int = 0.05,
    ) -> None:
        super().__init__()
        if (operator.in_dim, operator.context_dim) != (in_dim, in_dim):
            raise InputError(
                f"the operator takes features of {operator.in_dim} numbers with a context of {operator.context_dim}, "
                f"but both come from a bank of {in_dim}: give the operator the tower's in_dim"
            )
        self.in_dim, self.out_dim = in_dim, out_dim
        self.operator = operator
        self.shares_context = operator.empty_slots == "masked"
        self.head = ProjectionHead(
            in_dim + operator.out_dim, out_dim, hidden_dim, layers, activation, dropout=dropout, init=init
        )
        self.mixture = None if attention is None else GatedAttention(attention, out_dim, gate)

    def forward(self, batch: dict[str, Any]) -> Float[Tensor, "batch embed"]:
        """Embed a batch."""
        if "video" not in batch:
            raise ValueError(f"the batch has no 'video'; it has {sorted(batch)}")
        if "context" not in batch or "context_mask" not in batch:
            raise InputError(
                "this model's LongTermTower needs the minute around a moment, and the batch has no context; set "
                "data.context (clep.data.LongTerm) as experiment=ego4d_long_term does"
            )
        short_term, mask = batch["video"], batch.get("video_mask")
        if short_term.ndim == 3 and mask is not None:
            short_term = short_term.masked_fill(~mask[:, :, None], 0)
        joined = torch.cat([short_term, self._found(short_term, batch["context"], batch["context_mask"])], dim=-1)
        embedding = self.head(masked_mean(joined, mask) if joined.ndim == 3 else joined)
        return embedding if self.mixture is None else self.mixture(embedding, short_term, mask)

    def _found(
        self,
        short_term: Float[Tensor, "moments *time in_dim"],
        context: Float[Tensor, "*batch slots context_dim"],
        mask: Bool[Tensor, "moments slots"],
    ) -> Float[Tensor, "moments *time found"]:
        """Return what the operator finds in the contexts, or in the rows that all moments share."""
        if context.ndim == 3:
            return self.operator(short_term, context, mask)
        every = short_term.reshape(1, -1, self.in_dim)
        own = mask.repeat_interleave(every.shape[1] // max(1, len(mask)), dim=0)
        return self.operator(every, context[None], own[None]).view(*short_term.shape[:-1], self.operator.out_dim)
