"""Batch sampler of moments: seeded, independent of the number of ranks, and resumable within an epoch."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from clep.config.requirements import Need
from clep.errors import InputError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MomentKeys:
    """Properties of the training moments, ordered by source, for a `SamplingStrategy`.

    Attributes:
        text: ids of texts, equal for equal sentences across sources.
        video: ids of videos from 0, distinct across sources.
        second: middle of each moment in seconds.
        sizes: number of moments of each source.

    Examples:
        >>> import torch
        >>> from clep.data import MomentKeys
        >>> keys = MomentKeys(
        ...     text=torch.tensor([0, 1, 0]),
        ...     video=torch.tensor([0, 0, 1]),
        ...     second=torch.tensor([4.0, 9.0, 2.0], dtype=torch.float64),
        ...     sizes=[3],
        ... )
        >>> len(keys.text)
        3
    """

    text: Int64[Tensor, " moments"]
    video: Int64[Tensor, " moments"]
    second: Float64[Tensor, " moments"]
    sizes: list[int]

    def __len__(self) -> int:
        return len(self.text)


class SamplingStrategy(ABC):
    """Base class: arranges the moments of an epoch into batches; chosen by `data.sampler`.

    The batches must depend only on the arguments and on `state_dict`, so that all ranks arrange the same joined
    batches, and a resumed run the same as an uninterrupted one.

    Examples:
        >>> from clep.data import MomentBatchSampler, SamplingStrategy
        >>> class Sorted(SamplingStrategy):
        ...     def open(self, keys, rows, rank_rows):
        ...         self.rows = rows
        ...
        ...     def arrange(self, order, n_batches, epoch, seed):
        ...         return order[: n_batches * self.rows].view(n_batches, self.rows).sort(1).values
        ...
        ...     def to_dict(self):
        ...         return {"name": "sorted"}
        >>> strategy = Sorted()
        >>> strategy.open(None, rows=4, rank_rows=4)  # the DataModule does this
        >>> [draw.moments.diff().min() > 0 for draw in MomentBatchSampler([10], 4, strategy=strategy)]
        [tensor(True), tensor(True)]
    """

    def __init__(self) -> None:
        self._logged: set[str] = set()

    @classmethod
    def requires(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a run that this strategy needs, by key: values or `clep.config.requirements.Need`s."""
        reason = "it arranges whole batches"
        return {"data.shuffle": Need(True, reason), "data.drop_last": Need(True, reason)}

    def log_once(self, level: int, message: str) -> None:
        """Log a message, but not again when the strategy is opened again."""
        if message not in self._logged:
            self._logged.add(message)
            log.log(level, "%s", message)

    @abstractmethod
    def open(self, keys: MomentKeys, rows: int, rank_rows: int) -> None:
        """Prepare for the training moments; called before `arrange`.

        Args:
            keys: of the training moments.
            rows: moments per joined batch of all ranks.
            rank_rows: moments per batch on each rank.

        Raises:
            InputError: these moments cannot be arranged into such batches.
        """

    def draws(self, moments: int) -> int:
        """Return how many moments of an epoch are drawn at random; the strategy chooses the others."""
        return moments

    def n_batches(self, order: Int64[Tensor, " draws"], moments: int, rows: int) -> int:
        """Return the number of joined batches per epoch, given the order of the first epoch."""
        return moments // rows

    @abstractmethod
    def arrange(
        self, order: Int64[Tensor, " draws"], n_batches: int, epoch: int, seed: int
    ) -> Int64[Tensor, "batches rows"]:
        """Return the moments of each joined batch of an epoch.

        Args:
            order: the drawn moments of the epoch, shuffled, in the proportions of the sources' weights.
            n_batches: number of batches.
            epoch, seed: seed of the random choices.
        """

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return the settings, which must be equal in a checkpoint and the run that resumes from it."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state that training has changed, for a checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Restore what `state_dict` returned."""


class Draw(NamedTuple):
    """Indices of one rank's part of a batch, and the seed of its random samples and augmentation.

    Examples:
        >>> from clep.data import MomentBatchSampler
        >>> draw = next(iter(MomentBatchSampler([10], batch_size=4, shuffle=False)))
        >>> draw.moments.tolist()
        [0, 1, 2, 3]
    """

    moments: Int64[Tensor, " batch"]
    seed: int


