"""Filter of the training narrations: splits, withdrawn videos, short texts, duplicates of two annotation passes."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Int64

from clep.errors import InputError
from clep.text.narration_table import NarrationTable
from clep.text.narrations import Narrations


def training_moments(
    narrations: NarrationTable | Narrations,
    exclude_splits: Sequence[str] = ("val", "test", "multi"),
    min_words: int = 2,
    duplicate_s: float | int | None = 1.0,
    keep_redacted: bool = False,
) -> tuple[Int64[np.ndarray, "kept"], dict[str, int]]:
    """Select the narrations to train on, from all annotation passes.

    A dropped narration is counted under the first reason that applies, in this order:

    - `split`: `split_em`, `split_fho` or `split_av` of its video is in `exclude_splits`;
    - `redacted`: its video was withdrawn (unless `keep_redacted`);
    - `short`: fewer than `min_words` words without tags;
    - `duplicate`: a narration kept from a lower-numbered pass has the same cleaned text in the same video, at most
      `duplicate_s` seconds away. `duplicate_s=None` keeps duplicates.

    Returns:
        Ascending indices of the kept narrations, and counts: `narrations` (all), the four reasons, `kept`.

    Raises:
        InputError: `min_words` or `duplicate_s` is negative.
    """
    if min_words < 0 or (duplicate_s is not None and not duplicate_s >= 0):
        raise InputError(f"min_words={min_words} and duplicate_s={duplicate_s} must be 0 or more")
    held_out = np.zeros(len(narrations.videos), dtype=bool)
    for split in narrations.splits.values():
        held_out |= np.isin(split, list(exclude_splits))
    report = {"narrations": len(narrations)}
    video = np.asarray(narrations.video)
    left = np.ones(len(narrations), dtype=bool)

    def leave_out(reason: str, which: Bool[np.ndarray, "narrations"]) -> None:
        report[reason] = int(np.count_nonzero(left & which))
        np.logical_and(left, ~which, out=left)

    leave_out("split", held_out[video])
    redacted = narrations.redacted & (not keep_redacted)
    leave_out("redacted", redacted[video])
    leave_out("short", np.asarray(narrations.words) < min_words)
    index = np.flatnonzero(left)
    report["duplicate"] = 0
    if duplicate_s is not None:
        again = _cross_pass_duplicates(narrations, index, duplicate_s)
        report["duplicate"] = int(np.count_nonzero(again))
        index = index[~again]
    report["kept"] = len(index)
    return index, report


def _cross_pass_duplicates(
    narrations: NarrationTable | Narrations, index: Int64[np.ndarray, "chosen"], within_s: float | int
) -> Bool[np.ndarray, "chosen"]:
    """Mask of the narrations at `index` that repeat one of a lower pass: same video, same text, close in time."""
    n_texts = max(1, len(narrations.texts))
    group = narrations.video[index].astype(np.int64) * n_texts + narrations.text_id[index]
    passes = narrations.passes[index]
    candidates = np.flatnonzero(_in_several_passes(group, passes))  # a tenth of Ego4D's size: quicker to sort
    result = np.zeros(len(index), dtype=bool)
    result[candidates] = _repeats(
        group[candidates], np.asarray(narrations.second[index[candidates]]), passes[candidates], within_s
    )
    return result


def _in_several_passes(
    group: Int64[np.ndarray, "narrations"], passes: Int[np.ndarray, "narrations"]
) -> Bool[np.ndarray, "narrations"]:
    """Mask of the narrations whose group has narrations of more than one pass."""
    order = np.argsort(group, kind="stable")
    first = np.flatnonzero(np.diff(group[order], prepend=-1))
    in_order = passes[order]
    several = np.minimum.reduceat(in_order, first) < np.maximum.reduceat(in_order, first) if len(first) else first > 0
    result = np.empty(len(group), dtype=bool)
    result[order] = np.repeat(several, np.diff(first, append=len(group)))
    return result


def _repeats(
    group: Int64[np.ndarray, "narrations"],
    second: Float[np.ndarray, "narrations"],
    passes: Int[np.ndarray, "narrations"],
    within_s: float | int,
) -> Bool[np.ndarray, "narrations"]:
    """Mask of the narrations that repeat one of a lower pass in their group, at most `within_s` seconds away."""
    order = np.lexsort((second, group))
    group, second, passes = group[order], second[order], passes[order]
    position = np.arange(len(order))
    duplicate = np.zeros(len(order), dtype=bool)
    for number in np.unique(passes)[1:]:
        reference = (passes < number) & ~duplicate
        # Nearest reference row at or before, and at or after, each row; -1 and len(order) if there is none.
        before = np.maximum.accumulate(np.where(reference, position, -1))
        after = np.minimum.accumulate(np.where(reference, position, len(order))[::-1])[::-1]
        near = np.zeros(len(order), dtype=bool)
        for neighbour, exists in ((before, before >= 0), (after, after < len(order))):
            at = np.where(exists, neighbour, 0)
            near |= exists & (group[at] == group) & (np.abs(second[at] - second) <= within_s)
        duplicate |= near & (passes == number)
    result = np.empty(len(order), dtype=bool)
    result[order] = duplicate
    return result
