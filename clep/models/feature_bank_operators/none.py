"""No operator: the short-term baseline."""

from jaxtyping import Bool, Float
from torch import Tensor

from clep.models.feature_bank_operators.operator import FeatureBankOperator


class FBONone(FeatureBankOperator):
    """Take nothing from the context, so that what reads the output sees the short-term features alone.

    Args:
        in_dim: numbers in a short-term feature.
        context_dim: numbers in a row of the bank; None for `in_dim`.
        latent_dim, dropout: of other operators, taken and not used, so that none can stand wherever they can.
    """

    def __init__(
        self,
        in_dim: int,
        context_dim: int | None = None,
        latent_dim: int | None = None,
        dropout: float | int = 0.0,
    ) -> None:
        super().__init__(in_dim, context_dim, out_dim=0)

    def forward(
        self,
        short: Float[Tensor, "batch *queries in_dim"],
        context: Float[Tensor, "batch slots context_dim"],
        mask: Bool[Tensor, "batch ... slots"],
    ) -> Float[Tensor, "batch *queries 0"]:
        """Return features of no numbers."""
        self.check(short, context)
        return short[..., :0]
