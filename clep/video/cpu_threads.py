"""Batches that are encoded on a CPU at the same time, a core each."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Result = TypeVar("Result")


@contextmanager
def one_core_a_batch(threads: int | None = None) -> Iterator["OneCoreABatch"]:
    """Start work in threads of one core each inside the block, as many as PyTorch has threads.

    Threads that share every product of a small model wait for each other more than they compute, and where a decoder
    holds one of the cores all of them wait for that one. Threads that have a batch each never wait. What a thread
    computes does not depend on how many there are, so rows are the same bits on any number of cores.

    Args:
        threads: how many; None for `torch.get_num_threads()`.
    """
    before = torch.get_num_threads()
    count = threads or before
    pool = ThreadPoolExecutor(count, "clep-encode", initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield OneCoreABatch(pool, count)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # a thread's own number is also that of threads which start later


class OneCoreABatch:
    """Threads to start work in, from `one_core_a_batch`."""

    def __init__(self, pool: ThreadPoolExecutor, count: int) -> None:
        self._pool, self.count = pool, count

    def start(self, work: Callable[[], Result]) -> Callable[[], Result]:
        """Start `work` and return what waits for its result, or raises what it raised."""
        future: Future[Result] = self._pool.submit(work)
        return future.result
