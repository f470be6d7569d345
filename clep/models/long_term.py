"""Video tower with a long-term context, such as the minute around a moment."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from clep.config.requirements import Need
from clep.errors import InputError
from clep.models.dual_encoder import Tower
from clep.models.feature_bank_operators import FeatureBankOperator
from clep.models.pooling import masked_mean
from clep.models.projection import ActivationName, InitName, ProjectionHead
from clep.models.temporal import GatedAttention, TemporalAttention


class LongTermTower(Tower):
    """Projection of short-term features concatenated with the output of a feature bank operator.

    "Long-Term Feature Banks" (Wu et al., CVPR 2019). Reads `video` `[b, d]`, or `[b, t, d]` with `video_mask`; then the
    operator is applied to each row and the result averaged over rows. Also reads `context` `[b, slots, d]` with
    `context_mask` `[b, slots]`, or shared rows: `context` `[rows, d]`, with a `context_mask` `[b, rows]` that is True
    for the rows of each moment (see `LongTerm.gather_shared`).

    Args:
        in_dim: feature dimension of the bank.
        out_dim: dimension of the embedding.
        operator: a feature bank operator for `in_dim`.
        attention: temporal attention over the rows of the window, combined by a `GatedAttention`; None to omit it.
        gate: initial weight of the attention.
        hidden_dim, layers, activation, dropout, init: of the projection, see `ProjectionHead`.

    Raises:
        InputError: an option is out of range, or the operator has another dimension; when called, a batch without
            context, or rows of another dimension.

    Examples:
        >>> import torch
        >>> from clep.models import FBONonLocal, LongTermTower
        >>> tower = LongTermTower(in_dim=12, out_dim=8, operator=FBONonLocal(12, latent_dim=16))
        >>> context = {"context": torch.randn(2, 60, 12), "context_mask": torch.ones(2, 60, dtype=torch.bool)}
        >>> tower({"video": torch.randn(2, 12), **context}).shape
        torch.Size([2, 8])
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        operator: FeatureBankOperator,
        hidden_dim: int | None = None,
        layers: int = 2,
        activation: ActivationName = "relu",
        dropout: float | int = 0.0,
        init: InitName = "default",
        attention: TemporalAttention | None = None,
        gate: float | int = 0.05,
    ) -> None:
        super().__init__()
        if (operator.in_dim, operator.context_dim) != (in_dim, in_dim):
            raise InputError(
                f"the operator has in_dim={operator.in_dim} and context_dim={operator.context_dim}, but the tower has "
                f"in_dim={in_dim}; set both to it"
            )
        self.in_dim, self.out_dim = in_dim, out_dim
        self.operator = operator
        self.shares_context = operator.empty_slots == "masked"
        self.head = ProjectionHead(
            in_dim + operator.out_dim, out_dim, hidden_dim, layers, activation, dropout=dropout, init=init
        )
        self.mixture = None if attention is None else GatedAttention(attention, out_dim, gate)

    @classmethod
    def requires(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a run that this tower needs: a context, and rows for attention."""
        remedy = "use experiment=ego4d_long_term, or add 'data.context={_target_: clep.data.LongTerm}'"
        needs = {"data.context": Need(..., "the minute around a moment", remedy)}
        if config.get("attention"):
            needs["data.window.pool"] = Need("rows", "attention to the rows of a window in their order")
        return needs

    def forward(self, batch: dict[str, Any]) -> Float[Tensor, "batch embed"]:
        """Embed a batch."""
        if "video" not in batch:
            raise ValueError(f"the batch has no 'video'; it has {sorted(batch)}")
        if "context" not in batch or "context_mask" not in batch:
            raise InputError(
                "the model's LongTermTower needs a long-term context, but the batch has none; set data.context "
                "(clep.data.LongTerm) as in experiment=ego4d_long_term"
            )
        short_term, mask = batch["video"], batch.get("video_mask")
        if short_term.ndim == 3 and mask is not None:
            short_term = short_term.masked_fill(~mask[:, :, None], 0)
        joined = torch.cat([short_term, self._operate(short_term, batch["context"], batch["context_mask"])], dim=-1)
        embedding = self.head(masked_mean(joined, mask) if joined.ndim == 3 else joined)
        return embedding if self.mixture is None else self.mixture(embedding, short_term, mask)

    def _operate(
        self,
        short_term: Float[Tensor, "moments *time in_dim"],
        context: Float[Tensor, "*batch slots context_dim"],
        mask: Bool[Tensor, "moments slots"],
    ) -> Float[Tensor, "moments *time found"]:
        """Return the operator's output for one context per moment, or for shared rows."""
        if context.ndim == 3:
            return self.operator(short_term, context, mask)
        every = short_term.reshape(1, -1, self.in_dim)
        own = mask.repeat_interleave(every.shape[1] // max(1, len(mask)), dim=0)
        return self.operator(every, context[None], own[None]).view(*short_term.shape[:-1], self.operator.out_dim)
