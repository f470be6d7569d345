"""Batches in which each moment has a neighbour of the same scene (EgoVLP)."""

import logging
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from clep.data.sampler import MomentKeys, SamplingStrategy, seeded
from clep.errors import InputError

_DRAWS = 8


class SceneAware(SamplingStrategy):
    """Each moment of a batch is followed by a neighbour in time, whose video and text are hard negatives (EgoVLP).

    A batch of `b` rows holds `b/2` moments drawn at random and, after each of them, one drawn uniformly from the other
    moments of its video whose middle is at most `within_s` seconds away (Lin et al. 2022, section 3.2). Neighbours are
    ordinary rows: they are contrasted with the whole batch, and the loss includes them as queries. A neighbour that is
    already in the batch is drawn again, since it would be its own negative; if the scene has no other moment, it stays.
    An epoch has as many rows as any other, so a moment is drawn once in two epochs, and is a neighbour about as often.
    A moment without a neighbour, such as an image, is followed by any other moment of its source.

    Args:
        within_s: maximum distance of neighbours in seconds; 60 in the paper.

    Raises:
        InputError: `within_s` is not positive.

    Examples:
        >>> import torch
        >>> from clep.data import MomentBatchSampler, MomentKeys, SceneAware
        >>> video = torch.tensor([0, 0, 0, 1, 1, 1])
        >>> keys = MomentKeys(torch.arange(6), video, torch.arange(6).double(), sizes=[6])
        >>> strategy = SceneAware(within_s=60)
        >>> strategy.open(keys, rows=4, rank_rows=4)
        >>> batch = next(iter(MomentBatchSampler([6], 4, strategy=strategy))).moments
        >>> video[batch[::2]].tolist() == video[batch[1::2]].tolist()  # a moment, its neighbour, …
        True
    """

    def __init__(self, within_s: float | int = 60.0) -> None:
        super().__init__()
        if within_s <= 0:
            raise InputError(f"data.sampler.within_s={within_s} must be positive (seconds)")
        self.within_s = float(within_s)

    def open(self, keys: MomentKeys, rows: int, rank_rows: int) -> None:
        """Compute the neighbours of each moment.

        Raises:
            InputError: the batch size is odd, or no moment has a neighbour.
        """
        if rank_rows % 2:
            raise InputError(
                f"sampler=scene_aware: half of a batch are neighbours, so data.batch_size={rank_rows} must be even"
            )
        video, second = keys.video.numpy(), keys.second.numpy()
        by_time = np.lexsort((second, video))
        # One time axis for all videos, with gaps that are larger than the distance of neighbours.
        length = float(second.max() - second.min()) + 2 * self.within_s + 1.0
        axis = video[by_time] * length + (second[by_time] - second.min())
        rank = np.empty(len(by_time), dtype=np.int64)
        rank[by_time] = np.arange(len(by_time))
        first = np.searchsorted(axis, axis - self.within_s, side="left")[rank]
        last = np.searchsorted(axis, axis + self.within_s, side="right")[rank]
        self._by_time, self._rank = torch.from_numpy(by_time), torch.from_numpy(rank)
        self._first, self._others = torch.from_numpy(first), torch.from_numpy(last - first - 1)
        self._rows, sizes = rows, torch.tensor(keys.sizes)
        self._source_end = sizes.cumsum(0)
        self._source_size = sizes
        alone = int((self._others == 0).sum())
        if alone == len(keys):
            raise InputError(
                f"sampler=scene_aware: none of the {alone} training moments has another one of its video within "
                f"{self.within_s:g} s; raise data.sampler.within_s, or use sampler=shuffled"
            )
        if alone:
            self.log_once(
                logging.INFO,
                f"sampler=scene_aware: {alone} of {len(keys)} moments have no neighbour and get any other moment",
            )

    def draws(self, moments: int) -> int:
        """Return half of the moments; the other half of the rows are neighbours."""
        return moments // 2

    def arrange(
        self, order: Int64[Tensor, " draws"], n_batches: int, epoch: int, seed: int
    ) -> Int64[Tensor, "batches rows"]:
        """Return batches of pairs: a moment, its neighbour, a moment, its neighbour, …"""
        generator = seeded(seed, epoch, 3)
        moment = order[: n_batches * self._rows // 2].view(n_batches, self._rows // 2)
        neighbour = self._neighbours(moment.flatten(), generator).view_as(moment)
        again = torch.arange(n_batches)
        for _ in range(_DRAWS):
            row, column = _repeated(moment[again], neighbour[again]).nonzero(as_tuple=True)
            batch = again[row]
            neighbour[batch, column] = self._neighbours(moment[batch, column], generator)
            again = batch.unique()
        return torch.stack([moment, neighbour], dim=2).view(n_batches, self._rows)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings."""
        return {"sampler": "scene_aware", "within_s": self.within_s}

    def _neighbours(self, moment: Int64[Tensor, " draws"], generator: torch.Generator) -> Int64[Tensor, " draws"]:
        chance = torch.rand(len(moment), generator=generator, dtype=torch.float64)
        others = self._others[moment]
        step = (chance * others).long().clamp(max=(others - 1).clamp(min=0))
        rank = self._first[moment] + step
        rank += rank >= self._rank[moment]  # skip the moment itself
        neighbour = self._by_time[rank.clamp(max=len(self._by_time) - 1)]
        return torch.where(others > 0, neighbour, self._any_other(moment, chance))

    def _any_other(self, moment: Int64[Tensor, " draws"], chance: Tensor) -> Int64[Tensor, " draws"]:
        source = torch.bucketize(moment, self._source_end, right=True)
        size = self._source_size[source]
        start = self._source_end[source] - size
        step = (chance * (size - 1)).long().clamp(max=(size - 2).clamp(min=0)) + 1
        return start + (moment - start + step) % size


def _repeated(
    moment: Int64[Tensor, "batches half"], neighbour: Int64[Tensor, "batches half"]
) -> Bool[Tensor, "batches half"]:
    """Mask of neighbours that are already in their batch: as a moment, or as the neighbour of an earlier one."""
    found, column = torch.cat([moment, neighbour], dim=1).sort(dim=1, stable=True)
    same_as_before = torch.nn.functional.pad(found[:, 1:] == found[:, :-1], (1, 0))
    return torch.zeros_like(same_as_before).scatter_(1, column, same_as_before)[:, moment.shape[1] :]
