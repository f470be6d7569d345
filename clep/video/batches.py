"""Units through an encoder in batches of a few fixed shapes, whatever their number."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
from jaxtyping import Float32

Unit = TypeVar("Unit")
Rows = Float32[np.ndarray, "units dim"]


def remainder_sizes(left: int, batch_size: int) -> list[tuple[int, int]]:
    """How the units that fill no whole batch are batched: (size of the batch, units in it).

    Powers of two, largest first (18 = 16 + 2); where one more than fits wastes at most an eighth, that one, padded
    (15 of 16). Shapes depend on the number alone, so that the rows of a video do not depend on other videos.
    """
    sizes = []
    while left > 0:
        above = min(1 << (left - 1).bit_length(), batch_size)
        size = above if 8 * (above - left) <= above else 1 << (left.bit_length() - 1)
        sizes.append((size, min(size, left)))
        left -= sizes[-1][1]
    return sizes


def encode_in_batches(
    units: Iterable[Unit], batch_size: int, encode: Callable[[list[Unit]], Callable[[], Rows]], at_once: int = 1
) -> Iterator[Rows]:
    """Encode units in order: batches of exactly `batch_size`, and the last few in `remainder_sizes`.

    `encode` starts the work on a list of such a length and returns what waits for its rows. Padding repeats the last
    unit, its rows are cut off. A batch is waited for once the next `at_once` have been started, so that a GPU, or the
    cores that have a batch each, are not idle while its rows are used.
    """
    started: deque[tuple[Callable[[], Rows], int]] = deque()
    for batch, used in _batches(units, batch_size):
        started.append((encode(batch), used))
        if len(started) > at_once:
            wait, used = started.popleft()
            yield wait()[:used]
    for wait, used in started:
        yield wait()[:used]


def _batches(units: Iterable[Unit], batch_size: int) -> Iterator[tuple[list[Unit], int]]:
    waiting: list[Unit] = []
    for unit in units:
        waiting.append(unit)
        if len(waiting) == batch_size:
            yield waiting, batch_size
            waiting = []
    for size, used in remainder_sizes(len(waiting), batch_size):
        batch, waiting = waiting[:used], waiting[used:]
        yield batch + batch[-1:] * (size - used), used
