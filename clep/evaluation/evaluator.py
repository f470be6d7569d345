"""What every evaluator is: files in, a model in, named numbers out. No Lightning."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from clep.cpu_products import fast_float32_products
from clep.errors import InputError
from clep.evaluation.ranks import gather_shares, my_share
from clep.models import SavedModel

log = logging.getLogger(__name__)


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
