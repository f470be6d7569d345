"""A long-term feature bank of AVA's shape for `benchmarks.long_term`, and the published way to sample it.

The bank has what AVA's has in size alone: 15 minutes of a film from second 902 on, 0 to 5 regions a second, 1.5 on
average. Rows are drawn.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clep.bank import BankWriter, Clock

FIRST_SECOND = 902
SHARE_OF_SECONDS = (0.25, 0.35, 0.20, 0.10, 0.06, 0.04)
"""With 0, 1, … 5 regions: 1.49 on average."""


@dataclass
class Size:
    """Of the bank."""

    videos: int = 100
    seconds: int = 900
    dim: int = 2048


def write_bank(path: Path, size: Size, dtype: str, seed: int = 0) -> Path:
    """Write a bank of regions; both number formats hold the same videos, seconds and (rounded) rows."""
    rng = np.random.default_rng(seed)
    counts = rng.choice(len(SHARE_OF_SECONDS), (size.videos, size.seconds), p=SHARE_OF_SECONDS)
    counts[:, 0] = np.maximum(counts[:, 0], 1)
    drawn = rng.standard_normal((4096, size.dim), dtype=np.float32)
    clock = Clock.irregular(1.0)
    with BankWriter(path, size.dim, clock, dtype, "drawn", n_rows=int(counts.sum())) as writer:
        for video, regions in enumerate(counts):
            seconds = np.repeat(FIRST_SECOND + np.arange(size.seconds, dtype=np.float64), regions)
            rows = drawn.take(np.arange(len(seconds)) + 977 * video, axis=0, mode="wrap")
            writer.add(f"film-{video:03d}", rows, seconds, float(2 * FIRST_SECOND))
    return path


def moments(size: Size, batch: int, turn: int) -> tuple[Tensor, Tensor]:
    """Draw a batch of key frames: a video each, and a whole second of it."""
    rng = np.random.default_rng([turn, 1])
    second = FIRST_SECOND + rng.integers(0, size.seconds, batch).astype(np.float64)
    return torch.from_numpy(rng.integers(0, size.videos, batch)), torch.from_numpy(second)


class PublishedSampling:
    """Context of an example as in mmaction2's AVA dataset: a loop over the seconds of the window and their rows.

    The bank is a dict of videos, a video a dict of seconds, a second a tensor `[regions, dim]`, all in RAM.
    """

    def __init__(self, bank: dict[str, dict[int, Tensor]], dim: int, window_s: int, per_second: int) -> None:
        self.bank, self.dim = bank, dim
        self.window_s, self.per_second = window_s, per_second

    def example(self, video: str, second: int, draw: bool = True) -> Tensor:
        """Return the slots of one example, zeros where a second has no further row."""
        of_video, slots = self.bank[video], torch.zeros(self.window_s * self.per_second, self.dim)
        begin = second - self.window_s // 2
        for place, at in enumerate(range(begin, begin + self.window_s)):
            if at not in of_video:
                continue
            rows = of_video[at]
            taken = min(len(rows), self.per_second)
            chosen = np.random.choice(range(len(rows)), taken, replace=False) if draw else range(taken)  # noqa: NPY002
            for slot, row in enumerate(chosen):
                slots[place * self.per_second + slot] = rows[row]
        return slots

    def batch(self, videos: list[str], seconds: list[int], draw: bool = True) -> Tensor:
        """Return the examples of a batch on top of each other, as a loader does."""
        return torch.stack([self.example(*where, draw) for where in zip(videos, seconds, strict=True)])
