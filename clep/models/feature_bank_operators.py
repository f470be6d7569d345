"""What every feature bank operator is."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from clep.errors import InputError
from clep.models.pooling import masked_max, masked_mean, project_present


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
        short_term: Float[Tensor, "batch *queries in_dim"],
        context: Float[Tensor, "batch slots context_dim"],
        mask: Bool[Tensor, "batch ... slots"],
    ) -> Float[Tensor, "batch *queries out_dim"]:
        """Return `FBO(S, L)` of each moment, or of each of its `[batch, n, dim]` short-term features.

        Args:
            short_term: the short-term features.
            context: the slots of the long-term feature bank around each moment, as `FeatureBank.long_term` gives them.
            mask: True where a slot holds a row. `[batch, n, slots]` gives each of n short-term features slots of its
                own, as moments have that share the rows of `FeatureBank.long_term_shared`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward(short_term, context, mask)")

    def check(self, short_term: Tensor, context: Tensor) -> None:
        """Refuse features of other sizes than the operator was made for.

        Raises:
            InputError: names the sizes and the remedy.
        """
        if (short_term.shape[-1], context.shape[-1]) != (self.in_dim, self.context_dim):
            raise InputError(
                f"{type(self).__name__}: in_dim={self.in_dim} and context_dim={self.context_dim}, but the features "
                f"have {short_term.shape[-1]} and {context.shape[-1]} dimensions; set both to the dims of the banks"
            )


def check_dropout(dropout: float | int) -> None:
    """Refuse what is no probability.

    Raises:
        InputError: `dropout` is not in `[0, 1)`.
    """
    if not 0 <= dropout < 1:
        raise InputError(f"dropout={dropout} must be at least 0 and below 1")


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
        short_term: Float[Tensor, "batch *queries in_dim"],
        context: Float[Tensor, "batch slots context_dim"],
        mask: Bool[Tensor, "batch ... slots"],
    ) -> Float[Tensor, "batch *queries 0"]:
        """Return features of no numbers."""
        self.check(short_term, context)
        return short_term[..., :0]


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
        short_term: Float[Tensor, "batch *queries in_dim"],
        context: Float[Tensor, "batch slots context_dim"],
        mask: Bool[Tensor, "batch ... slots"],
    ) -> Float[Tensor, "batch *queries out_dim"]:
        """Return the pooled context, the same for all short-term features of a moment; zeros where there is none."""
        self.check(short_term, context)
        found = self.project(self.dropout(self.pool(context, mask)))
        found = found.masked_fill(~mask.any(-1, keepdim=True), 0)
        if mask.ndim == 3:
            return found
        between = [1] * (short_term.ndim - 2)
        return found.view(len(found), *between, -1).expand(*short_term.shape[:-1], -1)


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


