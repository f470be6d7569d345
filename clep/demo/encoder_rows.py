"""When the rows of a simulated encoder begin, and how much of each action falls into each row."""

import numpy as np
from jaxtyping import Float, Int

FPS = 30
WINDOW_FRAMES = 32
STRIDE_FRAMES = 16


def row_start_frames(n_frames: int) -> Int[np.ndarray, " rows"]:
    """Give the first frame of each row, as Ego4D's features have them: window 32, stride 16, last row back-padded.

    A row starts every 16 frames until one reaches the end of the video; that one is moved back so that it ends with the
    video (39 frames: rows at frames 0 and 7). A video shorter than a window has one row.
    """
    beyond = max(n_frames - WINDOW_FRAMES, 0)
    starts = np.arange(1 + -(-beyond // STRIDE_FRAMES), dtype=np.int64) * STRIDE_FRAMES
    return np.minimum(starts, beyond)


def presence(
    row_s: Float[np.ndarray, " rows"],
    start_s: Float[np.ndarray, " actions"],
    end_s: Float[np.ndarray, " actions"],
    blend_s: float,
) -> Float[np.ndarray, "rows actions"]:
    """Give the share of each row's window that each action fills, in 0 … 1.

    An action fades in and out over `blend_s` seconds centred on its start and end, and a row sees the mean over its
    32 frames, so that shares change smoothly from row to row. Seconds in, computed by the integral of the ramp.
    """

    def area(second: np.ndarray) -> np.ndarray:
        inside = np.clip(second, -blend_s / 2, blend_s / 2) + blend_s / 2
        return inside**2 / (2 * blend_s) + np.maximum(second - blend_s / 2, 0.0)

    length = WINDOW_FRAMES / FPS
    first, last = row_s[:, None], row_s[:, None] + length
    came = area(last - start_s) - area(first - start_s)
    went = area(last - end_s) - area(first - end_s)
    return np.clip((came - went) / length, 0.0, 1.0)
