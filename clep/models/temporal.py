"""Temporal attention: a video tower that depends on the order of the rows of a window."""

import math
from collections.abc import Mapping
from typing import Annotated, Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from clep.config.check import OneOf
from clep.config.requirements import Need
from clep.errors import InputError
from clep.models.dual_encoder import Tower
from clep.models.feature_bank_operators import check_dropout
from clep.models.pooling import masked_mean, project_present
from clep.models.projection import ActivationName, InitName, ProjectionHead

POOLS, POSITIONS = ("attention", "class"), ("rotary", "learned")


class TemporalAttention(nn.Module):
    """Transformer over the rows of a window, pooled to one vector.

    Rows are projected to `dim`, followed by pre-norm transformer blocks (Vaswani et al., 2017; Xiong et al., 2020).
    The n-th row has position n, regardless of padding before or between rows; position 0 is the class token or query.

    Args:
        in_dim: dimension of a row.
        dim: dimension of the tokens and of the output.
        depth: number of blocks.
        heads: attention heads; `dim` must be a multiple of `heads`, and with rotary positions of `2 * heads`.
        pool: "class" prepends a learned token and returns its output; "attention" lets a learned query attend to the
            rows after the last block (as in SigLIP's head). The class token is better if order matters
            (docs/ablation.md).
        positions: "rotary" rotates queries and keys by position, so that attention depends on the distance of rows
            (RoFormer, Su et al., 2021), for windows of any length; "learned" adds a learned vector per position.
        max_rows: length of the longest window, for learned positions.
        dropout: probability, after attention and in the feed-forward layers.

    Raises:
        InputError: an option is out of range; or, when called, rows of another dimension, or more than `max_rows` rows
            with learned positions.

    Examples:
        >>> import torch
        >>> from clep.models import TemporalAttention
        >>> attention = TemporalAttention(in_dim=12, dim=32, depth=1, heads=4)
        >>> mask = torch.tensor([[True, True, True], [True, False, False]])
        >>> attention(torch.randn(2, 3, 12), mask).shape
        torch.Size([2, 32])
    """

    def __init__(
        self,
        in_dim: int,
        dim: int = 512,
        depth: int = 2,
        heads: int = 8,
        pool: Annotated[str, OneOf(*POOLS)] = "class",
        positions: Annotated[str, OneOf(*POSITIONS)] = "rotary",
        max_rows: int = 16,
        dropout: float | int = 0.0,
    ) -> None:
        super().__init__()
        _check(in_dim, dim, depth, heads, pool, positions, max_rows)
        check_dropout(dropout)
        self.in_dim, self.out_dim, self.max_rows = in_dim, dim, max_rows
        self.reduce = nn.Linear(in_dim, dim)
        self.learned = nn.Parameter(torch.randn(max_rows, dim) * 0.02) if positions == "learned" else None
        self.rotary = Rotary(dim // heads) if positions == "rotary" else None
        self.token = nn.Parameter(torch.randn(dim) * 0.02)
        self.blocks = nn.ModuleList(Block(dim, heads, dropout) for _ in range(depth))
        self.attention_pool = AttentionPool(dim, heads) if pool == "attention" else None
        self.norm = nn.LayerNorm(dim)

    def forward(
        self, rows: Float[Tensor, "batch time in_dim"], mask: Bool[Tensor, "batch time"] | None = None
    ) -> Float[Tensor, "batch dim"]:
        """Return one vector per window; zeros for a window without rows.

        Args:
            rows: padded rows. Padding may hold any values, even NaN.
            mask: False for padding; None if there is none.
        """
        if rows.shape[-1] != self.in_dim:
            raise InputError(
                f"this TemporalAttention has in_dim={self.in_dim}, but got rows of dimension {rows.shape[-1]}; set "
                f"in_dim to the bank's feature dimension"
            )
        if mask is None:
            mask = rows.new_ones(rows.shape[:2], dtype=torch.bool)
        if self.learned is not None and rows.shape[1] > self.max_rows:
            raise InputError(
                f"a window of {rows.shape[1]} rows is longer than the {self.max_rows} learned positions; set "
                f"model.video.max_rows to data.window.max_rows, or use positions=rotary"
            )
        present = mask.any(1, keepdim=True)
        position = mask.long().cumsum(1) * mask
        tokens = project_present(self.reduce, rows, mask)
        tokens = tokens.to(torch.promote_types(tokens.dtype, torch.float32))  # the residual stream stays in float32
        if self.learned is not None:
            tokens = tokens + self.learned[(position - 1).clamp(min=0)]
        if self.attention_pool is None:
            token = self.token.to(tokens.dtype).expand(len(rows), 1, -1)
            tokens = torch.cat([token, tokens], 1)
            position, mask = F.pad(position, (1, 0)), F.pad(mask, (1, 0), value=True)
        # A softmax over no rows is NaN: a window without rows attends to its padding, and the result is discarded.
        attended = (mask | ~present)[:, None, None]
        rotation = None if self.rotary is None else self.rotary(position)
        for block in self.blocks:
            tokens = block(tokens, attended, rotation)
        tokens = self.norm(tokens)
        found = (
            tokens[:, 0] if self.attention_pool is None else self.attention_pool(self.token, tokens, attended, rotation)
        )
        return found.masked_fill(~present, 0)


class Rotary(nn.Module):
    """Rotation angles of the dimension pairs of a head at each position: position / 10,000^(2i / dim) radians."""

    rate: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        rate = 10_000.0 ** -(torch.arange(0, dim, 2, dtype=torch.float32) / dim)
        self.register_buffer("rate", rate, persistent=False)

    def forward(self, position: Int64[Tensor, "batch time"]) -> tuple[Tensor, Tensor]:
        """Return cosines and sines `[batch, 1, time, dim / 2]`, in float32 for any precision of the run."""
        angle = position[:, None, :, None].float() * self.rate.float()
        return angle.cos(), angle.sin()


class Block(nn.Module):
    """Pre-norm transformer block: attention, then a feed-forward layer with four times the width."""

    def __init__(self, dim: int, heads: int, dropout: float | int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_forward = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.drop = nn.Dropout(dropout)
        self.feed = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * dim, dim))

    def forward(
        self,
        tokens: Float[Tensor, "batch time dim"],
        attended: Bool[Tensor, "batch 1 1 time"],
        rotation: tuple[Tensor, Tensor] | None,
    ) -> Float[Tensor, "batch time dim"]:
        """Return the output tokens."""
        q, k, v = (_heads(part, self.heads) for part in self.qkv(self.norm_attention(tokens)).chunk(3, -1))
        seen = F.scaled_dot_product_attention(_rotate(q, rotation), _rotate(k, rotation), v, attn_mask=attended)
        tokens = tokens + self.drop(self.out(seen.transpose(1, 2).flatten(2)))
        return tokens + self.drop(self.feed(self.norm_forward(tokens)))


