"""A video tower that sees the order of a window's rows."""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from clep.errors import InputError
from clep.models.dual_encoder import Tower
from clep.models.feature_bank_operators import check_dropout
from clep.models.pooling import masked_mean, project_present
from clep.models.projection import ProjectionHead

POOLS, POSITIONS = ("attention", "class"), ("rotary", "learned")


class TemporalAttention(nn.Module):
    """Let the rows of a window attend to each other, knowing their order, and reduce them to one vector.

    Rows are reduced to `dim` numbers and pass pre-norm transformer blocks (Vaswani et al., 2017; Xiong et al., 2020).
    The n-th row that is there stands at position n, whatever padding lies before or between; position 0 belongs to what
    the rows are collected by.

    Args:
        in_dim: numbers in a row.
        dim: numbers in a token and in the output.
        depth: blocks, at least 1.
        heads: of attention; `dim` is a multiple of `heads`, and with rotary positions of `2 * heads`.
        pool: "class" prepends a learned token and returns what it has become; "attention" lets a learned query attend
            to the rows after the last block (as SigLIP's head does).
        positions: "rotary" turns queries and keys by an angle for each position, so that attention sees how many rows
            apart two are (RoFormer, Su et al., 2021), in windows of any length; "learned" adds a vector for each
            position.
        max_rows: rows in the longest window, for learned positions.
        dropout: probability, after attention and in the feed-forward layers.

    Raises:
        InputError: an option has no meaning; or, when called, rows of another size, or too many for learned positions.
    """

    def __init__(
        self,
        in_dim: int,
        dim: int = 512,
        depth: int = 2,
        heads: int = 8,
        pool: str = "attention",
        positions: str = "rotary",
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
        self.collect = Collect(dim, heads) if pool == "attention" else None
        self.norm = nn.LayerNorm(dim)

    def forward(
        self, rows: Float[Tensor, "batch time in_dim"], mask: Bool[Tensor, "batch time"] | None = None
    ) -> Float[Tensor, "batch dim"]:
        """Return one vector a window; zeros for a window without rows.

        Args:
            rows: what stands in padded places does not matter, not even NaN.
            mask: True where a row is real; None where all are.
        """
        if rows.shape[-1] != self.in_dim:
            raise InputError(
                f"this TemporalAttention takes rows of {self.in_dim} numbers and got {rows.shape[-1]}: in_dim must be "
                f"the dim of the bank"
            )
        if mask is None:
            mask = rows.new_ones(rows.shape[:2], dtype=torch.bool)
        if self.learned is not None and rows.shape[1] > self.max_rows:
            raise InputError(
                f"a window of {rows.shape[1]} rows is longer than the {self.max_rows} learned positions; give the "
                f"tower the max_rows of the window, or positions=rotary"
            )
        present = mask.any(1, keepdim=True)
        position = mask.long().cumsum(1) * mask
        tokens = project_present(self.reduce, rows, mask)
        tokens = tokens.to(torch.promote_types(tokens.dtype, torch.float32))  # what blocks add to keeps its digits
        if self.learned is not None:
            tokens = tokens + self.learned[(position - 1).clamp(min=0)]
        if self.collect is None:
            token = self.token.to(tokens.dtype).expand(len(rows), 1, -1)
            tokens = torch.cat([token, tokens], 1)
            position, mask = F.pad(position, (1, 0)), F.pad(mask, (1, 0), value=True)
        # A softmax over nothing is NaN: a window without rows attends to its padding, and drops what it gets.
        attended = (mask | ~present)[:, None, None]
        turn = None if self.rotary is None else self.rotary(position)
        for block in self.blocks:
            tokens = block(tokens, attended, turn)
        tokens = self.norm(tokens)
        found = tokens[:, 0] if self.collect is None else self.collect(self.token, tokens, attended, turn)
        return found.masked_fill(~present, 0)


class Rotary(nn.Module):
    """Angles by which a head's pairs of numbers are turned at each position: position / 10,000^(2i / dim) radians."""

    rate: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        rate = 10_000.0 ** -(torch.arange(0, dim, 2, dtype=torch.float32) / dim)
        self.register_buffer("rate", rate, persistent=False)

    def forward(self, position: Int64[Tensor, "batch time"]) -> tuple[Tensor, Tensor]:
        """Return cosines and sines, `[batch, 1, time, dim / 2]`, float32 whatever the precision of the run."""
        angle = position[:, None, :, None].float() * self.rate.float()
        return angle.cos(), angle.sin()


class Block(nn.Module):
    """A pre-norm transformer block: attention, then a feed-forward layer of four times the width."""

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
        turn: tuple[Tensor, Tensor] | None,
    ) -> Float[Tensor, "batch time dim"]:
        """Return the tokens after the block."""
        q, k, v = (_heads(part, self.heads) for part in self.qkv(self.norm_attention(tokens)).chunk(3, -1))
        seen = F.scaled_dot_product_attention(_turned(q, turn), _turned(k, turn), v, attn_mask=attended)
        tokens = tokens + self.drop(self.out(seen.transpose(1, 2).flatten(2)))
        return tokens + self.drop(self.feed(self.norm_forward(tokens)))