class MomentBatchSampler:
    """Yield one `Draw` per batch.

    The joined batch is cut into one contiguous piece per rank, so `r` ranks with `batch_size / r` each see the same
    joined batches as one rank with `batch_size`. The order of an epoch depends only on `seed` and the epoch: a run that
    stopped after batch `k` continues with batch `k` after `resume(epoch, k)`.

    Args:
        sizes: number of moments of each source; indices are those of the concatenated sources.
        batch_size: moments per batch on each rank.
        weights: share of each source in an epoch (any positive numbers), None for their sizes. An epoch has
            `sum(sizes)` draws: a source with a larger share than its size is repeated; of one with a smaller share, the
            next epoch continues with the moments that are left.
        shuffle: a new random order in each epoch; False keeps the stored order (`weights` must be None).
        drop_last: drop the incomplete last batch; required on several ranks.
        seed: of the order and of the draws.
        rank, world_size: this process and the number of processes that share each batch.
        strategy: arranges the moments into batches, already opened on them; None for random batches. It needs `shuffle`
            and `drop_last`.

    Raises:
        InputError: fewer moments than one joined batch, or options that contradict each other.

    Examples:
        >>> from clep.data import MomentBatchSampler
        >>> one = list(MomentBatchSampler([10], batch_size=4))
        >>> two = [list(MomentBatchSampler([10], batch_size=2, rank=rank, world_size=2)) for rank in range(2)]
        >>> one[0].moments.tolist() == [*two[0][0].moments.tolist(), *two[1][0].moments.tolist()]
        True
    """

    def __init__(
        self,
        sizes: list[int],
        batch_size: int,
        weights: Sequence[float | int] | None = None,
        shuffle: bool = True,
        drop_last: bool = True,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        strategy: SamplingStrategy | None = None,
    ) -> None:
        self.sizes, self.batch_size, self.shuffle, self.seed = sizes, batch_size, shuffle, seed
        self.rank, self.world_size, self.drop_last = rank, world_size, drop_last
        self.epoch = 0
        self._resume_at = (0, 0)
        total = sum(sizes)
        if weights is not None and not shuffle:
            raise InputError(
                "data.shuffle=false keeps the stored order, which source weights would change; use only one of the two"
            )
        if weights is not None and (len(weights) != len(sizes) or min(weights) <= 0):
            raise InputError(f"source weights {weights} must be {len(sizes)} positive numbers, one per source")
        if world_size > 1 and not drop_last:
            raise InputError(
                "data.drop_last=false gives ranks batches of different sizes; use drop_last=true on several devices"
            )
        if total == 0:
            raise InputError("there are no training moments; check data.sources and their filters")
        if total < batch_size * world_size and drop_last:
            most = total // world_size
            raise InputError(
                f"one batch takes data.batch_size={batch_size} x {world_size} rank(s), but there are only {total} "
                f"training moments; "
                + (f"choose data.batch_size={most} or less" if most > 1 else "use fewer devices, or more data")
            )
        if strategy is not None and not (shuffle and drop_last):
            raise InputError(
                f"sampler={strategy.to_dict()['sampler']} arranges whole batches; it needs data.shuffle=true "
                f"and data.drop_last=true (or use sampler=shuffled)"
            )
        shares = [float(size) for size in sizes] if weights is None else weights
        self.strategy = strategy
        self._counts = _apportion(total if strategy is None else strategy.draws(total), shares)
        self._length = self._batches(total)

    @property
    def sampler(self) -> "MomentBatchSampler":
        """This sampler: the trainer calls `set_epoch` on the `sampler` of a batch sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration; the trainer calls this."""
        self.epoch = epoch

    def resume(self, epoch: int, batch: int) -> None:
        """Start the iteration of `epoch` at the batch with index `batch`; other epochs start at 0."""
        self.epoch = epoch
        self._resume_at = (epoch, batch)

    def state(self) -> dict[str, Any]:
        """Return what the order depends on; it must be equal in a checkpoint and the run that resumes from it."""
        return {
            "sizes": list(self.sizes),
            "counts": list(self._counts),
            "global_batch": self.batch_size * self.world_size,
            "seed": self.seed,
            "shuffle": self.shuffle,
            "strategy": None if self.strategy is None else self.strategy.to_dict(),
        }

    def __len__(self) -> int:
        return self._length

    def _batches(self, moments: int) -> int:
        rows = self.batch_size * self.world_size
        if self.strategy is not None:
            return self.strategy.n_batches(self._order(0), moments, rows)
        whole, rest = divmod(moments, rows)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Draw]:
        order = self._order(self.epoch)
        if self.strategy is not None:
            order = self.strategy.arrange(order, len(self), self.epoch, self.seed).flatten()
        epoch, batch = self._resume_at
        stride = self.batch_size * self.world_size
        for index in range(batch if epoch == self.epoch else 0, len(self)):
            first = index * stride + self.rank * self.batch_size
            seed = ((self.seed * 1_000_003 + self.epoch) * 1_000_003 + index) * 4_099 + self.rank
            yield Draw(order[first : first + self.batch_size], seed % (2**63))

    def _order(self, epoch: int) -> Int64[Tensor, " draws"]:
        if not self.shuffle:
            return torch.arange(sum(self.sizes))
        offset, parts = 0, []
        for size, count in zip(self.sizes, self._counts, strict=True):
            parts.append(offset + _cycle(size, first=epoch * count, count=count, seed=self.seed))
            offset += size
        draws = torch.cat(parts)
        return draws[torch.randperm(len(draws), generator=seeded(self.seed, epoch, 1))]


def _cycle(size: int, first: int, count: int, seed: int) -> Int64[Tensor, " count"]:
    """Return draws `first … first + count` of an endless sequence of random permutations of `size` moments."""
    if count == 0:
        return torch.empty(0, dtype=torch.int64)
    rounds = range(first // size, (first + count - 1) // size + 1)
    sequence = torch.cat([torch.randperm(size, generator=seeded(seed, index, 2)) for index in rounds])
    start = first - rounds[0] * size
    return sequence[start : start + count]


def seeded(seed: int, epoch: int, stream: int) -> torch.Generator:
    """Return a generator for one of several independent streams of random choices of an epoch."""
    return torch.Generator().manual_seed(((seed * 1_000_003 + epoch) * 31 + stream) % (2**63))


def _apportion(total: int, shares: Sequence[float | int]) -> list[int]:
    """Split `total` in proportion to `shares` into integers that sum to it (largest remainder method)."""
    exact = [total * share / sum(shares) for share in shares]
    counts = [int(value) for value in exact]
    by_remainder = sorted(range(len(shares)), key=lambda index: counts[index] - exact[index])
    for index in by_remainder[: total - sum(counts)]:
        counts[index] += 1
    return counts
