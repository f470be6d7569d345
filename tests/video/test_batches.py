from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clep.video.encode import encode_in_batches, remainder_sizes


@pytest.mark.parametrize(
    ("left", "batch_size", "sizes"),
    [
        (0, 8, []), (1, 8, [(1, 1)]), (3, 8, [(2, 2), (1, 1)]), (7, 8, [(8, 7)]), (15, 32, [(16, 15)]),
        (18, 32, [(16, 16), (2, 2)]), (11, 12, [(12, 11)]), (5, 6, [(4, 4), (1, 1)]),
    ],
)  # fmt: skip
def test_sizes_by_hand(left: int, batch_size: int, sizes: list[tuple[int, int]]) -> None:
    assert remainder_sizes(left, batch_size) == sizes


@given(batch_size=st.integers(1, 100), left=st.integers(0, 99))
def test_sizes_waste_little(batch_size: int, left: int) -> None:
    left = left % batch_size
    sizes = remainder_sizes(left, batch_size)
    assert sum(used for _, used in sizes) == left
    assert sum(size for size, _ in sizes) <= max(left * 8 / 7, left) + 1e-9
    assert all(size in (1, 2, 4, 8, 16, 32, 64, batch_size) and size <= batch_size for size, _ in sizes)


@given(units=st.integers(0, 70), batch_size=st.integers(1, 20))
def test_rows_are_in_order_for_any_batches(units: int, batch_size: int) -> None:
    lengths = []

    def encode(batch: list[int]) -> Callable[[], np.ndarray]:
        lengths.append(len(batch))
        return lambda: np.array(batch, np.float32)[:, None]

    blocks = list(encode_in_batches(range(units), batch_size, encode))
    rows = np.concatenate(blocks) if blocks else np.zeros((0, 1), np.float32)
    assert rows[:, 0].tolist() == list(range(units))
    assert lengths[: units // batch_size] == [batch_size] * (units // batch_size)


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

    rows = np.concatenate(list(encode_in_batches(range(19), 2, encode, at_once=3)))
    assert rows[:, 0].tolist() == list(range(19))
    assert most == 4
