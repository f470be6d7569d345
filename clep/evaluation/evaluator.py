"""Base class of evaluators: from files and a model to metrics by name. No Lightning."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from clep.compute.float32_matmul import fast_float32_products
from clep.errors import InputError
from clep.evaluation.details import Detail
from clep.models import SavedModel, evaluating
from clep.progress import progress_bar

log = logging.getLogger(__name__)

T = TypeVar("T")


def my_share(count: int) -> Int64[Tensor, " share"]:
    """Return the indices of the items that this rank evaluates: a contiguous part, all items on a single process.

    Parts differ by at most one item and are disjoint, so no deduplication is needed.
    """
    rank, world_size = _ranks()
    return torch.arange(rank * count // world_size, (rank + 1) * count // world_size)


def gather_shares(rows: Float[Tensor, "share dim"], count: int) -> Float[Tensor, "count dim"]:
    """Return the rows of all ranks in order, on every rank.

    Args:
        rows: one per item of `my_share(count)`.
        count: number of items of all ranks.
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
    """Whether this process has rank 0, which writes files."""
    return _ranks()[0] == 0


def _ranks() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


class Evaluator(ABC):
    """Base class of evaluators. Subclasses define `measure`.

    After `run`, `coverage` holds the numbers of clips, classes or moments, and of those that were missing; and
    `details`, where `run` was called with `details=True`, what `measure` passed to `record`.

    Args:
        batch_size: items encoded at once.

    Examples:
        >>> from clep.evaluation import Evaluator
        >>> from clep.models import DualEncoder
        >>> class Scale(Evaluator):
        ...     def measure(self, model):
        ...         return {"mine/scale": float(model.logit_scale)}
        >>> Scale().run(DualEncoder.from_pretrained("model"))
        {'mine/scale': 14.285...}
    """

    reads: tuple[str, ...] = ()  # arguments of the constructor that name files
    depends_on_model = True  # False: the metrics are not computed again for the average of the weights
    details: tuple[Detail, ...] = ()
    progress = False  # show a bar on a terminal while items are encoded
    _keeps_details = False

    def __init__(self, batch_size: int = 4096) -> None:
        self.batch_size = batch_size
        self.coverage: dict[str, Any] = {}

    @abstractmethod
    def measure(self, model: Any) -> dict[str, float]:
        """Return the metrics of `model` by full name; called in evaluation mode and without gradients."""

    @property
    def prompts(self) -> dict[str, list[list[str]]]:
        """Return the prompts of each class, by prompt set; empty for evaluators without classes."""
        return {}

    def run(self, model: SavedModel, details: bool = False) -> dict[str, float]:
        """Return the metrics of `model` by full name, in percent unless the name says otherwise.

        In a distributed run every rank must call it, and gets the same metrics. The model's mode is restored.

        Args:
            model: measured.
            details: keep `details` too, on rank 0.

        Raises:
            InputError: files are missing, or do not belong to the model.
        """
        self.details, self._keeps_details = (), details and is_first_rank()
        try:
            with evaluating(model), fast_float32_products():
                return self.measure(model)
        finally:
            self._keeps_details = False

    def record(self, make: Callable[[], Iterable[Detail]]) -> None:
        """Keep the details that `make` returns, if any are wanted; an error in it is a warning.

        Called by `measure`, on all ranks; `make` runs on rank 0 only and must not communicate.
        """
        if not self._keeps_details:
            return
        try:
            self.details += tuple(make())
        except Exception as error:
            log.warning("%s: no details for the report: %s: %s", type(self).__name__, type(error).__name__, error)

    def encode(
        self,
        count: int,
        encode: Callable[[Int64[Tensor, " batch"]], Float[Tensor, "batch dim"]],
        batch_size: int | None = None,
    ) -> Float[Tensor, "count dim"]:
        """Return the embeddings of `count` items in order; each rank encodes its share in batches.

        Args:
            count: number of items.
            encode: from indices of items to their embeddings.
            batch_size: items encoded at once; None for the evaluator's `batch_size`.

        Raises:
            InputError: embeddings are NaN, so that no metric is defined.
        """
        share = my_share(count)
        batches = [piece for piece in share.split(batch_size or self.batch_size) if len(piece)]
        pieces = [encode(piece) for piece in self.shown(batches, len(batches))]
        if not pieces:
            pieces = [encode(torch.zeros(1, dtype=torch.int64))[:0]]
        rows = gather_shares(torch.cat(pieces), count)
        self.refuse_nan(rows, "items")
        return rows

    def shown(self, batches: Iterable[T], count: int) -> Iterator[T]:
        """Yield `count` batches, with a progress bar after a second where `progress` is set."""
        with progress_bar(type(self).__name__, count, self.progress, after_s=1.0) as advance:
            for batch in batches:
                yield batch
                advance(1)

    def refuse_nan(self, rows: Float[Tensor, "count dim"], what: str) -> None:
        """Refuse embeddings or scores of which no metric is defined.

        Raises:
            InputError: some are NaN; says how many, and why that happens.
        """
        undefined = int(rows.isnan().any(dim=1).sum())
        if undefined:
            raise InputError(
                f"{type(self).__name__}: {undefined:,} of {len(rows):,} {what} have embeddings or scores that are NaN: "
                f"the model diverged (lower optim.optimizer.lr), or what it reads is not finite"
            )


def coverage_text(coverage: Mapping[str, object]) -> str:
    """Return counts as text for a log message, e.g. "clips: 2,100, classes: 400"."""
    return ", ".join(
        f"{key}: {value:,}" if isinstance(value, int) else f"{key}: {value}" for key, value in coverage.items()
    )


def model_device(model: SavedModel) -> torch.device:
    """Return the device of the parameters of `model`."""
    return next(model.parameters()).device


def add_metrics(seen: dict[str, float], metrics: Mapping[str, float], name: str) -> None:
    """Add `metrics` to `seen`; two evaluators must not share a metric name, because a logger would average them.

    Raises:
        InputError: names the evaluator and the metric.
    """
    duplicates = sorted(seen.keys() & metrics.keys())
    if duplicates:
        raise InputError(
            f"evaluator {name!r} and another one both measure {duplicates[0]!r}; run them separately with "
            f"`python -m clep.evaluate`"
        )
    seen.update(metrics)
