"""A pool of single-core compute threads, and an iterator prefetched in a thread."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
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


class Background(Iterator[Item]):
    """The items of an iterator that runs in a thread, which starts at once.

    An exception of the iterator is raised here. `close` closes the iterator in its thread and joins the thread; use
    `contextlib.closing`, so that an exception in the consuming loop does so too.

    Args:
        produce: makes the iterator, in that thread.
        ahead: items to hold in advance, at most.
    """

    def __init__(self, produce: Callable[[], Iterator[Item]], ahead: int) -> None:
        self._items: queue.Queue[Any] = queue.Queue(ahead)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(produce,), name="clep-decode", daemon=True)
        self._thread.start()

    def __next__(self) -> Item:
        if self._stop.is_set():
            raise StopIteration
        item = self._items.get()
        if item is _END or isinstance(item, _Failure):
            self.close()
            if isinstance(item, _Failure):
                raise item.error
            raise StopIteration
        found: Item = item
        return found

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join()

    def _put(self, item: Any) -> bool:
        while not self._stop.is_set():
            try:
                self._items.put(item, timeout=_POLL_S)
                return True
            except queue.Full:
                continue
        return False

    def _run(self, produce: Callable[[], Iterator[Item]]) -> None:
        iterator: Any = None
        try:
            iterator = produce()
            for item in iterator:
                if not self._put(item):
                    return
                del item
            self._put(_END)
        except BaseException as error:
            self._put(_Failure(error))
        finally:
            if hasattr(iterator, "close"):
                iterator.close()
