"""Threads of a CPU that each compute on their own, a core each."""

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def one_core_each(threads: int | None = None) -> Iterator["OneCoreThreads"]:
    """Start work in threads of one core each inside the block.

    Threads that share every product of a small model wait for each other more than they compute, and where a decoder
    holds one of the cores all of them wait for that one. Threads that have work of their own never wait. What a thread
    computes does not depend on how many there are, so results are the same bits on any number of cores. An exception,
    Ctrl-C included, ends the work: what has not begun is dropped.

    Args:
        threads: how many; None for `torch.get_num_threads()`.
    """
    before = torch.get_num_threads()
    count = threads or before
    pool = ThreadPoolExecutor(count, "clep-compute", initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield OneCoreThreads(pool, count)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # a thread's own number is also that of threads which start later


class OneCoreThreads:
    """Threads to start work in, from `one_core_each`; `count` is how many there are."""

    def __init__(self, pool: ThreadPoolExecutor, count: int) -> None:
        self._pool, self.count = pool, count

    def start(self, work: Callable[[], Result]) -> Callable[[], Result]:
        """Start `work` and return what waits for its result, or raises what it raised."""
        future: Future[Result] = self._pool.submit(work)
        return future.result

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield `function(item)` for each item, in order."""
        return self._pool.map(function, items)


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error


_END = object()
_LOOK_UP_S = 0.1


def in_background(produce: Callable[[], Iterator[Item]], ahead: int) -> Generator[Item, None, None]:
    """Yield what an iterator yields, which a thread runs meanwhile, at most `ahead` items ahead.

    What the iterator raises is raised here. When this generator is closed, or an exception leaves the loop that reads
    it, the iterator is closed in its thread, and the thread has ended when the generator has.
    """
    items: queue.Queue[Any] = queue.Queue(ahead)
    stop = threading.Event()

    def put(item: Any) -> bool:
        while not stop.is_set():
            try:
                items.put(item, timeout=_LOOK_UP_S)
                return True
            except queue.Full:
                continue
        return False

    def run() -> None:
        iterator: Any = None
        try:
            iterator = produce()
            for item in iterator:
                if not put(item):
                    return
                del item
            put(_END)
        except BaseException as error:
            put(_Failure(error))
        finally:
            if hasattr(iterator, "close"):
                iterator.close()

    thread = threading.Thread(target=run, name="clep-decode", daemon=True)
    thread.start()
    try:
        while (item := items.get()) is not _END:
            if isinstance(item, _Failure):
                raise item.error
            yield item
            del item
    finally:
        stop.set()
        thread.join()
