"""The operators "average" and "max": a moment's context pooled over its slots, whatever the moment shows."""

from jaxtyping import Bool, Float
from torch import Tensor, nn

from clep.models.feature_bank_operators.operator import FeatureBankOperator, check_dropout
from clep.models.pooling import masked_max, masked_mean


class _Pooled(FeatureBankOperator):
    def __init__(
        self, in_dim: int, context_dim: int | None = None, latent_dim: int | None = 512, dropout: float | int = 0.2
    ) -> None:
        context = in_dim if context_dim is None else context_dim
        super().__init__(in_dim, context_dim, out_dim=context if latent_dim is None else latent_dim)
        check_dropout(dropout)
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Identity() if latent_dim is None else nn.Linear(context, latent_dim)

    def pool(
        self, context: Float[Tensor, "batch slots context_dim"], mask: Bool[Tensor, "batch *own slots"]
    ) -> Float[Tensor, "batch *own context_dim"]:
        raise NotImplementedError

    def forward(
        self,
        short: Float[Tensor, "batch *queries in_dim"],
        context: Float[Tensor, "batch slots context_dim"],
        mask: Bool[Tensor, "batch ... slots"],
    ) -> Float[Tensor, "batch *queries out_dim"]:
        """Return the pooled context, the same for all short-term features of a moment; zeros where there is none."""
        self.check(short, context)
        found = self.project(self.dropout(self.pool(context, mask)))
        found = found.masked_fill(~mask.any(-1, keepdim=True), 0)
        if mask.ndim == 3:
            return found
        between = [1] * (short.ndim - 2)
        return found.view(len(found), *between, -1).expand(*short.shape[:-1], -1)


class FBOAvg(_Pooled):
    """The mean of the rows that are there, dropout, and a projection.

    Args:
        in_dim: numbers in a short-term feature.
        context_dim: numbers in a row of the bank; None for `in_dim`.
        latent_dim: numbers in the output; None for no projection, as published.
        dropout: probability, before the projection.

    Raises:
        InputError: a size or the probability has no meaning; or, when called, features of other sizes.
    """

    def pool(
        self, context: Float[Tensor, "batch slots context_dim"], mask: Bool[Tensor, "batch *own slots"]
    ) -> Float[Tensor, "batch *own context_dim"]:
        """Return the mean under the mask."""
        return masked_mean(context, mask)


class FBOMax(_Pooled):
    """The largest value of each number over the rows that are there, dropout, and a projection.

    Args:
        in_dim: numbers in a short-term feature.
        context_dim: numbers in a row of the bank; None for `in_dim`.
        latent_dim: numbers in the output; None for no projection, as published.
        dropout: probability, before the projection.

    Raises:
        InputError: a size or the probability has no meaning; or, when called, features of other sizes.
    """

    def pool(
        self, context: Float[Tensor, "batch slots context_dim"], mask: Bool[Tensor, "batch *own slots"]
    ) -> Float[Tensor, "batch *own context_dim"]:
        """Return the maximum under the mask."""
        return masked_max(context, mask)
