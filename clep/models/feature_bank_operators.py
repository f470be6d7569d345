"""Feature bank operators FBO(S, L) of short-term features S and a long-term feature bank L.

"Long-Term Feature Banks for Detailed Video Understanding" (Wu et al., CVPR 2019), section 3.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from clep.config.check import OneOf
from clep.config.requirements import Need
from clep.errors import InputError
from clep.models.pooling import masked_max, masked_mean, project_present

EmptySlots = Annotated[str, OneOf("masked", "counted")]


class FeatureBankOperator(nn.Module):
    """Base class of feature bank operators; a head or classifier reads the output concatenated with S.

    Subclasses define `forward`. The output must not depend on the content of empty slots, which may be NaN; the output
    of a moment whose slots are all empty must depend on S only.

    Args:
        in_dim: dimension of a short-term feature.
        context_dim: dimension of a row of the bank; None for `in_dim`.
        out_dim: dimension of the output.
        empty_slots: "masked" excludes slots without a row from the softmax, the average and the maximum; "counted"
            includes them as rows of zeros, as mmaction2 does.

    Raises:
        InputError: a dimension below 1 (`out_dim`: below 0), or another `empty_slots`.

    Examples:
        >>> import torch
        >>> from clep.models import FeatureBankOperator
        >>> class Newest(FeatureBankOperator):
        ...     def __init__(self, in_dim, context_dim=None):
        ...         super().__init__(in_dim, context_dim, out_dim=context_dim or in_dim)
        ...
        ...     def forward(self, short_term, context, mask):
        ...         last = (mask * torch.arange(1, mask.shape[1] + 1)).argmax(1)
        ...         return context[torch.arange(len(context)), last]
        >>> mask = torch.tensor([[True, True, False]])
        >>> Newest(2)(torch.zeros(1, 2), torch.tensor([[[1.0, 1.0], [2.0, 2.0], [0.0, 0.0]]]), mask)
        tensor([[2., 2.]])
    """

    def __init__(self, in_dim: int, context_dim: int | None, out_dim: int, empty_slots: EmptySlots = "masked") -> None:
        super().__init__()
        self.in_dim, self.context_dim, self.out_dim = in_dim, in_dim if context_dim is None else context_dim, out_dim
        if min(self.in_dim, self.context_dim) < 1 or out_dim < 0:
            raise InputError(
                f"dims of a feature bank operator must be positive, got in_dim={in_dim}, context_dim={context_dim}, "
                f"out_dim={out_dim}"
            )
        if empty_slots not in ("masked", "counted"):
            raise InputError(f"operator.empty_slots={empty_slots!r}; choose masked or counted")
        self.empty_slots = empty_slots

    @classmethod
    def requires(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a run that this operator needs: all slots of the context if empty ones are counted."""
        if config.get("empty_slots") != "counted":
            return {}
        reason = "operator.empty_slots=counted counts the slots without rows"
        return {"data.context.pool": Need("rows", reason), "data.context.gaps": Need(True, reason)}

    def forward(
        self,
        short_term: Float[Tensor, "batch *queries in_dim"],
        context: Float[Tensor, "batch slots context_dim"],
        mask: Bool[Tensor, "batch ... slots"],
    ) -> Float[Tensor, "batch *queries out_dim"]:
        """Return `FBO(S, L)` of each moment, or of each of its n short-term features.

        Args:
            short_term: `[batch, in_dim]`, or `[batch, n, in_dim]`.
            context: the slots of the bank around each moment, see `FeatureBank.long_term`.
            mask: True for slots that hold a row: `[batch, slots]`, or `[batch, n, slots]` with a mask for each
                short-term feature, for moments that share rows (`FeatureBank.long_term_shared`).
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward(short_term, context, mask)")

    def check(self, short_term: Tensor, context: Tensor) -> None:
        """Check the dimensions of the features.

        Raises:
            InputError: they differ from `in_dim` and `context_dim`.
        """
        if (short_term.shape[-1], context.shape[-1]) != (self.in_dim, self.context_dim):
            raise InputError(
                f"{type(self).__name__}: in_dim={self.in_dim} and context_dim={self.context_dim}, but the features "
                f"have {short_term.shape[-1]} and {context.shape[-1]} dimensions; set both to the banks' dimensions"
            )

    def slots(
        self, context: Float[Tensor, "batch slots context_dim"], mask: Bool[Tensor, "batch ... slots"]
    ) -> tuple[Float[Tensor, "batch slots context_dim"], Bool[Tensor, "batch ... slots"]]:
        """Apply `empty_slots`: return context and mask unchanged, or with empty slots as unmasked rows of zeros.

        Raises:
            InputError: `empty_slots="counted"` with shared rows, which have no empty slots.
        """
        if self.empty_slots == "masked":
            return context, mask
        if mask.ndim == 3:
            raise InputError(
                "operator.empty_slots=counted needs the slots of each moment, [batch, slots], but got shared rows; "
                "gather the context with LongTerm.gather, or use empty_slots=masked"
            )
        return context.masked_fill(~mask[:, :, None], 0), torch.ones_like(mask)


def check_dropout(dropout: float | int) -> None:
    """Check a dropout probability.

    Raises:
        InputError: it is not in `[0, 1)`.
    """
    if not 0 <= dropout < 1:
        raise InputError(f"dropout={dropout} must be at least 0 and below 1")


class FBONone(FeatureBankOperator):
    """No context, the paper's baseline: the output has dimension 0.

    Args:
        in_dim: dimension of a short-term feature.
        context_dim: dimension of a row of the bank; None for `in_dim`.
        latent_dim, dropout, empty_slots: unused; accepted so that `operator=none` can replace any other operator.

    Examples:
        >>> import torch
        >>> from clep.models import FBONone
        >>> FBONone(12)(torch.zeros(2, 12), torch.zeros(2, 60, 12), torch.ones(2, 60, dtype=torch.bool)).shape
        torch.Size([2, 0])
    """

    def __init__(
        self,
        in_dim: int,
        context_dim: int | None = None,
        latent_dim: int | None = None,
        dropout: float | int = 0.0,
        empty_slots: EmptySlots = "masked",
    ) -> None:
        super().__init__(in_dim, context_dim, 0, empty_slots)

    def forward(
        self,
        short_term: Float[Tensor, "batch *queries in_dim"],
        context: Float[Tensor, "batch slots context_dim"],
        mask: Bool[Tensor, "batch ... slots"],
    ) -> Float[Tensor, "batch *queries 0"]:
        """Return features of dimension 0."""
        self.check(short_term, context)
        return short_term[..., :0]


class _Pooled(FeatureBankOperator):
    """Pool the context, then dropout and an optional projection; subclasses define `pool`."""

    def __init__(
        self,
        in_dim: int,
        context_dim: int | None = None,
        latent_dim: int | None = 512,
        dropout: float | int = 0.2,
        empty_slots: EmptySlots = "masked",
    ) -> None:
        context = in_dim if context_dim is None else context_dim
        super().__init__(in_dim, context_dim, context if latent_dim is None else latent_dim, empty_slots)
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
        """Return the pooled context, equal for all short-term features of a moment; zeros if all slots are masked."""
        self.check(short_term, context)
        context, mask = self.slots(context, mask)
        found = self.project(self.dropout(self.pool(context, mask)))
        found = found.masked_fill(~mask.any(-1, keepdim=True), 0)
        if mask.ndim == 3:
            return found
        between = [1] * (short_term.ndim - 2)
        return found.view(len(found), *between, -1).expand(*short_term.shape[:-1], -1)


class FBOAvg(_Pooled):
    """Mean of the context's rows, dropout, and a projection.

    Args:
        in_dim: dimension of a short-term feature.
        context_dim: dimension of a row of the bank; None for `in_dim`.
        latent_dim: dimension of the output; None for no projection, as published.
        dropout: probability, before the projection.
        empty_slots: see `FeatureBankOperator`; "counted" divides the sum by the number of slots, empty ones included.

    Raises:
        InputError: a dimension or the probability is out of range; or, when called, features of other dimensions.

    Examples:
        >>> import torch
        >>> from clep.models import FBOAvg
        >>> context = torch.tensor([[[1.0, 1.0], [3.0, 5.0], [0.0, 0.0]]])
        >>> mask = torch.tensor([[True, True, False]])  # the last slot is empty
        >>> FBOAvg(2, latent_dim=None, dropout=0.0)(torch.zeros(1, 2), context, mask)
        tensor([[2., 3.]])
    """

    def pool(
        self, context: Float[Tensor, "batch slots context_dim"], mask: Bool[Tensor, "batch *own slots"]
    ) -> Float[Tensor, "batch *own context_dim"]:
        """Return the mean under the mask."""
        return masked_mean(context, mask)


class FBOMax(_Pooled):
    """Element-wise maximum of the context's rows, dropout, and a projection.

    Args:
        in_dim: dimension of a short-term feature.
        context_dim: dimension of a row of the bank; None for `in_dim`.
        latent_dim: dimension of the output; None for no projection, as published.
        dropout: probability, before the projection.
        empty_slots: see `FeatureBankOperator`; with "counted" the maximum includes the zeros of empty slots, so it is
            at least 0 for a moment with an empty slot.

    Raises:
        InputError: a dimension or the probability is out of range; or, when called, features of other dimensions.

    Examples:
        >>> import torch
        >>> from clep.models import FBOMax
        >>> context = torch.tensor([[[-1.0, 1.0], [-3.0, 5.0], [0.0, 0.0]]])
        >>> mask = torch.tensor([[True, True, False]])  # the last slot is empty
        >>> FBOMax(2, latent_dim=None, dropout=0.0)(torch.zeros(1, 2), context, mask)
        tensor([[-1.,  5.]])
    """

    def pool(
        self, context: Float[Tensor, "batch slots context_dim"], mask: Bool[Tensor, "batch *own slots"]
    ) -> Float[Tensor, "batch *own context_dim"]:
        """Return the maximum under the mask."""
        return masked_max(context, mask)


class FBONonLocal(FeatureBankOperator):
    """Short-term features attend to the context in a stack of non-local layers.

    S and L are reduced to `latent_dim` dimensions, with dropout; each layer then computes

        S ← S + Dropout(W_out ReLU(LayerNorm(softmax(θ(S) φ(L)ᵀ / √latent_dim) g(L))))

    `W_out` is initialised to zero, so each layer starts as the identity.

    Args:
        in_dim: dimension of a short-term feature.
        context_dim: dimension of a row of the bank; None for `in_dim`.
        latent_dim: dimension of the reduced features and of the output.
        num_layers: non-local layers, at least 1; the paper uses 2 for AVA.
        dropout: probability, after both reductions and after each layer.
        empty_slots: see `FeatureBankOperator`; with "counted" empty slots take part in the attention.

    Raises:
        InputError: a dimension or the probability is out of range; or, when called, features of other dimensions.

    Examples:
        >>> import torch
        >>> from clep.models import FBONonLocal
        >>> operator = FBONonLocal(in_dim=12, latent_dim=16)
        >>> short_term, context, mask = torch.randn(2, 12), torch.randn(2, 60, 12), torch.rand(2, 60) < 0.9
        >>> operator(short_term, context, mask).shape
        torch.Size([2, 16])
        >>> operator.attention(short_term, context, mask).shape  # of both layers
        torch.Size([2, 2, 60])
    """

    def __init__(
        self,
        in_dim: int,
        context_dim: int | None = None,
        latent_dim: int = 512,
        num_layers: int = 2,
        dropout: float | int = 0.2,
        empty_slots: EmptySlots = "masked",
    ) -> None:
        if min(latent_dim, num_layers) < 1:
            raise InputError(f"latent_dim={latent_dim} and num_layers={num_layers} must be at least 1")
        check_dropout(dropout)
        super().__init__(in_dim, context_dim, latent_dim, empty_slots)
        self.reduce_short_term = nn.Sequential(nn.Linear(self.in_dim, latent_dim), nn.Dropout(dropout))
        self.reduce_context = nn.Sequential(nn.Linear(self.context_dim, latent_dim), nn.Dropout(dropout))
        self.layers = nn.ModuleList(NonLocalLayer(latent_dim, dropout) for _ in range(num_layers))

    def forward(
        self,
        short_term: Float[Tensor, "batch *queries in_dim"],
        context: Float[Tensor, "batch slots context_dim"],
        mask: Bool[Tensor, "batch ... slots"],
    ) -> Float[Tensor, "batch *queries out_dim"]:
        """Return the short-term features after all layers; the reduced ones if all slots are masked."""
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
        """Return each layer's attention weights over the slots; they sum to 1, or are 0 if all slots are masked."""
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
        """Return reduced S and L, the attention mask, and a mask of the moments with any row."""
        self.check(short_term, context)
        context, mask = self.slots(context, mask)
        query = self.reduce_short_term(short_term)
        own = mask if mask.ndim == 3 else mask[:, None]
        rows = project_present(self.reduce_context, context, own.any(1))
        present = own.any(-1, keepdim=True)
        # A softmax over no slots is NaN: moments without rows attend to all slots, and the result is discarded.
        return query.view(len(query), -1, self.out_dim), rows, own | ~present, present


class NonLocalLayer(nn.Module):
    """One layer of `FBONonLocal`, on reduced features.

    θ(S) φ(L)ᵀ is computed as (θ(S) W_φ) Lᵀ, and softmax(…) g(L) as g(softmax(…) L), so that the projections apply to
    few short-term features instead of hundreds of slots. Both equal the published form: g is affine and the weights sum
    to 1; a bias of φ would shift all logits of a query equally, so φ has none.
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
        """Return the short-term features after the layer; unchanged where `present` is False."""
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
        """Return the attention weights of `forward`."""
        logits = self.theta(short_term) @ self.phi.weight @ context.mT / context.shape[-1] ** 0.5
        return logits.masked_fill(~attended, -torch.inf).softmax(-1)
