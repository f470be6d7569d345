"""Spans of video around the timestamps of narrations: a fixed offset, or EgoVLP's rule."""

import numpy as np
from jaxtyping import Bool, Float64, Integer

from clep.errors import InputError


def fixed_spans(
    second: Float64[np.ndarray, "narrations"], offset_s: float | int
) -> tuple[Float64[np.ndarray, "narrations"], Float64[np.ndarray, "narrations"]]:
    """Return start and end, in seconds, of `second` ± `offset_s`; starts are clamped to 0.

    Raises:
        InputError: `offset_s` or a second is negative or not finite.
    """
    if not 0 <= offset_s < np.inf:
        raise InputError(f"offset_s={offset_s} must be a number of seconds, 0 or more")
    _check(second)
    return np.maximum(second - offset_s, 0.0), second + offset_s


def egovlp_spans(
    video: Integer[np.ndarray, "narrations"],
    passes: Integer[np.ndarray, "narrations"],
    second: Float64[np.ndarray, "narrations"],
    training: Bool[np.ndarray, "narrations"] | Integer[np.ndarray, "chosen"] | None = None,
) -> tuple[Float64[np.ndarray, "narrations"], Float64[np.ndarray, "narrations"]]:
    """Return start and end, in seconds, of `second` ± beta / (2 alpha) (EgoVLP, Lin et al. 2022, section 3.1).

    beta is the mean gap between the narrations of one pass of one video, sorted by time; alpha is the mean of beta
    over the passes of the training videos with at least two narrations. A pass with one narration has beta = alpha,
    hence ± 0.5 s. Starts are clamped to 0. The order of the narrations does not matter. Pass *all* narrations of a
    video and select spans afterwards: dropping some before widens the gaps.

    Args:
        video: index of the video of each narration.
        passes: annotation pass of each narration, 1 or 2.
        second: time of each narration in seconds.
        training: narrations of the training videos, as a mask or as indices (from `training_moments`); a pass with at
            least one of them counts in alpha. None: all.

    Raises:
        InputError: a second is negative or not finite; no training pass has two narrations at different times, so
            that alpha is undefined.
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
    # The gaps of a sorted pass sum to its extent.
    several = count > 1
    beta = np.full(n_groups, np.nan)
    beta[several] = (last[several] - first[several]) / (count[several] - 1)
    in_training = np.zeros(n_groups, dtype=bool)
    in_training[group if training is None else group[training]] = True
    of_training = beta[several & in_training]
    alpha = float(of_training.mean()) if len(of_training) else 0.0
    if len(second) and alpha <= 0:
        raise InputError(
            "no training video has two narrations at different times in one pass, so alpha, the mean gap of EgoVLP's "
            "rule, is undefined; use a fixed offset instead"
        )
    half = (np.where(several, beta, alpha) / (2 * alpha))[group] if len(second) else np.zeros(0)
    return np.maximum(second - half, 0.0), second + half


def _check(second: Float64[np.ndarray, "narrations"]) -> None:
    wrong = np.flatnonzero(~(np.isfinite(second) & (second >= 0)))
    if len(wrong):
        raise InputError(
            f"{len(wrong)} of {len(second)} narrations have a time that is negative or not a number, the first at "
            f"index {wrong[0]}: {second[wrong[0]]}; drop such narrations, as read_ego4d does"
        )
