"""Moments as arrays: (video, span of seconds, text), no Python object for each."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from clep.bank import FeatureBank
from clep.errors import InputError


@dataclass(frozen=True)
class Moments:
    """Training or evaluation examples as parallel arrays.

    Attributes:
        video: index into the videos of a feature bank, -1 for a video it lacks.
        start_s, end_s: the span in seconds from the start of the video.
        text_id: index into the distinct texts.
    """

    video: Int64[np.ndarray, " moments"]
    start_s: Float64[np.ndarray, " moments"]
    end_s: Float64[np.ndarray, " moments"]
    text_id: Int64[np.ndarray, " moments"]

    def __len__(self) -> int:
        return len(self.video)

    def select(self, which: Int64[np.ndarray, " chosen"] | Bool[np.ndarray, " moments"]) -> "Moments":
        """Return the moments at these indices, or where this mask is true."""
        return Moments(self.video[which], self.start_s[which], self.end_s[which], self.text_id[which])


def drop_missing(moments: Moments, bank: FeatureBank, on_missing: str, what: str) -> tuple[Moments, dict[str, int]]:
    """Return the moments that `bank` has rows for, and how many lacked their video or began after its end.

    A moment that starts more than a row after the end of its video has no rows of its own; clamping would silently
    pair its text with the video's last second.

    Args:
        moments: of any order.
        bank: with a clock.
        on_missing: "error" refuses such moments, "skip" leaves them out.
        what: where the moments come from, for the message.

    Raises:
        InputError: some are missing and `on_missing` is "error", or none is left.
    """
    if bank.clock is None:
        raise InputError(f"{bank.path} has no clock, so seconds cannot be found in it; is it a bank of texts?")
    absent = moments.video < 0
    end_s = bank.end_s.cpu().numpy()[np.where(absent, 0, moments.video)]
    late = ~absent & (moments.start_s > end_s + bank.clock.row_seconds)
    report = {"video not in the bank": int(absent.sum()), "starts after the end of its video": int(late.sum())}
    if on_missing == "error" and (absent | late).any():
        raise InputError(
            f"{bank.path} lacks the video of {int(absent.sum())} of the {len(moments)} moments of {what}, and "
            f"{int(late.sum())} start after the end of their video. Add the features with `python -m clep.preprocess "
            f"ego4d_features`, or "
            f"leave such moments out with on_missing=skip"
        )
    kept = moments.select(~(absent | late))
    if not len(kept):
        raise InputError(
            f"no moment of {what} has rows in {bank.path}; do its video ids match? The bank starts with "
            f"{list(bank.videos[:3])}"
        )
    return kept, report
