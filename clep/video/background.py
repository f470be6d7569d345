"""Work of another thread, handed over through a bounded queue."""

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")


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