class AttentionPool(nn.Module):
    """Attention pooling: one learned query, at position 0, over the rows."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.kv, self.out = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)

    def forward(
        self,
        query: Float[Tensor, " dim"],
        tokens: Float[Tensor, "batch time dim"],
        attended: Bool[Tensor, "batch 1 1 time"],
        rotation: tuple[Tensor, Tensor] | None,
    ) -> Float[Tensor, "batch dim"]:
        """Return the pooled vector of each window."""
        k, v = (_heads(part, self.heads) for part in self.kv(tokens).chunk(2, -1))
        q = _heads(self.q(query).expand(len(tokens), 1, -1), self.heads)
        seen = F.scaled_dot_product_attention(q, _rotate(k, rotation), v, attn_mask=attended)
        return self.out(seen.transpose(1, 2).flatten(1))


def _heads(tokens: Float[Tensor, "batch time dim"], heads: int) -> Float[Tensor, "batch heads time part"]:
    return tokens.unflatten(-1, (heads, -1)).transpose(1, 2)


def _rotate(
    part: Float[Tensor, "batch heads time part"], rotation: tuple[Tensor, Tensor] | None
) -> Float[Tensor, "batch heads time part"]:
    if rotation is None:
        return part
    cos, sin = rotation
    first, second = part.float().chunk(2, -1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1).to(part.dtype)


def _check(in_dim: int, dim: int, depth: int, heads: int, pool: str, positions: str, max_rows: int) -> None:
    sizes: dict[str, Any] = {"in_dim": in_dim, "dim": dim, "depth": depth, "heads": heads, "max_rows": max_rows}
    if min(sizes.values()) < 1:
        raise InputError(f"dimensions of a TemporalAttention must be at least 1, got {sizes}")
    if pool not in POOLS or positions not in POSITIONS:
        raise InputError(
            f"pool={pool!r}, positions={positions!r}; choose pool={' or '.join(POOLS)}, "
            f"positions={' or '.join(POSITIONS)}"
        )
    multiple = 2 * heads if positions == "rotary" else heads
    if dim % multiple:
        raise InputError(f"dim={dim} must be a multiple of {multiple} for {heads} heads with {positions} positions")


class GatedAttention(nn.Module):
    """Gated sum of an embedding and temporal attention over the rows: (1 - g) * embedding + g * out(attention).

    The gate `g` is learned, one value in (0, 1) per dimension, and initialised to `gate`. So training starts close to
    the embedding of the window's mean, which is learned fast, and adds information from the order of the rows.

    Args:
        attention: attention over the rows.
        out_dim: dimension of the embedding.
        gate: initial value of the gate.

    Raises:
        InputError: `gate` is not between 0 and 1; or, when called, means instead of rows.

    Examples:
        >>> import torch
        >>> from clep.models import GatedAttention, TemporalAttention
        >>> gated = GatedAttention(TemporalAttention(in_dim=12, dim=32, depth=1, heads=4), out_dim=8)
        >>> gated(torch.randn(2, 8), torch.randn(2, 3, 12), torch.ones(2, 3, dtype=torch.bool)).shape
        torch.Size([2, 8])
    """

    def __init__(self, attention: TemporalAttention, out_dim: int, gate: float | int = 0.05) -> None:
        super().__init__()
        if not 0 < gate < 1:
            raise InputError(f"gate={gate}, the initial weight of the attention, must be between 0 and 1")
        self.attention, self.out = attention, nn.Linear(attention.out_dim, out_dim)
        self.gate = nn.Parameter(torch.full((out_dim,), math.log(gate / (1 - gate))))

    def forward(
        self,
        embedding: Float[Tensor, "batch embed"],
        rows: Float[Tensor, "batch *time dim"],
        mask: Bool[Tensor, "batch time"] | None,
    ) -> Float[Tensor, "batch embed"]:
        """Return the gated sum in float32; the attention of a window without rows is zero.

        Raises:
            InputError: `rows` holds the means of windows.
        """
        if rows.ndim != 3:
            raise InputError(
                f"temporal attention needs the rows of windows, [b, t, d], but got their means, {list(rows.shape)}; "
                f"set data.window.pool=rows"
            )
        attended = self.out(self.attention(rows, mask))
        return torch.lerp(embedding.float(), attended.float(), self.gate.float().sigmoid())


class TemporalTower(Tower):
    """Projection of a window's mean, combined with temporal attention over its rows; see `GatedAttention`.

    Reads `video` `[b, t, d]` and `video_mask` `[b, t]` (`data.window.pool=rows`). A window without rows has a mean of
    zeros, and no attention.

    Args:
        in_dim: feature dimension of the bank.
        out_dim: dimension of the embedding.
        hidden_dim, layers, activation, init: options of the projection of the mean, see `ProjectionHead`.
        dropout: dropout of the projection and the attention.
        dim, depth, heads, pool, positions, max_rows: options of the attention, see `TemporalAttention`.
        gate: initial weight of the attention.

    Raises:
        InputError: an option is out of range; when called, means instead of rows, or rows of another dimension.

    Examples:
        >>> import torch
        >>> from clep.models import TemporalTower
        >>> tower = TemporalTower(in_dim=12, out_dim=8, dim=32, depth=1, heads=4)
        >>> batch = {"video": torch.randn(2, 3, 12), "video_mask": torch.ones(2, 3, dtype=torch.bool)}
        >>> tower(batch).shape
        torch.Size([2, 8])
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        hidden_dim: int | None = None,
        layers: int = 2,
        activation: ActivationName = "relu",
        dropout: float | int = 0.0,
        init: InitName = "default",
        dim: int = 512,
        depth: int = 2,
        heads: int = 8,
        pool: Annotated[str, OneOf(*POOLS)] = "class",
        positions: Annotated[str, OneOf(*POSITIONS)] = "rotary",
        max_rows: int = 16,
        gate: float | int = 0.05,
    ) -> None:
        super().__init__()
        self.in_dim, self.out_dim = in_dim, out_dim
        self.head = ProjectionHead(in_dim, out_dim, hidden_dim, layers, activation, dropout=dropout, init=init)
        attention = TemporalAttention(in_dim, dim, depth, heads, pool, positions, max_rows, dropout)
        self.mixture = GatedAttention(attention, out_dim, gate)

    @classmethod
    def requires(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a run that this tower needs: the rows of windows."""
        return {"data.window.pool": Need("rows", "attention to the rows of a window in their order")}

    def forward(self, batch: dict[str, Any]) -> Float[Tensor, "batch embed"]:
        """Embed a batch."""
        if "video" not in batch:
            raise ValueError(f"the batch has no 'video'; it has {sorted(batch)}")
        rows, mask = batch["video"], batch.get("video_mask")
        return self.mixture(self.head(masked_mean(rows, mask) if rows.ndim == 3 else rows), rows, mask)
