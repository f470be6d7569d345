"""Gathers: means, single rows, padded sequences and pooled contexts, on the device that holds the bank's rows.

Row indices, masks and lengths come in, and are checked, on the host. If the rows are on a GPU, they are copied there
without waiting for it, so a step never stalls on a lookup.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64, Shaped
from torch import Tensor
from torch.nn.functional import embedding_bag

from clep.bank.buffers import Buffers
from clep.bank.storage import Rows, RowStore

_CACHED_BYTES = 1 << 23  # fits in the CPU cache, and keeps the number of parallel steps small
_GROUP_BYTES = 64 << 20
_buffers = Buffers()


def mean_rows(
    store: Rows, first: Int64[Tensor, " batch"], last: Int64[Tensor, " batch"]
) -> Float32[Tensor, "batch dim"]:
    """Mean of the rows of each window `[first, last)`.

    Raises:
        ValueError: an empty window, or one that leaves the bank.
    """
    if len(first) == 0:
        return torch.zeros(0, store.dim, device=store.device)
    length = last - first
    total, shortest, longest, lowest, highest = _bounds(first, last, length)
    if shortest < 1 or lowest < 0 or highest > store.n_rows:
        raise ValueError(f"windows must be 0 <= first < last <= {store.n_rows}: take them from bank.window")
    if store.block_rows:
        # A window no longer than a block touches only the blocks of its first and its last row.
        edges = torch.cat([first, last - 1])
        store.verify(edges if longest <= store.block_rows else _spans(first, length, total))
    # embedding_bag does not take uint8: such rows are copied together and converted.
    in_place = isinstance(store, RowStore) and store.dtype.is_floating_point
    if isinstance(store, RowStore) and in_place and len(store.pieces) == 1:
        return bag_means(store.pieces[0], *_sent(store.device, _spans(first, length, total), length), longest=longest)
    out = torch.empty(len(first), store.dim, device=store.device)
    apart = torch.ones_like(first, dtype=torch.bool)  # windows whose rows must be copied together first
    if isinstance(store, RowStore) and in_place:
        piece = torch.bucketize(first, store.starts, right=True) - 1
        # Windows from bank.window never leave their video, hence never their file.
        apart = piece != torch.bucketize(last - 1, store.starts, right=True) - 1
        for index in piece[~apart].unique().tolist():
            which = ((piece == index) & ~apart).nonzero().squeeze(1)
            inside, part = first[which] - store.starts[index], length[which]
            out[which] = bag_means(store.pieces[index], _spans(inside, part, int(part.sum())), part, longest=longest)
    which = apart.nonzero().squeeze(1)
    for begin, end in groups(length[which], store):
        at = which[begin:end]
        count = int(length[at].sum())
        rows = store.select(_spans(first[at], length[at], count))
        at, part = _sent(store.device, at, length[at])
        out[at] = bag_means(rows, torch.arange(count, device=store.device), part, longest=longest)
    return out


def select_rows(store: Rows, row: Int64[Tensor, " batch"]) -> Float32[Tensor, "batch dim"]:
    """Single rows, copied, in float32.

    Raises:
        ValueError: a row index out of bounds.
    """
    check_rows(store, row)
    return store.select(row).float()


def padded_rows(
    store: Rows, row: Int64[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]
) -> Float32[Tensor, "batch time dim"]:
    """Rows where the mask is true, zeros elsewhere."""
    filled, slot = row[mask], mask.reshape(-1).nonzero().squeeze(1)
    if store.device.type == "cpu" and 2 * len(filled) > mask.numel():  # then writing every slot is faster
        check_rows(store, filled)
        out = _buffers.take(mask.numel(), store.dim)
        if not store.copy_to(filled, slot, out):
            _select_into(store, torch.where(mask, row, filled[0]).reshape(-1), out)
        out.index_fill_(0, (~mask).reshape(-1).nonzero().squeeze(1), 0)
    else:
        out = _zeros(mask.numel(), store.dim, store.device)
        _scatter_rows(store, filled, slot, out)
    return out.view(*row.shape, store.dim)


def _select_into(store: Rows, row: Int64[Tensor, " rows"], out: Float32[Tensor, "rows dim"]) -> None:
    """Copy rows, whose indices are within bounds, to `out`, converted to float32."""
    if store.dtype == out.dtype:
        store.select(row, out)
        return
    for which, rows in _blocks(store, row):
        out[which] = rows


def _scatter_rows(
    store: Rows, row: Int64[Tensor, " rows"], slot: Int64[Tensor, " rows"], out: Float32[Tensor, "slots dim"]
) -> None:
    """Copy rows to slots of `out`, converted to float32; other slots are not written."""
    check_rows(store, row)
    if store.copy_to(row, slot, out):
        return
    # Two copies, the second from the CPU cache, are faster than any single pass that PyTorch offers.
    (slot,) = _sent(store.device, slot)
    wide = _widest(out)
    for which, rows in _blocks(store, row):
        wide[slot[which]] = _widest(rows.to(out.dtype))


def _blocks(store: Rows, row: Int64[Tensor, " rows"]) -> Iterator[tuple[slice, Shaped[Tensor, "block dim"]]]:
    """Copy rows in blocks that fit in the CPU cache, on a GPU all at once; each block overwrites the one before."""
    step = len(row) if store.device.type == "cuda" else _CACHED_BYTES // (store.dim * store.dtype.itemsize)
    step = max(1, step)
    held = torch.empty(min(step, len(row)), store.dim, dtype=store.dtype, device=store.device)
    for begin in range(0, len(row), step):
        part = row[begin : begin + step]
        yield slice(begin, begin + len(part)), store.select(part, held[: len(part)])


def _widest(rows: Shaped[Tensor, "rows dim"]) -> Shaped[Tensor, "rows words"]:
    """View rows in the widest dtype that divides a row, since PyTorch scatters element by element."""
    if not rows.numel():
        return rows
    row_bytes = rows.shape[1] * rows.element_size()
    kind = next((kind for kind in (torch.complex128, torch.float64) if row_bytes % kind.itemsize == 0), rows.dtype)
    return rows.view(kind)


def sample_rows(
    first: Int64[Tensor, " batch"],
    last: Int64[Tensor, " batch"],
    max_rows: int,
    sample: str,
    generator: torch.Generator | None = None,
) -> tuple[Int64[Tensor, "batch time"], Bool[Tensor, "batch time"]]:
    """At most `max_rows` row indices of each window, in order, and their mask.

    A window of up to `max_rows` rows gives all of them. A longer one is cut into `max_rows` equal parts: "uniform"
    takes the middle row of each part, "random" a random one.

    Raises:
        ValueError: an unknown `sample`, or `max_rows` below 1.
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
    """Uniform float64 draws from `[0, 1)`, shaped as `like` and on its device; the generator may be on another one."""
    device = like.device if generator is None else generator.device
    return torch.rand(like.shape, generator=generator, device=device, dtype=torch.float64).to(like.device)


