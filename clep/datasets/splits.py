"""Held-out splits by a hash of each video's or example's id, so that adding or removing others moves none."""

import hashlib

import numpy as np
from jaxtyping import Bool, Int64


def hash_fraction(name: str) -> float:
    """Return a number in [0, 1) that depends on the name alone; an example is held out where it is small."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def held_out_videos(
    videos: list[str], fraction: float, used: Int64[np.ndarray, " moments"]
) -> Bool[np.ndarray, " videos"]:
    """Choose about `fraction` of the videos in `used`, at least one unless it is 0, and never all.

    A video is held out where the hash of its id says so, whatever other videos there are: a larger bank or another
    filter moves no video from one side to the other.
    """
    chosen = np.zeros(len(videos), dtype=bool)
    candidates = np.unique(used)
    if fraction == 0 or len(candidates) < 2:
        return chosen
    place = np.array([hash_fraction(videos[index]) for index in candidates])
    below = place < fraction
    below[place.argmin()] = True
    below[place.argmax()] = False
    chosen[candidates[below]] = True
    return chosen
