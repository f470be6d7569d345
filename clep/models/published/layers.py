"""Layers that several published models share: attention with CLIP's parameter names, CLIP's text transformer."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional

Activation = Literal["gelu", "quick_gelu", "gelu_tanh"]
Rotation = Callable[[Tensor], Tensor]


def activation(name: Activation) -> Callable[[Tensor], Tensor]:
    """Return exact GELU, its tanh approximation, or CLIP's QuickGELU `x · sigmoid(1.702 x)`; all can be pickled."""
    if name == "quick_gelu":
        return _quick_gelu
    return partial(functional.gelu, approximate="tanh" if name == "gelu_tanh" else "none")


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


class Attention(nn.Module):
    """Multi-head self-attention with the parameter names of `nn.MultiheadAttention`; queries, keys, values stacked.

    Args:
        width: feature dimension.
        heads: attention heads; no checkpoint holds their number.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "batch tokens features"], causal: bool = False, rotate: Rotation | None = None
    ) -> Float[Tensor, "batch tokens features"]:
        """Let tokens attend to each other; `rotate` is applied to queries and keys `[batch, heads, tokens, dim]`."""
        projected = functional.linear(x, self.in_proj_weight, self.in_proj_bias)
        query, key, value = split_heads(projected, self.heads)
        if rotate is not None:
            query, key = rotate(query), rotate(key)
        return self.out_proj(merge_heads(functional.scaled_dot_product_attention(query, key, value, is_causal=causal)))


def split_heads(projected: Float[Tensor, "batch tokens three_width"], heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Split stacked queries, keys and values into heads: three tensors `[batch, heads, tokens, dim]`."""
    query, key, value = projected.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    return query, key, value


def merge_heads(x: Float[Tensor, "batch heads tokens dim"]) -> Float[Tensor, "batch tokens features"]:
    """Join heads to one feature dimension."""
    return x.transpose(1, 2).flatten(2)


class Mlp(nn.Module):
    """Two linear layers with CLIP's parameter names `c_fc` and `c_proj`."""

    def __init__(self, width: int, hidden: int, act: Activation) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, hidden)
        self.c_proj = nn.Linear(hidden, width)
        self._act = activation(act)

    def forward(self, x: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch features"]:
        """Transform each token."""
        return self.c_proj(self._act(self.c_fc(x)))


class Block(nn.Module):
    """A pre-norm transformer block with CLIP's parameter names."""

    def __init__(self, width: int, heads: int, hidden: int, act: Activation, eps: float = 1e-5) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
        self.attn = Attention(width, heads)
        self.mlp = Mlp(width, hidden, act)

    def forward(
        self, x: Float[Tensor, "batch tokens features"], causal: bool = False, rotate: Rotation | None = None
    ) -> Float[Tensor, "batch tokens features"]:
        """Add attention, then the MLP."""
        x = x + self.attn(self.ln_1(x), causal, rotate)
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """A stack of blocks, named `resblocks` as in CLIP."""

    def __init__(self, layers: int, width: int, heads: int, hidden: int, act: Activation, eps: float = 1e-5) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads, hidden, act, eps) for _ in range(layers))

    def forward(
        self, x: Float[Tensor, "batch tokens features"], causal: bool = False, rotate: Rotation | None = None
    ) -> Float[Tensor, "batch tokens features"]:
        """Run all blocks."""
        for block in self.resblocks:
            x = block(x, causal, rotate)
        return x


class ClipText(nn.Module):
    """CLIP's text transformer (Radford et al. 2021): causal, pooled at the highest token id, a matrix as projection.

    Args:
        vocabulary, context, width, layers, heads, hidden: sizes.
        out_dim: dimension of the joint space.
        act: "quick_gelu" in LaViLa, "gelu" in AVION and PE.
    """

    def __init__(
        self,
        vocabulary: int,
        context: int,
        width: int,
        layers: int,
        heads: int,
        hidden: int,
        out_dim: int,
        act: Activation,
    ) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.empty(context, width))
        self.transformer = Transformer(layers, width, heads, hidden, act)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, out_dim))

    def features(self, token_ids: Int64[Tensor, "batch tokens"]) -> Float[Tensor, "batch features"]:
        """Return the normalised vector at the end token, which has the highest id; position 0 where it was cut off."""
        x = self.token_embedding(token_ids) + self.positional_embedding[: token_ids.shape[1]]
        x = self.ln_final(self.transformer(x, causal=True))
        return x[torch.arange(len(x), device=x.device), token_ids.argmax(1)]

    def forward(
        self, token_ids: Int64[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch dim"]:
        """Embed token ids into the joint space; the mask is not needed, since attention is causal."""
        return self.features(token_ids) @ self.text_projection
