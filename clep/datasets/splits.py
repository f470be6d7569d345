"""Held-out splits by a hash of each id, stable when other videos are added or removed."""

import hashlib

import numpy as np
from jaxtyping import Bool, Int64


def hash_fraction(name: str) -> float:
    """Return a hash of the name in [0, 1); an example is held out if it is below the held-out fraction."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def held_out_videos(
    videos: list[str], fraction: float, used: Int64[np.ndarray, " moments"]
) -> Bool[np.ndarray, " videos"]:
    """Mask of the held-out videos: about `fraction` of those in `used`; at least one unless it is 0, and never all.

    Each decision depends on the hash of the id only: a larger bank or another filter moves no video between the sides.

    Args:
        videos: ids of all videos.
        fraction: held-out fraction, from 0 to 1.
        used: index into `videos` of each moment.
    """
    chosen = np.zeros(len(videos), dtype=bool)
    candidates = np.unique(used)
    if fraction == 0 or len(candidates) < 2:
        return chosen
    hashes = np.array([hash_fraction(videos[index]) for index in candidates])
    below = hashes < fraction
    below[hashes.argmin()] = True
    below[hashes.argmax()] = False
    chosen[candidates[below]] = True
    return chosen
