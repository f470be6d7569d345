"""Rules for positives: which texts of a batch are positives of which videos."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from clep.config.requirements import Need
from clep.errors import InputError
from clep.losses.clip import full_precision

Positives = Bool[Tensor, "videos texts"] | Float[Tensor, "videos texts"]
Keys = dict[str, Tensor]


class PositivesRule(ABC):
    """Base class: which texts are positives of which videos, from keys of the pairs of a batch.

    A rule is called with the keys of the pairs of the rows (videos) and of the columns (texts). Both may be parts of a
    batch that is spread over ranks, so row i need not belong to column i: `across_ranks` adds the key `position`, the
    index of a pair in the joined batch. The paired text is always a positive.

    A rule without `keys` compares positions only; losses then need no matrix.

    Examples:
        >>> import torch
        >>> from clep.losses import PositivesRule
        >>> class SameVideo(PositivesRule):
        ...     keys = ("clip_id",)
        ...     source = "a DataModule that adds clip_id"
        ...
        ...     def __call__(self, video_keys, text_keys):
        ...         return video_keys["clip_id"][:, None] == text_keys["clip_id"][None]
        >>> keys = {"clip_id": torch.tensor([0, 0, 1])}
        >>> SameVideo()(keys, keys).int().tolist()
        [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    """

    @property
    @abstractmethod
    def keys(self) -> tuple[str, ...]:
        """Keys of a batch that the rule compares, besides `position`; each `[b, ...]`, of equal shape on all ranks."""

    @property
    def source(self) -> str:
        """Remedy for missing keys, for the error message: the setting that adds them to a batch."""
        return "the data of this run does not provide it; choose other positives (positives=diagonal needs no keys)"

    @abstractmethod
    def __call__(self, video_keys: Keys, text_keys: Keys) -> Positives:
        """Return the mask of positives, or their weights between 0 and 1.

        Args:
            video_keys: keys of the pairs whose videos are the rows.
            text_keys: keys of the pairs whose texts are the columns, on the same device.

        Raises:
            ValueError: a key is missing.
        """

    @classmethod
    def requires(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a run that this rule needs, by key: values or `clep.config.requirements.Need`s."""
        return {}

    def of_batch(self, batch: dict[str, Any]) -> Keys:
        """Return this rule's keys of a batch.

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
    """Check that all keys of a rule are present.

    Raises:
        ValueError: keys are missing; the message names them.
    """
    for keys in sides:
        missing = {*rule.keys, "position"} - set(keys)
        if missing:
            raise ValueError(f"{type(rule).__name__} needs the key(s) {sorted(missing)}, but got {sorted(keys)}")


def equal(rows: Int[Tensor, "n"], columns: Int[Tensor, "m"]) -> Bool[Tensor, "n m"]:
    """Mask of equal entries, all rows against all columns."""
    return rows[:, None] == columns[None, :]


def same_pair(video_keys: Keys, text_keys: Keys) -> Bool[Tensor, "videos texts"]:
    """Mask of the paired texts."""
    return equal(video_keys["position"], text_keys["position"])


def positions(like: Tensor) -> Int[Tensor, "n"]:
    """Return `0 … len - 1` on the tensor's device."""
    return torch.arange(len(like), device=like.device)


class DiagonalPositives(PositivesRule):
    """Only the paired text is a positive, even if other texts are equal to it (CLIP).

    Examples:
        >>> import torch
        >>> from clep.losses import DiagonalPositives
        >>> keys = {"position": torch.arange(2)}
        >>> DiagonalPositives()(keys, keys).int().tolist()
        [[1, 0], [0, 1]]
    """

    @property
    def keys(self) -> tuple[str, ...]:
        """No keys."""
        return ()

    def __call__(self, video_keys: Keys, text_keys: Keys) -> Positives:
        """Return the mask of the paired texts."""
        check_keys(self, video_keys, text_keys)
        return same_pair(video_keys, text_keys)


class TextIdPositives(PositivesRule):
    """Equal texts (equal `text_id`) are positives of each other's videos, see `text_id_positives`.

    Examples:
        >>> import torch
        >>> from clep.losses import TextIdPositives
        >>> keys = {"text_id": torch.tensor([4, 9, 4]), "position": torch.arange(3)}
        >>> TextIdPositives()(keys, keys).int().tolist()
        [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
    """

    @property
    def keys(self) -> tuple[str, ...]:
        """`text_id` `[b]`."""
        return ("text_id",)

    def __call__(self, video_keys: Keys, text_keys: Keys) -> Positives:
        """Return the mask of texts that are the same sentence as the paired text.

        Raises:
            ValueError: a key is missing.
        """
        check_keys(self, video_keys, text_keys)
        return same_text(video_keys, text_keys)


def same_text(video_keys: Keys, text_keys: Keys) -> Bool[Tensor, "videos texts"]:
    """Mask of equal `text_id`s; the paired text of an unknown id (-1) is found by `position`."""
    return equal(
        _by_position(video_keys["text_id"], video_keys["position"]),
        _by_position(text_keys["text_id"], text_keys["position"]),
    )


def text_id_positives(
    video_text_id: Int[Tensor, "videos"], text_id: Int[Tensor, "texts"]
) -> Bool[Tensor, "videos texts"]:
    """Return the mask of texts that are the same sentence as the paired text.

    A negative id means "unknown": it equals no other id, and only text i is a positive of video i.

    Args:
        video_text_id: id of each video's paired text.
        text_id: id of each text, on the same device.
    """
    return equal(_by_position(video_text_id, positions(video_text_id)), _by_position(text_id, positions(text_id)))


def _by_position(text_id: Int[Tensor, "n"], position: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
    """Replace unknown ids by negative ids that are unique to their position."""
    return torch.where(text_id < 0, -1 - position, text_id.long())


class TextSimilarityPositives(PositivesRule):
    """Texts whose frozen embeddings have a cosine similarity of at least `threshold` to the paired text are positives.

    With `ClipLoss` this is soft-label CLIP: the targets are these weights, normalised to sum to 1 in each row, and in
    each column. Ego4D's research code, the source of the idea, thresholds `(1 + cosine) / 2` at 0.95, a cosine of 0.9,
    and does not normalise, so moments with many similar texts have a larger weight.

    Args:
        threshold: minimum cosine similarity, above 0 and at most 1.
        soft: weight a text by its similarity; False gives all positives the weight of the paired text.

    Raises:
        InputError: `threshold` is out of range.

    Examples:
        >>> import torch
        >>> from clep.losses import TextSimilarityPositives
        >>> keys = {"text": torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]), "position": torch.arange(3)}
        >>> weights = TextSimilarityPositives(threshold=0.7)(keys, keys)
        >>> [[round(weight, 2) for weight in row] for row in weights.tolist()]
        [[1.0, 0.8, 0.0], [0.8, 1.0, 0.0], [0.0, 0.0, 1.0]]
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
        """The setting of the frozen text embeddings."""
        return "it is the frozen embedding of each text, see data.sources; or choose positives=text_id"

    def __call__(self, video_keys: Keys, text_keys: Keys) -> Positives:
        """Return the mask of texts above the threshold, or their similarities.

        Raises:
            ValueError: a key is missing, or `text` is not `[b, d]`.
        """
        check_keys(self, video_keys, text_keys)
        for keys in (video_keys, text_keys):
            if keys["text"].ndim != 2:
                raise ValueError(f"text similarity compares embeddings [b, d], not {tuple(keys['text'].shape)}")
        paired = same_pair(video_keys, text_keys)
        with full_precision(video_keys["text"], text_keys["text"]) as (rows, columns):
            similarity = F.normalize(rows, dim=-1) @ F.normalize(columns, dim=-1).T
        # The paired text has similarity 1, also after rounding, or with an embedding of zeros.
        similarity = torch.where(paired, 1.0, similarity.clamp(max=1.0))
        # At threshold 1, equal texts stay positives although rounding makes their product smaller than 1.
        similar = similarity >= self.threshold - 1e-6
        return torch.where(similar, similarity, 0.0) if self.soft else similar


KEYS = {"both": ("verb", "noun"), "verb": ("verb",), "noun": ("noun",)}
_VERB_NOUN_REMEDY = (
    "set data.verb_noun=given if the narrations have verb and noun ids (EgoClip, EPIC-KITCHENS), or "
    "data.verb_noun=taxonomy; or choose positives=text_id"
)


class VerbNounPositives(PositivesRule):
    """Texts that share a verb *and* a noun with the paired text are positives: EgoVLP's action-aware positives.

    Verbs and nouns are ids of groups of synonyms ("put", "place"), any number per text. Equal texts are positives too,
    whatever their groups: otherwise a text without a verb or noun would be a negative of a video with the same text.
    Lin et al. 2022, "Egocentric Video-Language Pretraining" (EgoVLP), does not have that second rule.

    Args:
        share: "both" a verb and a noun; or "verb" or "noun" alone, as in EgoVLP's ablation.

    Raises:
        InputError: another `share`.

    Examples:
        >>> import torch
        >>> from clep.losses import VerbNounPositives
        >>> keys = {
        ...     "verb": torch.tensor([[0, -1], [0, 2], [1, -1]]),  # padded with -1
        ...     "noun": torch.tensor([[5], [5], [5]]),
        ...     "text_id": torch.arange(3),
        ...     "position": torch.arange(3),
        ... }
        >>> VerbNounPositives()(keys, keys).int().tolist()
        [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    """

    def __init__(self, share: str = "both") -> None:
        if share not in KEYS:
            raise InputError(f"positives.share={share!r}; choose {', '.join(KEYS)}")
        self.share = share

    @property
    def keys(self) -> tuple[str, ...]:
        """`verb` `[b, kv]` and `noun` `[b, kn]`, group ids padded with -1 to a fixed width; `text_id` `[b]`."""
        return (*KEYS[self.share], "text_id")

    @classmethod
    def requires(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a run that this rule needs, by key: verb and noun ids."""
        return {"data.verb_noun": Need(..., "it compares verb and noun", _VERB_NOUN_REMEDY)}

    @property
    def source(self) -> str:
        """The settings of verbs and nouns."""
        return _VERB_NOUN_REMEDY

    def __call__(self, video_keys: Keys, text_keys: Keys) -> Positives:
        """Return the mask of texts of the same action, and of equal texts.

        Raises:
            ValueError: a key is missing, or not `[b, k]`.
        """
        check_keys(self, video_keys, text_keys)
        same = None
        for key in KEYS[self.share]:
            for side in (video_keys[key], text_keys[key]):
                if side.ndim != 2:
                    raise ValueError(f"{key!r} must be [b, k], the group ids of each text, not {tuple(side.shape)}")
            share = _share(video_keys[key], text_keys[key])
            same = share if same is None else same & share
        own = same_text(video_keys, text_keys)
        return own if same is None else same | own


def _share(rows: Int[Tensor, "n kn"], columns: Int[Tensor, "m km"]) -> Bool[Tensor, "n m"]:
    """Mask of pairs that share an id; -1 is padding.

    One pair of columns at a time, since all at once would take n x m x kn x km bytes.
    """
    found = torch.zeros(len(rows), len(columns), dtype=torch.bool, device=rows.device)
    rows = torch.where(rows < 0, -1, rows)
    columns = torch.where(columns < 0, -2, columns)
    for own in rows.unbind(1):
        for other in columns.unbind(1):
            found |= own[:, None] == other[None, :]
    return found
