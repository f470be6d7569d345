"""Which texts are right for which videos, where that is more than the diagonal."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def text_id_positives(
    video_text_id: Int[Tensor, "videos"], text_id: Int[Tensor, "texts"]
) -> Bool[Tensor, "videos texts"]:
    """Mark every text that is the same sentence as the video's own.

    A negative id means "unknown": it equals no other id, and its pair is found by position alone (video i, text i).

    Args:
        video_text_id: the id of each video's own text.
        text_id: the id of each text, on the same device.
    """
    return _equal(_by_position(video_text_id, _arange(video_text_id)), _by_position(text_id, _arange(text_id)))


def same_text(video_keys: dict[str, Tensor], text_keys: dict[str, Tensor]) -> Bool[Tensor, "videos texts"]:
    """Be the `positives_fn` of `across_ranks` that compares `text_id`; the rule is that of `text_id_positives`.

    Args:
        video_keys: keys of some pairs of the joined batch, whose videos are the rows: `text_id`, and `position`, the
            pair's place in the joined batch.
        text_keys: the same of the pairs whose texts are the columns.

    Raises:
        ValueError: a key is missing.
    """
    for keys in (video_keys, text_keys):
        missing = {"text_id", "position"} - set(keys)
        if missing:
            raise ValueError(f"positives by text need the key(s) {sorted(missing)}; there are {sorted(keys)}")
    return _equal(
        _by_position(video_keys["text_id"], video_keys["position"]),
        _by_position(text_keys["text_id"], text_keys["position"]),
    )


def _by_position(text_id: Int[Tensor, "n"], position: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
    """Give each unknown id a negative number that only the same position has."""
    return torch.where(text_id < 0, -1 - position, text_id.long())


def _equal(rows: Int[Tensor, "n"], columns: Int[Tensor, "m"]) -> Bool[Tensor, "n m"]:
    return rows[:, None] == columns[None, :]


def _arange(like: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
    return torch.arange(len(like), device=like.device)
