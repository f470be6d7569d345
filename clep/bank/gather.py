"""The one gather: means, single rows and padded sequences of a bank's rows, on whatever device holds them."""

import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor
from torch.nn.functional import embedding_bag

from clep.bank.storage import RowStore


def mean_rows(
    store: RowStore, first: Int64[Tensor, " batch"], last: Int64[Tensor, " batch"]
) -> Float32[Tensor, "batch dim"]:
    """Mean of the rows of each window `[first, last)`.

    Raises:
        ValueError: an empty window, or one that leaves the bank.
    """
    if len(first) == 0:
        return torch.zeros(0, store.dim, device=store.device)
    length = last - first
    total, shortest, lowest, highest = _bounds(first, last, length)
    if shortest < 1 or lowest < 0 or highest > store.n_rows:
        raise ValueError(f"windows must be 0 <= first < last <= {store.n_rows}: take them from bank.window")
    if len(store.pieces) == 1:
        return _mean(store.pieces[0], first, length, total)
    out = torch.empty(len(first), store.dim, device=store.device)
    piece = torch.bucketize(first, store.starts, right=True) - 1
    crossing = piece != torch.bucketize(last - 1, store.starts, right=True) - 1
    if bool(crossing.any()):  # only windows that were not made by bank.window leave their video
        which = crossing.nonzero().squeeze(1)
        for at in which.tolist():
            out[at] = select_rows(store, torch.arange(int(first[at]), int(last[at]))).mean(0)
        piece[which] = -1
    for index in piece.unique().tolist():
        if index >= 0:
            which = (piece == index).nonzero().squeeze(1)
            inside = first[which] - store.starts[index]
            out[which] = _mean(store.pieces[index], inside, length[which], int(length[which].sum()))
    return out


def select_rows(store: RowStore, row: Int64[Tensor, " batch"]) -> Float32[Tensor, "batch dim"]:
    """Single rows, copied, in float32.

    Raises:
        ValueError: a row that the bank does not have.
    """
    if len(row) == 0:
        return torch.zeros(0, store.dim, device=store.device)
    _check_rows(store, row)
    if len(store.pieces) == 1:
        return store.pieces[0].index_select(0, row).float()
    out = torch.empty(len(row), store.dim, device=store.device)
    piece = torch.bucketize(row, store.starts, right=True) - 1
    for index in piece.unique().tolist():
        which = (piece == index).nonzero().squeeze(1)
        out[which] = store.pieces[index].index_select(0, row[which] - store.starts[index]).float()
    return out


def padded_rows(
    store: RowStore, row: Int64[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]
) -> Float32[Tensor, "batch time dim"]:
    """Rows where the mask is true, zeros elsewhere."""
    real, place = row[mask], mask.reshape(-1)
    _check_rows(store, real)
    if len(store.pieces) == 1:
        # A bag of one row is that row, an empty bag is zeros: nothing is written twice.
        rows = embedding_bag(real, store.pieces[0], place.cumsum(0) - place.long(), mode="sum").float()
    else:
        rows = torch.zeros(len(place), store.dim, device=store.device)
        rows[place] = select_rows(store, real)
    return rows.view(*row.shape, store.dim)


def sample_rows(
    first: Int64[Tensor, " batch"],
    last: Int64[Tensor, " batch"],
    max_rows: int,
    sample: str,
    generator: torch.Generator | None = None,
) -> tuple[Int64[Tensor, "batch time"], Bool[Tensor, "batch time"]]:
    """At most `max_rows` rows of each window, in order: all of a short one, one of each equal part of a long one.

    "uniform" takes the row in the middle of each of `max_rows` equal parts, "random" any row of the part.
    """
    if sample not in ("uniform", "random"):
        raise ValueError(f"sample={sample!r} is unknown: choose 'uniform' or 'random'")
    if max_rows < 1:
        raise ValueError(f"max_rows={max_rows} must be at least 1")
    length = (last - first)[:, None]
    part = torch.arange(max_rows, device=first.device)
    if sample == "uniform":
        chosen = (2 * part + 1) * length // (2 * max_rows)
    else:
        begin, end = part * length // max_rows, (part + 1) * length // max_rows
        chance = random_like(begin, generator)
        chosen = begin + (chance * (end - begin)).long().minimum(end - begin - 1)
    mask = part < length
    return first[:, None] + torch.where(length <= max_rows, part, chosen), mask


def random_like(like: Tensor, generator: torch.Generator | None) -> Float[Tensor, "..."]:
    """Uniform numbers in `[0, 1)` of the shape and device of another tensor; the generator may live elsewhere."""
    device = like.device if generator is None else generator.device
    return torch.rand(like.shape, generator=generator, device=device, dtype=torch.float64).to(like.device)


def _check_rows(store: RowStore, row: Int64[Tensor, " batch"]) -> None:
    if len(row) == 0:
        return
    lowest, highest = torch.stack(torch.aminmax(row)).tolist()
    if lowest < 0 or highest >= store.n_rows:
        raise ValueError(f"rows must be 0 or more and less than {store.n_rows}, not {lowest} to {highest}")


def _bounds(
    first: Int64[Tensor, " batch"], last: Int64[Tensor, " batch"], length: Int64[Tensor, " batch"]
) -> list[int]:
    """All that a gather must know of its windows before it starts; on a GPU this waits once."""
    return torch.stack([length.sum(), length.min(), first.min(), last.max()]).tolist()


def _mean(
    rows: Float[Tensor, "_ dim"], first: Int64[Tensor, " batch"], length: Int64[Tensor, " batch"], total: int
) -> Float32[Tensor, "batch dim"]:
    begin = length.cumsum(0) - length
    index = torch.repeat_interleave(first - begin, length, output_size=total)
    index += torch.arange(total, device=first.device)
    if rows.dtype == torch.float32:
        return embedding_bag(index, rows, begin, mode="mean")
    # Half precision is summed in float32, on the CPU too, but there mode="mean" rounds the sum to half before it
    # divides: eight rows of 10,000 overflow. Scaled by a power of two, which is exact, the sum stays within the range
    # of its rows, is rounded once, and takes less time.
    weight = torch.ldexp(torch.ones_like(first, dtype=torch.float32), -torch.frexp((length - 1).float()).exponent)
    weights = torch.repeat_interleave(weight.to(rows.dtype), length, output_size=total)
    scaled = embedding_bag(index, rows, begin, mode="sum", per_sample_weights=weights)
    return scaled.float().mul_((1 / (weight * length))[:, None])
