"""Relevancy of texts for videos from their verb and noun classes, as EPIC-KITCHENS-100 defines it."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from clep.losses.positives import Keys, Positives, PositivesRule, check_keys


class RelevancyPositives(PositivesRule):
    """Weights are relevancies of texts for videos, from 0 to 1.

    A relevancy is the mean of the intersection over union of the verb classes and of the noun classes (Damen et al.
    2022, section 4.6, with one verb class each): see `clep.metrics.mir_relevancy`. If `data.relevant_texts` pairs a
    clip with another sentence, the classes of the clip stay those of its annotated sentence.

    Examples:
        >>> import torch
        >>> from clep.losses import RelevancyPositives
        >>> batch = {"verb": torch.tensor([[0], [1]]), "noun": torch.tensor([[5, 6], [5, -1]])}
        >>> rule = RelevancyPositives()
        >>> keys = {**rule.of_batch(batch), "position": torch.arange(2)}
        >>> rule(keys, keys).tolist()  # the verbs differ, one of two nouns is shared
        [[1.0, 0.25], [0.25, 1.0]]
    """

    @property
    def keys(self) -> tuple[str, ...]:
        """`verb` and `noun` of the texts, and `video_verb` and `video_noun` of the clips, padded with -1."""
        return ("verb", "noun", "video_verb", "video_noun")

    @classmethod
    def requires(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a run that this rule needs, by key: verb and noun ids."""
        return {"data.verb_noun": ...}

    @property
    def source(self) -> str:
        """The settings of verbs and nouns."""
        return (
            "set data.verb_noun=given if the narrations have verb and noun ids (EgoClip, EPIC-KITCHENS), or "
            "data.verb_noun=taxonomy; or choose positives=text_id"
        )

    def of_batch(self, batch: dict[str, Any]) -> Keys:
        """Return this rule's keys of a batch; a clip whose text is its own has the classes of the text.

        Raises:
            InputError: the batch has no verbs and nouns; names the setting that adds them.
        """
        own = {f"video_{key}": batch[key] for key in ("verb", "noun") if key in batch}
        return super().of_batch({**own, **batch})

    def __call__(self, video_keys: Keys, text_keys: Keys) -> Positives:
        """Return the relevancy of each text for each video.

        Raises:
            ValueError: a key is missing.
        """
        check_keys(self, video_keys, text_keys)
        verbs = set_overlap(video_keys["video_verb"], text_keys["verb"])
        return (verbs + set_overlap(video_keys["video_noun"], text_keys["noun"])) / 2


def set_overlap(rows: Int[Tensor, "n kn"], columns: Int[Tensor, "m km"]) -> Float[Tensor, "n m"]:
    """Return the intersection over union of sets of ids, all rows against all columns; 0 for two empty sets.

    Args:
        rows, columns: the ids of each set, each once, padded with negative values.
    """
    common = torch.zeros(len(rows), len(columns), device=rows.device)
    for own in rows.unbind(1):
        present = (own[:, None, None] == columns[None]).any(dim=2) & (own >= 0)[:, None]
        common += present
    union = (rows >= 0).sum(1)[:, None] + (columns >= 0).sum(1)[None] - common
    return common / union.clamp(min=1)
