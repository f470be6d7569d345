"""What every rule of positives has in common."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from clep.errors import InputError

Positives = Bool[Tensor, "videos texts"] | Float[Tensor, "videos texts"]
Keys = dict[str, Tensor]


class PositivesRule(ABC):
    """Tell which texts are right for which videos, from keys of the pairs of a batch.

    A rule is called with the keys of the pairs whose videos are the rows and of those whose texts are the columns.
    These may be any parts of a batch that ranks share, so row i need not belong to column i: `position`, a pair's place
    in the joined batch, tells what does, and `across_ranks` adds it. A pair's own text is always right.

    A rule whose `keys` are empty compares positions alone; a loss does without its matrix.
    """

    @property
    @abstractmethod
    def keys(self) -> tuple[str, ...]:
        """What it compares besides `position`: keys of a batch, each `[b, ...]`, of one shape on all ranks."""

    @property
    def source(self) -> str:
        """Which setting puts the keys into a batch, for the message where they are missing."""
        return "the data of this run do not give it; choose other positives (positives=diagonal needs none)"

    @abstractmethod
    def __call__(self, video_keys: Keys, text_keys: Keys) -> Positives:
        """Return the matrix, or the weights of its entries, between 0 and 1; the keys are on one device.

        Raises:
            ValueError: a key is missing.
        """

    def of_batch(self, batch: dict[str, Any]) -> Keys:
        """Take the keys out of a batch.

        Raises:
            InputError: the batch lacks one; the message names it and the setting that adds it.
        """
        missing = [key for key in self.keys if key not in batch]
        if missing:
            raise InputError(
                f"positives: {type(self).__name__} compares {' and '.join(map(repr, missing))}, which the batch lacks "
                f"(it has {', '.join(sorted(batch))}): {self.source}"
            )
        return {key: batch[key] for key in self.keys}


def check_keys(rule: PositivesRule, *sides: Keys) -> None:
    """Refuse keys that a rule cannot compare.

    Raises:
        ValueError: a key is missing; the message names it.
    """
    for keys in sides:
        missing = {*rule.keys, "position"} - set(keys)
        if missing:
            raise ValueError(f"{type(rule).__name__} needs the key(s) {sorted(missing)}; there are {sorted(keys)}")


def equal(rows: Int[Tensor, "n"], columns: Int[Tensor, "m"]) -> Bool[Tensor, "n m"]:
    """Compare each with each."""
    return rows[:, None] == columns[None, :]


def same_pair(video_keys: Keys, text_keys: Keys) -> Bool[Tensor, "videos texts"]:
    """Mark each video's own text."""
    return equal(video_keys["position"], text_keys["position"])


def positions(like: Tensor) -> Int[Tensor, "n"]:
    """Number the entries of a tensor, on its device."""
    return torch.arange(len(like), device=like.device)
