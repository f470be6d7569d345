"""From the second at which something was narrated to the span of video it is about."""

import numpy as np
from jaxtyping import Bool, Float64, Integer

from clep.errors import InputError


def fixed_spans(
    second: Float64[np.ndarray, "narrations"], offset_s: float | int
) -> tuple[Float64[np.ndarray, "narrations"], Float64[np.ndarray, "narrations"]]:
    """Return start and end, in seconds, of `second` ± `offset_s`; a start before the video is its start, 0.

    Raises:
        InputError: `offset_s` is negative or no number, or a second is.
    """
    if not 0 <= offset_s < np.inf:
        raise InputError(f"offset_s={offset_s} should be a number of seconds, 0 or more")
    _check(second)
    return np.maximum(second - offset_s, 0.0), second + offset_s


def egovlp_spans(
    video: Integer[np.ndarray, "narrations"],
    passes: Integer[np.ndarray, "narrations"],
    second: Float64[np.ndarray, "narrations"],
    training: Bool[np.ndarray, "narrations"] | Integer[np.ndarray, "chosen"] | None = None,
) -> tuple[Float64[np.ndarray, "narrations"], Float64[np.ndarray, "narrations"]]:
    """Return start and end, in seconds, of `second` ± beta / (2 alpha) (EgoVLP, Lin et al. 2022, section 3.1).

    beta is the mean gap between the narrations of one pass of one video, sorted by time; alpha is the mean of
    beta over the passes of the training videos that have two narrations or more. A pass with one narration has
    beta = alpha, hence ± half a second. The order of the narrations does not matter. Give *all* narrations of a
    video and choose among the spans afterwards: leaving some out before widens its gaps.

    Args:
        video: index of the video of each narration.
        passes: number of the annotation pass of each narration.
        second: its time.
        training: narrations of the training videos, as a mask or as indices (what `training_moments` returns); a
            pass with one of them counts in alpha. None: all.

    Raises:
        InputError: a second is negative or not a number; no training pass has two narrations at different times, so
            that alpha is unknown.
    """
    _check(second)
    n_passes = int(passes.max(initial=0)) + 1
    groups, group = np.unique(video.astype(np.int64) * n_passes + passes, return_inverse=True)
    n_groups = len(groups)
    count = np.bincount(group, minlength=n_groups)
    first = np.full(n_groups, np.inf)
    last = np.full(n_groups, -np.inf)
    np.minimum.at(first, group, second)
    np.maximum.at(last, group, second)
    # The gaps of a sorted pass add up to its extent.
    several = count > 1
    beta = np.full(n_groups, np.nan)
    beta[several] = (last[several] - first[several]) / (count[several] - 1)
    in_training = np.zeros(n_groups, dtype=bool)
    in_training[group if training is None else group[training]] = True
    of_training = beta[several & in_training]
    alpha = float(of_training.mean()) if len(of_training) else 0.0
    if len(second) and alpha <= 0:
        raise InputError(
            "no training video has two narrations at different times in one pass, so the mean gap (alpha) of "
            "EgoVLP's windows is unknown; use a fixed offset instead"
        )
    half = (np.where(several, beta, alpha) / (2 * alpha))[group] if len(second) else np.zeros(0)
    return np.maximum(second - half, 0.0), second + half


def _check(second: Float64[np.ndarray, "narrations"]) -> None:
    wrong = np.flatnonzero(~(np.isfinite(second) & (second >= 0)))
    if len(wrong):
        raise InputError(
            f"{len(wrong)} of {len(second)} narrations have a time that is negative or not a number, the first at "
            f"index {wrong[0]}: {second[wrong[0]]}; read_ego4d leaves such narrations out"
        )
