"""What every feature bank operator is."""

from jaxtyping import Bool, Float
from torch import Tensor, nn

from clep.errors import InputError


class FeatureBankOperator(nn.Module):
    """Compute `FBO(S, L)`: what short-term features S get from a long-term feature bank L.

    As in the paper, its output is concatenated with S and read by a projection or a classifier. Subclass it and define
    `forward`; what stands in slots without a row must not matter, not even NaN, and a moment without any row must get
    what depends on S alone.

    Args:
        in_dim: numbers in a short-term feature.
        context_dim: numbers in a row of the bank; None for `in_dim`.
        out_dim: numbers in the output.

    Raises:
        InputError: a size below 1 (`out_dim`: below 0).
    """

    def __init__(self, in_dim: int, context_dim: int | None, out_dim: int) -> None:
        super().__init__()
        self.in_dim, self.context_dim, self.out_dim = in_dim, in_dim if context_dim is None else context_dim, out_dim
        if min(self.in_dim, self.context_dim) < 1 or out_dim < 0:
            raise InputError(
                f"dims of a feature bank operator must be positive, got in_dim={in_dim}, context_dim={context_dim}, "
                f"{out_dim} numbers out"
            )

    def forward(
        self,
        short: Float[Tensor, "batch *queries in_dim"],
        context: Float[Tensor, "batch slots context_dim"],
        mask: Bool[Tensor, "batch ... slots"],
    ) -> Float[Tensor, "batch *queries out_dim"]:
        """Return `FBO(S, L)` of each moment, or of each of its `[batch, n, dim]` short-term features.

        Args:
            short: the short-term features.
            context: the slots of the long-term feature bank around each moment, as `FeatureBank.long_term` gives them.
            mask: True where a slot holds a row. `[batch, n, slots]` gives each of n short-term features slots of its
                own, as moments have that share the rows of `FeatureBank.long_term_shared`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward(short, context, mask)")

    def check(self, short: Tensor, context: Tensor) -> None:
        """Refuse features of other sizes than the operator was made for.

        Raises:
            InputError: names the sizes and the remedy.
        """
        if (short.shape[-1], context.shape[-1]) != (self.in_dim, self.context_dim):
            raise InputError(
                f"this {type(self).__name__} takes features of {self.in_dim} numbers with a context of "
                f"{self.context_dim}, and got {short.shape[-1]} and {context.shape[-1]}: in_dim and context_dim must "
                f"be the dims of the banks"
            )


def check_dropout(dropout: float | int) -> None:
    """Refuse what is no probability.

    Raises:
        InputError: `dropout` is not in `[0, 1)`.
    """
    if not 0 <= dropout < 1:
        raise InputError(f"dropout={dropout} must be at least 0 and below 1")
