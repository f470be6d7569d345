"""Batches in which each moment stands beside another one of the same scene."""

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
    """Each moment of a batch comes with a neighbour in time, whose video and text are hard negatives (EgoVLP).

    A batch of `b` rows holds `b/2` moments drawn as usual and, after each of them, one drawn uniformly from the other
    moments of its video whose middle is at most `within_s` seconds away (Lin et al. 2022, section 3.2). Neighbours are
    rows like any others: contrasted with the whole batch and themselves learned from. One that is in the batch already
    is drawn again, since a moment beside itself would be its own negative; where a scene has no others left, it stays.
    An epoch keeps its number of rows, so two epochs draw each moment once, and it is somebody's neighbour about as
    often. A moment without a neighbour, as an image is, stands beside any other moment of its source.

    Args:
        within_s: the paper's minute.

    Raises:
        InputError: `within_s` is not positive.
    """

    def __init__(self, within_s: float | int = 60.0) -> None:
        super().__init__()
        if within_s <= 0:
            raise InputError(f"data.sampler.within_s={within_s} must be positive (seconds)")
        self.within_s = float(within_s)

    def open(self, keys: MomentKeys, rows: int, rank_rows: int) -> None:
        """Find where the neighbours of each moment lie, once for all.

        Raises:
            InputError: an odd batch, or no moment has a neighbour.
        """
        if rank_rows % 2:
            raise InputError(
                f"sampler=scene_aware fills half of a batch with neighbours, so data.batch_size={rank_rows} must be "
                f"even"
            )
        video, second = keys.video.numpy(), keys.second.numpy()
        by_time = np.lexsort((second, video))
        # One axis for all videos, each further from the next than any neighbour is.
        length = float(second.max() - second.min()) + 2 * self.within_s + 1.0
        axis = video[by_time] * length + (second[by_time] - second.min())
        place = np.empty(len(by_time), dtype=np.int64)
        place[by_time] = np.arange(len(by_time))
        first = np.searchsorted(axis, axis - self.within_s, side="left")[place]
        last = np.searchsorted(axis, axis + self.within_s, side="right")[place]
        self._by_time, self._place = torch.from_numpy(by_time), torch.from_numpy(place)
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
            self.tell(
                logging.INFO,
                f"sampler=scene_aware: {alone} of {len(keys)} moments have no neighbour and stand beside any",
            )

    def draws(self, moments: int) -> int:
        """Return half of the rows; the others are neighbours."""
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
            row, place = _repeated(moment[again], neighbour[again]).nonzero(as_tuple=True)
            batch = again[row]
            neighbour[batch, place] = self._neighbours(moment[batch, place], generator)
            again = batch.unique()
        return torch.stack([moment, neighbour], dim=2).view(n_batches, self._rows)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings."""
        return {"sampler": "scene_aware", "within_s": self.within_s}

    def _neighbours(self, moment: Int64[Tensor, " draws"], generator: torch.Generator) -> Int64[Tensor, " draws"]:
        chance = torch.rand(len(moment), generator=generator, dtype=torch.float64)
        others = self._others[moment]
        step = (chance * others).long().clamp(max=(others - 1).clamp(min=0))
        place = self._first[moment] + step
        place += place >= self._place[moment]  # past the moment itself
        neighbour = self._by_time[place.clamp(max=len(self._by_time) - 1)]
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
    """Mark the neighbours that are in their batch already: as a moment, or as the neighbour of an earlier one."""
    found, place = torch.cat([moment, neighbour], dim=1).sort(dim=1, stable=True)
    same_as_before = torch.nn.functional.pad(found[:, 1:] == found[:, :-1], (1, 0))
    return torch.zeros_like(same_as_before).scatter_(1, place, same_as_before)[:, moment.shape[1] :]
