"""Which frames of a span a published model sees: the official rules of LaViLa, AVION, EgoVLP and PE.

All functions work on frame indices. The frames of a video that is stored in chunks (Ego4D in files of 15, 300 or 600
s) are indexed through all chunks; `chunk_of` returns the chunk of a frame.
"""

from itertools import pairwise
from typing import Literal

import numpy as np
from jaxtyping import Int

from clep.errors import InputError

FrameRule = Literal["lavila", "avion", "egovlp", "middle", "pe"]
Dataset = Literal["ego4d", "epic"]


def span_in_frames(
    rule: FrameRule, start_s: float | int, end_s: float | int, fps: float | int, frames: int, dataset: Dataset = "ego4d"
) -> tuple[int, int]:
    """Convert a span in seconds to its first frame and the one after its last, rounded as in the official code.

    Args:
        rule: of the model.
        start_s, end_s: seconds of the span.
        fps: frames per second of the video.
        frames: frames of a clip, the least length of LaViLa's spans on Ego4D.
        dataset: LaViLa's code rounds the timestamps of EPIC-KITCHENS and Ego4D in different ways.

    Raises:
        InputError: the span ends before it starts, or the rate is not positive.
    """
    if not 0 <= start_s <= end_s or fps <= 0:
        raise InputError(f"a span needs 0 <= start <= end and a positive rate, not {start_s}, {end_s} at {fps} fps")
    if rule == "egovlp":
        return int(start_s * fps), int(end_s * fps)
    start = round(start_s * fps)
    if rule == "lavila":
        if dataset == "epic":
            return start, int(np.ceil(end_s * fps))
        return start, start + max(int((end_s - start_s) * fps), frames)
    return start, round(end_s * fps)


def frame_indices(rule: FrameRule, start: int, end: int, frames: int) -> Int[np.ndarray, " frames"]:
    """Return the indices of the frames that a clip of a span shows, in order.

    - "lavila": borders of equal parts, rounded half to even; then `(a + b) // 2`;
    - "avion": midpoints of `linspace(start, end, frames + 1)`, truncated;
    - "egovlp": `linspace(start, end, frames + 1)` truncated to borders a, b; then `(a + b - 1) // 2`;
    - "middle": the middle of each equal part, truncated;
    - "pe": from the first to the last frame at equal distances, truncated.

    Args:
        rule: one of the above.
        start: first frame of the span.
        end: the frame after its last.
        frames: count of frames to choose; frames of a short span are repeated.

    Raises:
        InputError: `frames` is below 1, or the span is invalid.
    """
    if frames < 1 or not 0 <= start <= end:
        raise InputError(f"frames={frames} must be at least 1, and the span must have 0 <= {start} <= {end}")
    if rule == "lavila":
        part = (end - start - 1) / frames
        rounded = [min(round(part * i) + start, end) for i in range(frames + 1)]
        return np.array([(a + b) // 2 for a, b in pairwise(rounded)], dtype=np.int64)
    if rule == "pe":
        last = max(end - start - 1, 0)
        return start + np.array([int(i * last / max(frames - 1, 1)) for i in range(frames)], dtype=np.int64)
    borders = np.linspace(start, end, frames + 1)
    if rule == "egovlp":
        whole = borders.astype(np.int64)
        return (whole[:-1] + whole[1:] - 1) // 2
    return ((borders[:-1] + borders[1:]) / 2).astype(np.int64)


def chunk_of(index: int, fps: float | int, chunk_s: int) -> tuple[int, int]:
    """Return the start second of the chunk file that holds a frame of the whole video, and the frame's index in it.

    Args:
        index: of the frame in the whole video.
        fps: frames per second.
        chunk_s: length of the chunks in seconds, e.g. 15 (AVION), 300 (LaViLa), 600 (EgoVLP).

    Raises:
        InputError: the rate or the length is not positive.
    """
    if fps <= 0 or chunk_s < 1:
        raise InputError(f"fps={fps} and chunk_s={chunk_s} must be positive")
    number = int(index / (fps * chunk_s))
    return number * chunk_s, index - round(number * chunk_s * fps)
