"""Equal sentences are right for each other's videos."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from clep.losses.positives.rule import Keys, Positives, PositivesRule, check_keys, equal, positions


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
