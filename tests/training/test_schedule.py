from itertools import pairwise

import pytest

from clep.errors import InputError
from clep.training import steady, warmup_cosine


def test_warm_up_then_cosine_to_the_floor_at_the_last_step() -> None:
    factor = warmup_cosine(warmup=0.1, floor=0.01)
    rates = [factor(step, 1000) for step in range(1000)]
    assert rates[0] == pytest.approx(1 / 100)
    assert rates[99] == pytest.approx(1.0)
    assert rates[100] == pytest.approx(1.0)
    assert rates[999] == pytest.approx(0.01)
    assert rates[100 + 450] == pytest.approx(0.505, abs=0.01)
    assert all(a >= b for a, b in pairwise(rates[99:]))


def test_the_schedule_covers_the_steps_of_the_run() -> None:
    factor = warmup_cosine(warmup=0.0)
    for total in (10, 300, 5000):
        assert factor(0, total) == pytest.approx(1.0)
        assert factor(total - 1, total) == pytest.approx(0.0, abs=1e-9)
        assert factor(total // 2, total) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("total", [1, 2])
def test_runs_of_a_step_or_two_work(total: int) -> None:
    assert all(0 <= warmup_cosine(0.05)(step, total) <= 1 for step in range(total))


def test_steady_never_changes() -> None:
    assert {steady()(step, 100) for step in range(100)} == {1.0}


def test_warmup_is_a_fraction_of_the_steps() -> None:
    with pytest.raises(InputError, match="warmup=100"):
        warmup_cosine(warmup=100.0)
