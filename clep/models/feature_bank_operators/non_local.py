"""The non-local operator: attention of a moment over its context (Wu et al., CVPR 2019, section 3.3 and appendix)."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from clep.errors import InputError
from clep.models.feature_bank_operators.operator import FeatureBankOperator, check_dropout
from clep.models.pooling import project_present


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
        self.reduce_short = nn.Sequential(nn.Linear(self.in_dim, latent_dim), nn.Dropout(dropout))
        self.reduce_context = nn.Sequential(nn.Linear(self.context_dim, latent_dim), nn.Dropout(dropout))
        self.layers = nn.ModuleList(NonLocalLayer(latent_dim, dropout) for _ in range(num_layers))

    def forward(
        self,
        short: Float[Tensor, "batch *queries in_dim"],
        context: Float[Tensor, "batch slots context_dim"],
        mask: Bool[Tensor, "batch ... slots"],
    ) -> Float[Tensor, "batch *queries out_dim"]:
        """Return the short-term features after all layers; the reduced ones alone where the context is empty."""
        query, rows, attended, present = self._prepare(short, context, mask)
        for layer in self.layers:
            query = layer(query, rows, attended, present)
        return query.view(*short.shape[:-1], self.out_dim)

    @torch.no_grad()
    def attention(
        self,
        short: Float[Tensor, "batch *queries in_dim"],
        context: Float[Tensor, "batch slots context_dim"],
        mask: Bool[Tensor, "batch ... slots"],
    ) -> Float[Tensor, "layers batch *queries slots"]:
        """Return how much each layer attends to each slot: weights that sum to 1, or zeros where there is no row."""
        query, rows, attended, present = self._prepare(short, context, mask)
        weights = []
        for layer in self.layers:
            assert isinstance(layer, NonLocalLayer)
            weights.append(layer.attention(query, rows, attended).masked_fill(~present, 0))
            query = layer(query, rows, attended, present)
        return torch.stack(weights).view(len(self.layers), *short.shape[:-1], -1)

    def _prepare(
        self,
        short: Float[Tensor, "batch *queries in_dim"],
        context: Float[Tensor, "batch slots context_dim"],
        mask: Bool[Tensor, "batch ... slots"],
    ) -> tuple[
        Float[Tensor, "batch n latent"],
        Float[Tensor, "batch slots latent"],
        Bool[Tensor, "batch #n slots"],
        Bool[Tensor, "batch #n 1"],
    ]:
        """Return reduced S and L, which slots are attended to, and which moments have a context."""
        self.check(short, context)
        query = self.reduce_short(short)
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
        short: Float[Tensor, "batch n dim"],
        context: Float[Tensor, "batch slots dim"],
        attended: Bool[Tensor, "batch #n slots"],
        present: Bool[Tensor, "batch #n 1"],
    ) -> Float[Tensor, "batch n dim"]:
        """Return the short-term features with what they found; unchanged where `present` is False."""
        query = self.theta(short) @ self.phi.weight
        heads = context[:, None]
        seen = F.scaled_dot_product_attention(query[:, None], heads, heads, attn_mask=attended[:, None])[:, 0]
        found = self.dropout(self.out(F.relu(self.norm(self.g(seen)))))
        return short + found.masked_fill(~present, 0)

    def attention(
        self,
        short: Float[Tensor, "batch n dim"],
        context: Float[Tensor, "batch slots dim"],
        attended: Bool[Tensor, "batch #n slots"],
    ) -> Float[Tensor, "batch n slots"]:
        """Return the weights that `forward` averages the context with."""
        logits = self.theta(short) @ self.phi.weight @ context.mT / context.shape[-1] ** 0.5
        return logits.masked_fill(~attended, -torch.inf).softmax(-1)
