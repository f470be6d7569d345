import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from clep.compute.threads import Background


def threads() -> int:
    return sum(thread.name == "clep-decode" for thread in threading.enumerate())


def test_yields_all_items_in_order_from_another_thread() -> None:
    names = []

    def produce() -> Iterator[int]:
        for number in range(50):
            names.append(threading.current_thread().name)
            yield number

    assert list(Background(produce, 3)) == list(range(50))
    assert set(names) == {"clep-decode"}
    assert threads() == 0


def test_prefetches_at_most_ahead_items() -> None:
    made = 0

    def produce() -> Iterator[int]:
        nonlocal made
        for number in range(100):
            made += 1
            yield number

    items = Background(produce, 4)
    for taken, _ in enumerate(items):
        time.sleep(0.002)
        assert made - taken <= 4 + 3


def test_exception_of_the_producer_is_raised() -> None:
    def produce() -> Iterator[int]:
        yield 1
        raise KeyError("broken")

    items = Background(produce, 2)
    assert next(items) == 1
    with pytest.raises(KeyError, match="broken"):
        next(items)
    assert threads() == 0


@pytest.mark.parametrize("taken", [1, 3])
def test_ends_the_producer_when_closed(taken: int) -> None:
    closed = threading.Event()

    def produce() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed.set()

    items = Background(produce, 1)
    for _ in range(taken):
        next(items)
    items.close()
    assert closed.is_set()
    assert threads() == 0


def test_interrupting_the_consumer_ends_the_producer() -> None:
    def produce() -> Iterator[int]:
        while True:
            yield 0

    items = Background(produce, 1)
    next(items)
    with pytest.raises(KeyboardInterrupt), closing(items):
        raise KeyboardInterrupt
    assert threads() == 0
