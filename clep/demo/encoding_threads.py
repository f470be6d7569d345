"""Encode many videos at once: one thread a video, each of them computing on its own."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from clep.compute.threads import one_core_each

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute with one thread inside the block.

    Products of small matrices wait longer for each other's threads than they compute, most of all on a busy machine.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def map_videos(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield `function(item)` for each item, in order, computed by as many threads as there are processors.

    For matrices as small as a clip's, a thread a video is several times faster than sharing each product among all, and
    gives the same bits on a machine of any size. An exception, Ctrl-C included, ends the work: items not begun are
    dropped.
    """
    with one_core_each(os.cpu_count()) as threads:
        yield from threads.map(function, items)
