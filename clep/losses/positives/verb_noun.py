"""Texts that tell the same action are right for each other's videos."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from clep.errors import InputError
from clep.losses.positives.rule import Keys, Positives, PositivesRule, check_keys
from clep.losses.positives.text_id import same_text

KEYS = {"both": ("verb", "noun"), "verb": ("verb",), "noun": ("noun",)}


class VerbNounPositives(PositivesRule):
    """Count texts as right that share a verb *and* a noun with a video's own: EgoVLP's action-aware positives.

    Verbs and nouns are numbers of groups of words that mean the same ("put", "place"), several a text where it has
    several. Equal texts are right too, whatever groups they have: a text without a verb or a noun would otherwise be
    wrong for a video that is told in the same words. Lin et al. 2022, "Egocentric Video-Language Pretraining"
    (EgoVLP), which leaves the latter out.

    Args:
        share: "both", a verb and a noun; or "verb" or "noun" alone, as in EgoVLP's ablation.
    """

    def __init__(self, share: str = "both") -> None:
        if share not in KEYS:
            raise InputError(f"positives.share={share!r}; choose {', '.join(KEYS)}")
        self.share = share

    @property
    def keys(self) -> tuple[str, ...]:
        """`verb` `[b, kv]` and `noun` `[b, kn]`, groups padded with -1, as wide in all batches; `text_id` `[b]`."""
        return (*KEYS[self.share], "text_id")

    @property
    def source(self) -> str:
        """Where verbs and nouns come from."""
        return (
            "batches carry verbs and nouns with data.tags=given, where the narrations came with them (EgoClip, "
            "EPIC-KITCHENS), or data.tags=taxonomy; or choose positives=text_id"
        )

    def __call__(self, video_keys: Keys, text_keys: Keys) -> Positives:
        """Mark the texts that tell the same action, or tell it in the same words.

        Raises:
            ValueError: a key is missing, or not `[b, k]`.
        """
        check_keys(self, video_keys, text_keys)
        same = None
        for key in KEYS[self.share]:
            for side in (video_keys[key], text_keys[key]):
                if side.ndim != 2:
                    raise ValueError(f"{key!r} must be [b, k], numbers of a text's groups, not {tuple(side.shape)}")
            share = _share(video_keys[key], text_keys[key])
            same = share if same is None else same & share
        own = same_text(video_keys, text_keys)
        return own if same is None else same | own


def _share(rows: Int[Tensor, "n kn"], columns: Int[Tensor, "m km"]) -> Bool[Tensor, "n m"]:
    """Tell whose sets of numbers meet; -1 is in no set.

    A pair of columns at a time, since all at once would take n x m x kn x km bytes.
    """
    found = torch.zeros(len(rows), len(columns), dtype=torch.bool, device=rows.device)
    rows = torch.where(rows < 0, -1, rows)
    columns = torch.where(columns < 0, -2, columns)
    for own in rows.unbind(1):
        for other in columns.unbind(1):
            found |= own[:, None] == other[None, :]
    return found