class Collect(nn.Module):
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
        turn: tuple[Tensor, Tensor] | None,
    ) -> Float[Tensor, "batch dim"]:
        """Return what the query found in each window."""
        k, v = (_heads(part, self.heads) for part in self.kv(tokens).chunk(2, -1))
        q = _heads(self.q(query).expand(len(tokens), 1, -1), self.heads)
        seen = F.scaled_dot_product_attention(q, _turned(k, turn), v, attn_mask=attended)
        return self.out(seen.transpose(1, 2).flatten(1))


def _heads(tokens: Float[Tensor, "batch time dim"], heads: int) -> Float[Tensor, "batch heads time part"]:
    return tokens.unflatten(-1, (heads, -1)).transpose(1, 2)


def _turned(
    part: Float[Tensor, "batch heads time part"], turn: tuple[Tensor, Tensor] | None
) -> Float[Tensor, "batch heads time part"]:
    if turn is None:
        return part
    cos, sin = turn
    first, second = part.float().chunk(2, -1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1).to(part.dtype)


def _check(in_dim: int, dim: int, depth: int, heads: int, pool: str, positions: str, max_rows: int) -> None:
    sizes: dict[str, Any] = {"in_dim": in_dim, "dim": dim, "depth": depth, "heads": heads, "max_rows": max_rows}
    if min(sizes.values()) < 1:
        raise InputError(f"sizes of a TemporalAttention must be at least 1, got {sizes}")
    if pool not in POOLS or positions not in POSITIONS:
        raise InputError(
            f"pool={pool!r}, positions={positions!r}; choose pool={' or '.join(POOLS)}, "
            f"positions={' or '.join(POSITIONS)}"
        )
    multiple = 2 * heads if positions == "rotary" else heads
    if dim % multiple:
        raise InputError(f"dim={dim} must be a multiple of {multiple} for {heads} heads with {positions} positions")


class GatedAttention(nn.Module):
    """Mix an embedding with temporal attention over a window's rows: (1 − g) · embedding + g · out(attention).

    `g`, one number in (0, 1) for each number of the embedding, is learned and starts at `gate`: training starts near
    the path of the mean, which learns fast, and takes from the attention what the mean cannot tell.

    Args:
        attention: over the rows.
        out_dim: numbers in an embedding.
        gate: share of the attention at the start.

    Raises:
        InputError: `gate` is no share.
    """

    def __init__(self, attention: TemporalAttention, out_dim: int, gate: float | int = 0.05) -> None:
        super().__init__()
        if not 0 < gate < 1:
            raise InputError(f"gate={gate} must lie between 0 and 1: the share of the attention at the start")
        self.attention, self.out = attention, nn.Linear(attention.out_dim, out_dim)
        self.gate = nn.Parameter(torch.full((out_dim,), math.log(gate / (1 - gate))))

    def forward(
        self,
        embedding: Float[Tensor, "batch embed"],
        rows: Float[Tensor, "batch *time dim"],
        mask: Bool[Tensor, "batch time"] | None,
    ) -> Float[Tensor, "batch embed"]:
        """Return the mixture, in float32; a window without rows attends to nothing.

        Raises:
            InputError: the batch has the windows' means instead of their rows.
        """
        if rows.ndim != 3:
            raise InputError(
                f"temporal attention reads the rows of a window [b, t, d] and got {list(rows.shape)}, the windows' "
                f"means; set data.window.pool=rows"
            )
        attended = self.out(self.attention(rows, mask))
        return torch.lerp(embedding.float(), attended.float(), self.gate.float().sigmoid())


class TemporalTower(Tower):
    """Join the projection of a window's mean with temporal self-attention over its rows, see `GatedAttention`.

    A batch has `video` `[b, t, d]` with `video_mask` `[b, t]` (`data.window.pool=rows`). A window without rows counts
    as a mean of zeros with nothing attended to.

    Args:
        in_dim: numbers in a row of the bank.
        out_dim: numbers in an embedding.
        hidden_dim, layers, activation, dropout, init: of the projection of the mean, see `ProjectionHead`; `dropout`
            is the attention's too.
        dim, depth, heads, pool, positions, max_rows: of the attention, see `TemporalAttention`.
        gate: share of the attention at the start.

    Raises:
        InputError: an option has no meaning; when called, a batch of means instead of rows, or rows of another size.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        hidden_dim: int | None = None,
        layers: int = 2,
        activation: str = "relu",
        dropout: float | int = 0.0,
        init: str = "default",
        dim: int = 512,
        depth: int = 2,
        heads: int = 8,
        pool: str = "attention",
        positions: str = "rotary",
        max_rows: int = 16,
        gate: float | int = 0.05,
    ) -> None:
        super().__init__()
        self.in_dim, self.out_dim = in_dim, out_dim
        self.head = ProjectionHead(in_dim, out_dim, hidden_dim, layers, activation, dropout=dropout, init=init)
        attention = TemporalAttention(in_dim, dim, depth, heads, pool, positions, max_rows, dropout)
        self.mixture = GatedAttention(attention, out_dim, gate)

    def forward(self, batch: dict[str, Any]) -> Float[Tensor, "batch embed"]:
        """Embed a batch."""
        if "video" not in batch:
            raise ValueError(f"the batch has no 'video'; it has {sorted(batch)}")
        rows, mask = batch["video"], batch.get("video_mask")
        return self.mixture(self.head(masked_mean(rows, mask) if rows.ndim == 3 else rows), rows, mask)
