from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clep.video.batches import Mark, encode_in_batches


def rows_of(batch: list[int]) -> Callable[[], np.ndarray]:
    return lambda: np.array(batch, np.float32)[:, None]


@given(units=st.lists(st.integers(0, 5), max_size=12), batch_size=st.integers(1, 9), at_once=st.integers(1, 4))
def test_rows_and_marks_are_in_order_for_any_batches(units: list[int], batch_size: int, at_once: int) -> None:
    lengths: list[int] = []

    def encode(batch: list[int]) -> Callable[[], np.ndarray]:
        lengths.append(len(batch))
        return rows_of(batch)

    stream: list[Any] = []
    for video, count in enumerate(units):
        stream += [100 * video + unit for unit in range(count)] + [Mark(video)]
    found = encode_in_batches(stream, batch_size, encode, at_once)
    assert [one if isinstance(one, Mark) else int(one[0]) for one in found] == stream
    assert set(lengths) <= {batch_size}
    assert len(lengths) == -(-sum(units) // batch_size)


def test_next_batch_starts_before_the_last_one_is_waited_for() -> None:
    events = []

    def encode(batch: list[int]) -> Callable[[], np.ndarray]:
        events.append(f"start {batch[0]}")

        def wait() -> np.ndarray:
            events.append(f"wait {batch[0]}")
            return np.zeros((len(batch), 1), np.float32)

        return wait

    list(encode_in_batches(range(4), 2, encode))
    assert events == ["start 0", "start 2", "wait 0", "wait 2"]


def test_several_batches_run_at_once() -> None:
    under_way, most = set[int](), 0

    def encode(batch: list[int]) -> Callable[[], np.ndarray]:
        nonlocal most
        under_way.add(batch[0])
        most = max(most, len(under_way))

        def wait() -> np.ndarray:
            under_way.remove(batch[0])
            return np.array(batch, np.float32)[:, None]

        return wait

    rows = np.stack(list(encode_in_batches(range(19), 2, encode, at_once=3)))
    assert rows[:, 0].tolist() == list(range(19))
    assert most == 4


def test_a_mark_is_passed_on_as_soon_as_the_rows_before_it_are_known() -> None:
    taken = []

    def stream() -> Iterator[Any]:
        for one in (Mark("first"), 1, 2, Mark("a"), 3, 4, 5, 6, Mark("b")):
            taken.append(one)
            yield one

    found = encode_in_batches(stream(), 2, rows_of)
    assert next(found) == Mark("first")
    assert len(taken) == 1
    assert [int(next(found)[0]) for _ in range(2)] == [1, 2]  # type: ignore[index]
    assert taken[-1] == 4
    assert next(found) == Mark("a")


def test_the_exception_of_a_batch_stands_for_its_rows_only() -> None:
    def encode(batch: list[int]) -> Callable[[], np.ndarray]:
        def wait() -> np.ndarray:
            if 2 in batch:
                raise ArithmeticError("no rows")
            return np.array(batch, np.float32)[:, None]

        return wait

    found = list(encode_in_batches(range(5), 2, encode))
    assert [isinstance(one, ArithmeticError) for one in found] == [False, False, True, True, False]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_request_to_stop_is_raised_at_once(error: type[BaseException]) -> None:
    def encode(batch: list[int]) -> Callable[[], np.ndarray]:
        def wait() -> np.ndarray:
            raise error

        return wait

    with pytest.raises(error):
        list(encode_in_batches(range(5), 2, encode))
