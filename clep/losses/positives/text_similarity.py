"""Texts that mean nearly the same are right for each other's videos."""

import torch
from torch.nn import functional as F

from clep.errors import InputError
from clep.losses.positives.rule import Keys, Positives, PositivesRule, check_keys, same_pair
from clep.losses.precision import full_precision


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
