"""Encode many videos at once: one thread a video, each of them computing on its own."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

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

    Meanwhile torch works with one thread in each, which for matrices as small as a clip's is several times faster than
    sharing each product among all, and gives the same bits on a machine of any size. An exception, Ctrl-C included,
    ends the work: items not begun are dropped.
    """
    with one_thread():
        pool = ThreadPoolExecutor(os.cpu_count())
        try:
            yield from pool.map(function, items)
        finally:
            pool.shutdown(cancel_futures=True)
