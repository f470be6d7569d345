"""Batches in which no text occurs twice."""

import logging
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from clep.data.sampler import MomentKeys, SamplingStrategy, seeded
from clep.errors import InputError


class UniqueTexts(SamplingStrategy):
    """No two moments of a joined batch say the same, so that no negative of the batch is a right answer.

    An epoch has as many whole batches as its moments allow: the largest `n` with `sum(min(count, n)) >= n * rows`,
    where `count` is how often each text occurs. What is over, of a text with more than `n` moments or at the end, is
    left out of this epoch; the choice is random and another one in each epoch. With weighted sources the number of
    batches is that of the first epoch; an epoch whose draws allow fewer makes the others of the same draws once more.
    """

    def open(self, keys: MomentKeys, rows: int, rank_rows: int) -> None:
        """Take the texts, and refuse fewer texts than rows.

        Raises:
            InputError: a batch needs more different texts than there are.
        """
        self._text, self._rows, self._ranks = keys.text, rows, rows // rank_rows
        self._check(keys.text)

    def n_batches(self, order: Int64[Tensor, " draws"], moments: int, rows: int) -> int:
        """Return the largest number of batches, all texts of each different, that `order` allows."""
        n = most_batches(torch.unique(self._text[order], return_counts=True)[1], rows)
        if n == 0:
            self._check(self._text[order])
        left_out = len(order) - n * rows
        if left_out:
            self.tell(
                logging.INFO,
                f"sampler=unique_texts: {n} batches an epoch; {left_out} of {len(order)} moments "
                f"({100 * left_out / len(order):.1f} %) are left out of each, in turn",
            )
        return n

    def arrange(
        self, order: Int64[Tensor, " draws"], n_batches: int, epoch: int, seed: int
    ) -> Int64[Tensor, "batches rows"]:
        """Return batches of different texts."""
        generator, tables, made = seeded(seed, epoch, 3), [], 0
        while made < n_batches:
            tables.append(self._batches(order, generator)[: n_batches - made])
            made += len(tables[-1])
            order = order[torch.randperm(len(order), generator=generator)]
        return torch.cat(tables)

    def to_dict(self) -> dict[str, Any]:
        """Return the name; there are no settings."""
        return {"sampler": "unique_texts"}

    def _batches(self, order: Int64[Tensor, " draws"], generator: torch.Generator) -> Int64[Tensor, "batches rows"]:
        text, by_text = torch.sort(self._text[order], stable=True)
        _, number, counts = torch.unique_consecutive(text, return_inverse=True, return_counts=True)
        n = most_batches(counts, self._rows)
        if n == 0:
            self._check(text)
        nth = torch.arange(len(text)) - (counts.cumsum(0) - counts)[number]  # occurrence of its text, from 0
        kept = by_text[nth < n].sort().values[: n * self._rows]  # the first ones of a random order
        # Moments of one text, n at most, lie side by side, so dealing them out like cards gives each batch one.
        place = torch.randperm(len(counts), generator=generator)[number]
        place_in_order = torch.empty(len(order), dtype=torch.int64).scatter_(0, by_text, place)
        dealt = kept[place_in_order[kept].argsort(stable=True)]
        table = order[dealt].view(self._rows, n).T
        return table[torch.randperm(n, generator=generator)]

    def _check(self, text: Int64[Tensor, " moments"]) -> None:
        different = len(torch.unique(text))
        if different < self._rows:
            most = different // self._ranks
            smaller = f"data.batch_size={most} or less, or " if most > 1 else ""
            raise InputError(
                f"sampler=unique_texts: a batch of {self._rows} moments (data.batch_size x ranks) needs as many "
                f"different texts, but the training moments have only {different}; choose {smaller}sampler=shuffled"
            )


def most_batches(counts: Int64[Tensor, " texts"], rows: int) -> int:
    """Return how many batches of `rows` different texts can be made of texts that occur `counts` times.

    `n` batches take at most `n` moments of a text. That bound is reached: moments sorted by text and dealt out to the
    batches in turn never give one batch the same text twice.
    """
    low, high = 0, int(counts.sum()) // rows
    while low < high:  # what is over is a concave function of n, so the possible n reach from 0 to the largest
        middle = (low + high + 1) // 2
        possible = int(counts.clamp(max=middle).sum()) >= middle * rows
        low, high = (middle, high) if possible else (low, middle - 1)
    return low
