"""What every evaluator is: files in, a model in, named numbers out. No Lightning."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from clep.compute.float32_matmul import fast_float32_products
from clep.errors import InputError
from clep.models import SavedModel

log = logging.getLogger(__name__)


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


class Evaluator(ABC):
    """One way to measure a model.

    After `run`, `coverage` tells how many clips, classes or moments were seen and what was missing.

    Args:
        batch_size: items encoded at once.
    """

    of_the_model = True
    """Whether the figures depend on the model; those that do not are not measured for an average of weights too."""

    def __init__(self, batch_size: int = 4096) -> None:
        self.batch_size = batch_size
        self.coverage: dict[str, Any] = {}

    @abstractmethod
    def measure(self, model: Any) -> dict[str, float]:
        """Return the metrics of `model` under their full names; gradients are off, the model in evaluation mode."""

    @property
    def prompts(self) -> dict[str, list[list[str]]]:
        """Return the sentences that stand for each class, by prompt set; empty where there are no classes."""
        return {}

    def run(self, model: SavedModel) -> dict[str, float]:
        """Return the metrics of `model` under their full names, in percent unless the name says otherwise.

        Every rank of a distributed run calls this and gets the same numbers. The model is left in the mode it was in.

        Raises:
            InputError: files are missing, or do not belong to the model.
        """
        with evaluating(model), fast_float32_products():
            return self.measure(model)

    def encode(
        self,
        count: int,
        encode: Callable[[Int64[Tensor, " batch"]], Float[Tensor, "batch dim"]],
        batch_size: int | None = None,
    ) -> Float[Tensor, "count dim"]:
        """Return the embeddings of `count` items in order, each rank having encoded its share in batches.

        Args:
            count: of items.
            encode: from the numbers of some items to their embeddings.
            batch_size: items encoded at once; None for the evaluator's own.
        """
        share = my_share(count)
        pieces = [encode(piece) for piece in share.split(batch_size or self.batch_size) if len(piece)]
        if not pieces:
            pieces = [encode(torch.zeros(1, dtype=torch.int64))[:0]]
        return gather_shares(torch.cat(pieces), count)


@contextmanager
def evaluating(model: SavedModel) -> Iterator[None]:
    """Switch dropout and gradients off for the block; each part of the model gets back the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def model_device(model: SavedModel) -> torch.device:
    """Return where the parameters of `model` lie."""
    return next(model.parameters()).device


def refuse_repeated(seen: dict[str, float], metrics: Mapping[str, float], name: str) -> None:
    """Add `metrics` to those `seen`, unless two evaluators use one name: a logger would average them.

    Raises:
        InputError: names the evaluator and the metric.
    """
    again = sorted(seen.keys() & metrics.keys())
    if again:
        raise InputError(f"evaluator {name!r} measures {again[0]!r}, which another one does too; evaluate them apart")
    seen.update(metrics)
