"""Tensors of all ranks, joined in the order of ranks."""

from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, distributed


def gather(
    own: Shaped[Tensor, "own *rest"], group: distributed.ProcessGroup | None, ranks: int
) -> Shaped[Tensor, "total *rest"]:
    """Join a tensor of every rank, as constants. The shape must be the same on all ranks."""
    if ranks == 1:
        return own
    parts = [torch.empty_like(own, memory_format=torch.contiguous_format) for _ in range(ranks)]
    distributed.all_gather(parts, own.contiguous(), group=group)
    return torch.cat(parts)


def gather_with_gradient(
    own: Shaped[Tensor, "own *rest"], group: distributed.ProcessGroup | None
) -> Shaped[Tensor, "total *rest"]:
    """Join a tensor of every rank; gradients that any rank computes for a part go to the rank that owns it, summed."""
    return _Gather.apply(own, group)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, group: distributed.ProcessGroup | None) -> Tensor:
        ctx.group = group
        ctx.size = len(own)
        return gather(own, group, distributed.get_world_size(group))

    @staticmethod
    def backward(ctx: Any, joined: Tensor) -> tuple[Tensor, None]:
        parts = [part.contiguous() for part in joined.split(ctx.size)]
        own = torch.empty_like(parts[0])
        distributed.reduce_scatter(own, parts, op=distributed.ReduceOp.SUM, group=ctx.group)
        return own, None


def check_same_size(size: int, device: torch.device, group: distributed.ProcessGroup | None) -> None:
    """Refuse batches whose sizes differ between ranks, on every rank alike. Waits for a GPU.

    Raises:
        ValueError: the sizes differ; the message lists them.
    """
    own = torch.tensor([size], device=device)
    sizes = gather(own, group, distributed.get_world_size(group)).tolist()
    if len(set(sizes)) > 1:
        raise ValueError(
            f"ranks have batches of different sizes, {sizes}; use a sampler that drops the last, incomplete batch"
        )
