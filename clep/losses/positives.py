"""What every rule of positives has in common."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from clep.errors import InputError
from clep.losses.clip import full_precision

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


class DiagonalPositives(PositivesRule):
    """Count only a moment's own text as right, whatever the other texts say: plain CLIP."""

    @property
    def keys(self) -> tuple[str, ...]:
        """None."""
        return ()

    def __call__(self, video_keys: Keys, text_keys: Keys) -> Positives:
        """Mark each video's own text."""
        check_keys(self, video_keys, text_keys)
        return same_pair(video_keys, text_keys)


class TextIdPositives(PositivesRule):
    """Count equal texts (equal `text_id`) as right for each other's videos; the rule is that of `text_id_positives`."""

    @property
    def keys(self) -> tuple[str, ...]:
        """`text_id` `[b]`."""
        return ("text_id",)

    def __call__(self, video_keys: Keys, text_keys: Keys) -> Positives:
        """Mark every text that is the same sentence as the video's own.

        Raises:
            ValueError: a key is missing.
        """
        check_keys(self, video_keys, text_keys)
        return same_text(video_keys, text_keys)


def same_text(video_keys: Keys, text_keys: Keys) -> Bool[Tensor, "videos texts"]:
    """Mark equal `text_id`s, and each pair's own text by `position`, which is all that an unknown id has."""
    return equal(
        _by_position(video_keys["text_id"], video_keys["position"]),
        _by_position(text_keys["text_id"], text_keys["position"]),
    )


def text_id_positives(
    video_text_id: Int[Tensor, "videos"], text_id: Int[Tensor, "texts"]
) -> Bool[Tensor, "videos texts"]:
    """Mark every text that is the same sentence as the video's own.

    A negative id means "unknown": it equals no other id, and its pair is found by position alone (video i, text i).

    Args:
        video_text_id: the id of each video's own text.
        text_id: the id of each text, on the same device.
    """
    return equal(_by_position(video_text_id, positions(video_text_id)), _by_position(text_id, positions(text_id)))


def _by_position(text_id: Int[Tensor, "n"], position: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
    """Give each unknown id a negative number that only the same position has."""
    return torch.where(text_id < 0, -1 - position, text_id.long())


class TextSimilarityPositives(PositivesRule):
    """Count texts as right whose frozen embeddings have a cosine similarity of at least `threshold` to a video's own.

    With `ClipLoss` this is soft-label CLIP: its targets are these weights, divided so that those of each row sum to 1,
    and those of each column. Ego4D's research code, which the idea is from, thresholds `(1 + cosine) / 2` at 0.95, a
    cosine of 0.9, and leaves its targets undivided, so that moments with many similar texts weigh more than others.

    Args:
        threshold: least cosine similarity, above 0 and up to 1.
        soft: weigh a text by its similarity; else all of them count as much as the own one.
    """

    def __init__(self, threshold: float | int = 0.9, soft: bool = True) -> None:
        if not 0 < threshold <= 1:
            raise InputError(f"positives.threshold={threshold} must be a cosine similarity above 0 and up to 1")
        self.threshold, self.soft = float(threshold), soft

    @property
    def keys(self) -> tuple[str, ...]:
        """`text` `[b, d]`."""
        return ("text",)

    @property
    def source(self) -> str:
        """The frozen text embeddings."""
        return "that is the frozen embedding of each text, see data.sources; or choose positives=text_id"

    def __call__(self, video_keys: Keys, text_keys: Keys) -> Positives:
        """Mark the texts that are similar enough, or give their similarity.

        Raises:
            ValueError: a key is missing, or `text` is not `[b, d]`.
        """
        check_keys(self, video_keys, text_keys)
        for keys in (video_keys, text_keys):
            if keys["text"].ndim != 2:
                raise ValueError(f"text similarity compares embeddings [b, d], not {tuple(keys['text'].shape)}")
        own = same_pair(video_keys, text_keys)
        with full_precision(video_keys["text"], text_keys["text"]) as (rows, columns):
            similarity = F.normalize(rows, dim=-1) @ F.normalize(columns, dim=-1).T
        # A text is as similar to itself as can be, also where rounding, or an embedding of zeros, says otherwise.
        similarity = torch.where(own, 1.0, similarity.clamp(max=1.0))
        # Equal texts at threshold 1, whose product is a rounding below 1, stay right.
        similar = similarity >= self.threshold - 1e-6
        return torch.where(similar, similarity, 0.0) if self.soft else similar


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
            "batches carry verbs and nouns with data.verb_noun=given, where the narrations came with them (EgoClip, "
            "EPIC-KITCHENS), or data.verb_noun=taxonomy; or choose positives=text_id"
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