def check_rows(store: Rows, row: Int64[Tensor, " batch"]) -> None:
    """Check that row indices are within bounds, and verify the blocks that are read for the first time.

    Raises:
        ValueError: an index is out of bounds.
        InputError: a block is damaged.
    """
    if len(row) == 0:
        return
    lowest, highest = torch.stack(torch.aminmax(row)).tolist()
    if lowest < 0 or highest >= store.n_rows:
        raise ValueError(f"rows must be 0 or more and less than {store.n_rows}, not {lowest} to {highest}")
    store.verify(row)


def groups(length: Int64[Tensor, " batch"], store: Rows) -> Iterator[tuple[int, int]]:
    """Cut a batch of windows into parts `[begin, end)` of at most 64 MB of rows and at least one window."""
    most = max(1, _GROUP_BYTES // (store.dim * store.dtype.itemsize))
    begin = taken = 0
    for index, rows in enumerate(length.tolist()):
        if taken and taken + rows > most:
            yield begin, index
            begin, taken = index, 0
        taken += rows
    if begin < len(length):
        yield begin, len(length)


def bag_means(
    rows: Shaped[Tensor, "_ dim"], index: Int64[Tensor, " taken"], length: Int64[Tensor, " batch"], *, longest: int
) -> Float32[Tensor, "batch dim"]:
    """Mean of consecutive bags of `rows[index]`, `length` rows each, in float32; zeros where `length` is 0.

    `longest` is no less than the longest length.
    """
    begin = length.cumsum(0) - length
    rows = rows if rows.is_floating_point() else rows.float()
    if rows.dtype == torch.float32:
        return embedding_bag(index, rows, begin, mode="mean")
    # embedding_bag sums half precision in float32, but on the CPU mode="mean" rounds the sum to half before it
    # divides: the mean of eight rows of 10,000 overflows. Weights of a power of two are exact, keep the sum within
    # the range of the rows, round once, and are faster.
    weight, factor = _weights(longest.bit_length(), rows.dtype, rows.device)
    weights = torch.repeat_interleave(weight[length], length, output_size=len(index))
    scaled = embedding_bag(index, rows, begin, mode="sum", per_sample_weights=weights)
    return scaled.float().mul_(factor[length])


@lru_cache
def _weights(
    bits: int, dtype: torch.dtype, device: torch.device
) -> tuple[Float[Tensor, " lengths"], Float32[Tensor, "lengths 1"]]:
    """Weight of each row of a bag, a power of two, and the factor that makes their sum a mean, for each length."""
    length = torch.arange(1 << bits, device=device).clamp(min=1)
    weight = torch.ldexp(torch.ones_like(length, dtype=torch.float32), -torch.frexp((length - 1).float()).exponent)
    return weight.to(dtype), (1 / (weight * length))[:, None]


def _spans(first: Int64[Tensor, " batch"], length: Int64[Tensor, " batch"], total: int) -> Int64[Tensor, " taken"]:
    """Row indices of all windows, concatenated."""
    index = torch.repeat_interleave(first - (length.cumsum(0) - length), length, output_size=total)
    return index.add_(torch.arange(total, device=first.device))


def _sent(device: torch.device, *index: Shaped[Tensor, "..."]) -> tuple[Tensor, ...]:
    """Indices and lengths on the device of the rows, copied without waiting for it."""
    return tuple(one.to(device, non_blocking=True) for one in index)


def _zeros(slots: int, dim: int, device: torch.device) -> Float32[Tensor, "slots dim"]:
    """Zeros; on the CPU as untouched memory pages, since `torch.zeros` would write them."""
    if device.type == "cpu":
        return torch.from_numpy(np.zeros((slots, dim), dtype=np.float32))
    return torch.zeros(slots, dim, device=device)


def _bounds(
    first: Int64[Tensor, " batch"], last: Int64[Tensor, " batch"], length: Int64[Tensor, " batch"]
) -> list[int]:
    """Total, shortest and longest length, lowest and highest row of windows."""
    return torch.stack([length.sum(), length.min(), length.max(), first.min(), last.max()]).tolist()


def masked_means(
    store: Rows, row: Int64[Tensor, "batch slots"], mask: Bool[Tensor, "batch slots"]
) -> Float32[Tensor, "batch dim"]:
    """Mean of the unmasked rows of each moment; zeros for a moment without rows.

    Raises:
        ValueError: a row index out of bounds.
    """
    length, real = mask.sum(1), row[mask]
    check_rows(store, real)
    if isinstance(store, RowStore) and store.dtype.is_floating_point and len(store.pieces) == 1:
        return bag_means(store.pieces[0], *_sent(store.device, real, length), longest=mask.shape[1])
    out = torch.zeros(len(row), store.dim, device=store.device)
    at = 0
    for begin, end in groups(length, store):
        part = length[begin:end]
        count = int(part.sum())
        every = torch.arange(count, device=store.device)
        rows = store.select(real[at : at + count])
        out[begin:end] = bag_means(rows, every, *_sent(store.device, part), longest=mask.shape[1])
        at += count
    return out


def masked_maxima(
    store: Rows, row: Int64[Tensor, "batch slots"], mask: Bool[Tensor, "batch slots"]
) -> Float32[Tensor, "batch dim"]:
    """Elementwise maximum of the unmasked rows of each moment; zeros for a moment without rows.

    Raises:
        ValueError: a row index out of bounds.
    """
    length, real = mask.sum(1).tolist(), row[mask]
    check_rows(store, real)
    out = torch.zeros(len(row), store.dim, device=store.device)
    # One moment at a time, so that its rows stay in the CPU cache between the two steps.
    held = torch.empty(max(length, default=0), store.dim, dtype=store.dtype, device=store.device)
    for index, part in enumerate(real.split(length)):
        if len(part):
            out[index] = store.select(part, held[: len(part)]).amax(0)
    return out
