"""Split an evaluation among the ranks of a run, and put the pieces together on each."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def my_share(count: int) -> Int64[Tensor, " share"]:
    """Return which of `count` items this rank evaluates: one contiguous piece, all of them on a single process.

    Pieces differ by one item at the most, and none is given to two ranks, so nothing has to be deduplicated.
    """
    rank, world_size = _ranks()
    return torch.arange(rank * count // world_size, (rank + 1) * count // world_size)


def gather_shares(rows: Float[Tensor, "share dim"], count: int) -> Float[Tensor, "count dim"]:
    """Return the rows of all ranks' shares in order, on every rank.

    Args:
        rows: this rank's, as `my_share(count)` cut them.
        count: of all items.
    """
    _, world_size = _ranks()
    if world_size == 1:
        return rows
    sizes = [(rank + 1) * count // world_size - rank * count // world_size for rank in range(world_size)]
    padded = rows.new_zeros(max(sizes), rows.shape[1])
    padded[: len(rows)] = rows
    pieces = [torch.empty_like(padded) for _ in sizes]
    torch.distributed.all_gather(pieces, padded)
    return torch.cat([piece[:size] for piece, size in zip(pieces, sizes, strict=True)])


def is_first_rank() -> bool:
    """Whether this process is the one that writes files."""
    return _ranks()[0] == 0


def _ranks() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
