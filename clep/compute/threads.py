"""A pool of single-core compute threads, and an iterator prefetched in a thread."""

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
    """Yield a pool of threads, each limited to one core.

    Threads that share each matrix product of a small model mostly wait for each other, most of all while a decoder uses
    one of the cores. With one batch per thread none waits. A result does not depend on the number of threads, so
    results are bit-equal on any number of cores. An exception, Ctrl-C included, cancels work that has not started.

    Args:
        threads: number of threads; None: `torch.get_num_threads()`.
    """
    before = torch.get_num_threads()
    count = threads or before
    pool = ThreadPoolExecutor(count, "clep-compute", initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield OneCoreThreads(pool, count)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # a pool thread's setting is inherited by threads that start later


class OneCoreThreads:
    """Pool of `one_core_each`; `count` is the number of threads."""

    def __init__(self, pool: ThreadPoolExecutor, count: int) -> None:
        self._pool, self.count = pool, count

    def start(self, work: Callable[[], Result]) -> Callable[[], Result]:
        """Start `work` and return a function that waits for its result, or raises its exception."""
        future: Future[Result] = self._pool.submit(work)
        return future.result

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield `function(item)` for each item, in order."""
        return self._pool.map(function, items)


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error


_END = object()
_POLL_S = 0.1


def in_background(produce: Callable[[], Iterator[Item]], ahead: int) -> Generator[Item, None, None]:
    """Yield the items of an iterator that runs in a thread, prefetching at most `ahead` items.

    An exception of the iterator is raised here. When this generator is closed, also by an exception in the consuming
    loop, the iterator is closed in its thread, and the thread is joined.
    """
    items: queue.Queue[Any] = queue.Queue(ahead)
    stop = threading.Event()

    def put(item: Any) -> bool:
        while not stop.is_set():
            try:
                items.put(item, timeout=_POLL_S)
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
