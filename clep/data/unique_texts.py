"""Batches of distinct texts."""

import logging
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from clep.data.sampler import MomentKeys, SamplingStrategy, seeded
from clep.errors import InputError


class UniqueTexts(SamplingStrategy):
    """No text occurs twice in a joined batch, so no negative is a false negative by an equal text.

    An epoch has as many complete batches as possible: the largest `n` with `sum(min(count, n)) >= n * rows`, where
    `count` is the number of moments of each text. Surplus moments, of texts with more than `n` moments or at the end,
    are dropped from the epoch, at random and differently in each epoch. With weighted sources the number of batches is
    that of the first epoch; if the draws of an epoch allow fewer, they are used a second time for the rest.

    Examples:
        >>> import torch
        >>> from clep.data import MomentBatchSampler, MomentKeys, UniqueTexts
        >>> text = torch.tensor([0, 0, 1, 2, 2, 3])
        >>> keys = MomentKeys(text, torch.zeros(6, dtype=torch.int64), torch.arange(6).double(), sizes=[6])
        >>> strategy = UniqueTexts()
        >>> strategy.open(keys, rows=3, rank_rows=3)
        >>> [sorted(text[draw.moments].tolist()) for draw in MomentBatchSampler([6], 3, strategy=strategy)]
        [[0, 1, 2], [0, 2, 3]]
    """

    def open(self, keys: MomentKeys, rows: int, rank_rows: int) -> None:
        """Keep the text ids.

        Raises:
            InputError: there are fewer distinct texts than rows of a batch.
        """
        self._text, self._rows, self._ranks = keys.text, rows, rows // rank_rows
        self._check(keys.text)

    def n_batches(self, order: Int64[Tensor, " draws"], moments: int, rows: int) -> int:
        """Return the largest number of batches of distinct texts that `order` allows."""
        n = most_batches(torch.unique(self._text[order], return_counts=True)[1], rows)
        if n == 0:
            self._check(self._text[order])
        left_out = len(order) - n * rows
        if left_out:
            self.log_once(
                logging.INFO,
                f"sampler=unique_texts: {n} batches an epoch; {left_out} of {len(order)} moments "
                f"({100 * left_out / len(order):.1f} %) are dropped from each, different ones in each epoch",
            )
        return n

    def arrange(
        self, order: Int64[Tensor, " draws"], n_batches: int, epoch: int, seed: int
    ) -> Int64[Tensor, "batches rows"]:
        """Return batches of distinct texts."""
        generator, tables, made = seeded(seed, epoch, 3), [], 0
        while made < n_batches:
            tables.append(self._batches(order, generator)[: n_batches - made])
            made += len(tables[-1])
            order = order[torch.randperm(len(order), generator=generator)]
        return torch.cat(tables)

    def to_dict(self) -> dict[str, Any]:
        """Return the sampler's name; it has no settings."""
        return {"sampler": "unique_texts"}

    def _batches(self, order: Int64[Tensor, " draws"], generator: torch.Generator) -> Int64[Tensor, "batches rows"]:
        text, by_text = torch.sort(self._text[order], stable=True)
        _, number, counts = torch.unique_consecutive(text, return_inverse=True, return_counts=True)
        n = most_batches(counts, self._rows)
        if n == 0:
            self._check(text)
        nth = torch.arange(len(text)) - (counts.cumsum(0) - counts)[number]  # occurrence of its text, from 0
        kept = by_text[nth < n].sort().values[: n * self._rows]  # the first ones of a random order
        # Moments of one text, at most n, are adjacent, so dealing them to n batches in turn gives each batch one.
        rank = torch.randperm(len(counts), generator=generator)[number]
        rank_in_order = torch.empty(len(order), dtype=torch.int64).scatter_(0, by_text, rank)
        dealt = kept[rank_in_order[kept].argsort(stable=True)]
        table = order[dealt].view(self._rows, n).T
        return table[torch.randperm(n, generator=generator)]

    def _check(self, text: Int64[Tensor, " moments"]) -> None:
        distinct = len(torch.unique(text))
        if distinct < self._rows:
            most = distinct // self._ranks
            smaller = f"data.batch_size={most} or less, or " if most > 1 else ""
            raise InputError(
                f"sampler=unique_texts: a batch of {self._rows} moments (data.batch_size x ranks) needs as many "
                f"different texts, but the training moments have only {distinct}; choose {smaller}sampler=shuffled"
            )


def most_batches(counts: Int64[Tensor, " texts"], rows: int) -> int:
    """Return how many batches of `rows` distinct texts can be made of texts that occur `counts` times.

    `n` batches can use at most `n` moments of a text, and that bound is reached: moments sorted by text and dealt to
    the batches in turn never give a batch the same text twice.
    """
    low, high = 0, int(counts.sum()) // rows
    while low < high:  # bisection: the surplus is concave in n, so all n up to the largest are possible
        middle = (low + high + 1) // 2
        possible = int(counts.clamp(max=middle).sum()) >= middle * rows
        low, high = (middle, high) if possible else (low, middle - 1)
    return low