class FBONonLocal(FeatureBankOperator):
    """Short-term features attend to the rows of the context in a stack of non-local layers.

    S and L are reduced to `latent_dim` numbers and pass dropout; each layer then computes

        S ← S + Dropout(W_out ReLU(LayerNorm(softmax(θ(S) φ(L)ᵀ / √latent_dim) g(L))))

    `W_out` starts at zero, so that each layer starts as the identity and the operator as the reduced S.

    Args:
        in_dim: numbers in a short-term feature.
        context_dim: numbers in a row of the bank; None for `in_dim`.
        latent_dim: numbers that both are reduced to, and numbers in the output.
        num_layers: non-local layers, at least 1; the paper takes 2 for AVA.
        dropout: probability, after both reductions and after each layer.

    Raises:
        InputError: a size or the probability has no meaning; or, when called, features of other sizes.
    """

    def __init__(
        self,
        in_dim: int,
        context_dim: int | None = None,
        latent_dim: int = 512,
        num_layers: int = 2,
        dropout: float | int = 0.2,
    ) -> None:
        if min(latent_dim, num_layers) < 1:
            raise InputError(f"latent_dim={latent_dim} and num_layers={num_layers} must be at least 1")
        check_dropout(dropout)
        super().__init__(in_dim, context_dim, out_dim=latent_dim)
        self.reduce_short_term = nn.Sequential(nn.Linear(self.in_dim, latent_dim), nn.Dropout(dropout))
        self.reduce_context = nn.Sequential(nn.Linear(self.context_dim, latent_dim), nn.Dropout(dropout))
        self.layers = nn.ModuleList(NonLocalLayer(latent_dim, dropout) for _ in range(num_layers))

    def forward(
        self,
        short_term: Float[Tensor, "batch *queries in_dim"],
        context: Float[Tensor, "batch slots context_dim"],
        mask: Bool[Tensor, "batch ... slots"],
    ) -> Float[Tensor, "batch *queries out_dim"]:
        """Return the short-term features after all layers; the reduced ones alone where the context is empty."""
        query, rows, attended, present = self._prepare(short_term, context, mask)
        for layer in self.layers:
            query = layer(query, rows, attended, present)
        return query.view(*short_term.shape[:-1], self.out_dim)

    @torch.no_grad()
    def attention(
        self,
        short_term: Float[Tensor, "batch *queries in_dim"],
        context: Float[Tensor, "batch slots context_dim"],
        mask: Bool[Tensor, "batch ... slots"],
    ) -> Float[Tensor, "layers batch *queries slots"]:
        """Return how much each layer attends to each slot: weights that sum to 1, or zeros where there is no row."""
        query, rows, attended, present = self._prepare(short_term, context, mask)
        weights = []
        for layer in self.layers:
            assert isinstance(layer, NonLocalLayer)
            weights.append(layer.attention(query, rows, attended).masked_fill(~present, 0))
            query = layer(query, rows, attended, present)
        return torch.stack(weights).view(len(self.layers), *short_term.shape[:-1], -1)

    def _prepare(
        self,
        short_term: Float[Tensor, "batch *queries in_dim"],
        context: Float[Tensor, "batch slots context_dim"],
        mask: Bool[Tensor, "batch ... slots"],
    ) -> tuple[
        Float[Tensor, "batch n latent"],
        Float[Tensor, "batch slots latent"],
        Bool[Tensor, "batch #n slots"],
        Bool[Tensor, "batch #n 1"],
    ]:
        """Return reduced S and L, which slots are attended to, and which moments have a context."""
        self.check(short_term, context)
        query = self.reduce_short_term(short_term)
        own = mask if mask.ndim == 3 else mask[:, None]
        rows = project_present(self.reduce_context, context, own.any(1))
        present = own.any(-1, keepdim=True)
        # A softmax over nothing is NaN: moments without a row attend to their empty slots, and drop what they get.
        return query.view(len(query), -1, self.out_dim), rows, own | ~present, present


class NonLocalLayer(nn.Module):
    """One layer of `FBONonLocal`, over features that are reduced already.

    θ(S) φ(L)ᵀ is computed as (θ(S) W_φ) Lᵀ, and softmax(…) g(L) as g(softmax(…) L), which is the same: g is affine and
    the weights sum to 1, and a bias of φ would shift all logits of a query alike, so it has none. The projections are
    then applied to the few short-term features and not to hundreds of slots.
    """

    def __init__(self, dim: int, dropout: float | int) -> None:
        super().__init__()
        self.theta, self.phi, self.g = nn.Linear(dim, dim), nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim)
        self.norm, self.out, self.dropout = nn.LayerNorm(dim), nn.Linear(dim, dim), nn.Dropout(dropout)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self,
        short_term: Float[Tensor, "batch n dim"],
        context: Float[Tensor, "batch slots dim"],
        attended: Bool[Tensor, "batch #n slots"],
        present: Bool[Tensor, "batch #n 1"],
    ) -> Float[Tensor, "batch n dim"]:
        """Return the short-term features with what they found; unchanged where `present` is False."""
        query = self.theta(short_term) @ self.phi.weight
        heads = context[:, None]
        seen = F.scaled_dot_product_attention(query[:, None], heads, heads, attn_mask=attended[:, None])[:, 0]
        found = self.dropout(self.out(F.relu(self.norm(self.g(seen)))))
        return short_term + found.masked_fill(~present, 0)

    def attention(
        self,
        short_term: Float[Tensor, "batch n dim"],
        context: Float[Tensor, "batch slots dim"],
        attended: Bool[Tensor, "batch #n slots"],
    ) -> Float[Tensor, "batch n slots"]:
        """Return the weights that `forward` averages the context with."""
        logits = self.theta(short_term) @ self.phi.weight @ context.mT / context.shape[-1] ** 0.5
        return logits.masked_fill(~attended, -torch.inf).softmax(-1)
