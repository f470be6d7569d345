"""Pair clips with other sentences that are relevant for them, by verb and noun classes."""

import torch
from jaxtyping import Bool, Float, Int64, Integer
from torch import Tensor

from clep.errors import InputError


class RelevantTexts:
    """Draws a random text whose relevancy for a moment's own text exceeds a threshold.

    EgoVLP, LaViLa and AVION train so on EPIC-KITCHENS-100's multi-instance retrieval, with a threshold of 0.1; a new
    sentence is drawn in each step. The relevancy is that of `clep.losses.RelevancyPositives`.

    Args:
        verb, noun: ids of each text, padded with -1.
        candidates: texts that may be drawn, those of the training moments.
        threshold: minimum relevancy, exclusive.

    Raises:
        InputError: the threshold is not at least 0 and below 1.
    """

    def __init__(
        self,
        verb: Integer[Tensor, "texts kv"],
        noun: Integer[Tensor, "texts kn"],
        candidates: Bool[Tensor, " texts"],
        threshold: float | int = 0.1,
    ) -> None:
        if not 0 <= threshold < 1:
            raise InputError(f"data.relevant_texts={threshold} must be at least 0 and below 1, or null")
        self.verb, self.noun = _members(verb), _members(noun)
        self.candidates, self.threshold = candidates, float(threshold)

    def draw(self, text_id: Int64[Tensor, " batch"], seed: int) -> Int64[Tensor, " batch"]:
        """Return a text for each moment; its paired text if no other is relevant enough.

        Args:
            text_id: the paired texts.
            seed: seed of the draw.
        """
        relevancy = (_overlap(self.verb[text_id], self.verb) + _overlap(self.noun[text_id], self.noun)) / 2
        weight = ((relevancy > self.threshold) & self.candidates).float()
        weight[torch.arange(len(text_id)), text_id] = 1.0
        generator = torch.Generator().manual_seed(seed)
        return torch.multinomial(weight, 1, generator=generator).squeeze(1)


def _members(sets: Integer[Tensor, "texts k"]) -> Float[Tensor, "texts ids"]:
    """Return one row per set, 1 where it has the id of the column."""
    size = 1 + max(0, int(sets.max()) if sets.numel() else 0)
    found = torch.zeros(len(sets), size + 1, device=sets.device)
    found.scatter_(1, torch.where(sets < 0, size, sets).long(), 1.0)
    return found[:, :size].contiguous()


def _overlap(rows: Float[Tensor, "n ids"], columns: Float[Tensor, "m ids"]) -> Float[Tensor, "n m"]:
    """Return the intersection over union of sets; 0 for two empty ones."""
    common = rows @ columns.T
    return common / (rows.sum(1)[:, None] + columns.sum(1)[None] - common).clamp(min=1)
