import itertools
import math
import random
from dataclasses import dataclass

import pytest

from clep.errors import InputError
from clep.extraction.items import cut_into_shards, shards_of


def total(shard: list[str], costs: dict[str, float]) -> float:
    return sum(costs[item] for item in shard)


def test_items_go_by_descending_cost_to_the_cheapest_shard() -> None:
    # By hand: 7 | 6 | 5, then 4 to the 5, 3 to the 6, 2 to the 7, 1 (all are at 9): to the first, the one with the 7.
    costs = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0, "e": 5.0, "f": 6.0, "g": 7.0}
    assert cut_into_shards(costs, 3) == [["a", "b", "g"], ["c", "f"], ["d", "e"]]


def test_the_costliest_shard_comes_first() -> None:
    costs = {"x": 10, "y": 1, "z": 30}
    assert cut_into_shards(costs, 3) == [["z"], ["x"], ["y"]]


def test_the_order_of_the_items_does_not_matter() -> None:
    generator = random.Random(0)
    costs = {
        f"v{number:03d}": generator.choice([10.0, 20.0, math.nan, generator.random() * 100]) for number in range(200)
    }
    cut = cut_into_shards(costs, 7)
    items = list(costs.items())
    for _ in range(5):
        generator.shuffle(items)
        assert cut_into_shards(dict(items), 7) == cut
    assert sorted(itertools.chain(*cut)) == sorted(costs)


def test_no_shard_exceeds_the_best_cut_by_more_than_the_bound() -> None:
    generator = random.Random(1)
    for _ in range(30):
        costs = {f"v{number}": generator.random() for number in range(8)}
        best = min(
            max(
                sum(cost for cost, place in zip(costs.values(), places, strict=True) if place == shard)
                for shard in range(3)
            )
            for places in itertools.product(range(3), repeat=8)
        )
        assert total(cut_into_shards(costs, 3)[0], costs) <= best * (4 / 3 - 1 / 9) + 1e-9


def test_an_unknown_cost_is_the_median() -> None:
    costs = {"a": 10.0, "b": math.nan, "c": 4.0, "d": 6.0}
    assert cut_into_shards(costs, 4) == [["a"], ["b"], ["d"], ["c"]]
    assert [len(shard) for shard in cut_into_shards({name: math.nan for name in "abcdef"}, 3)] == [2, 2, 2]


def test_items_of_zero_cost_are_distributed_too() -> None:
    assert [len(shard) for shard in cut_into_shards({name: 0 for name in "abcdef"}, 3)] == [2, 2, 2]


def test_fewer_items_than_shards() -> None:
    assert cut_into_shards({"a": 1, "b": 2}, 5) == [["b"], ["a"]]
    assert cut_into_shards({}, 5) == []


@pytest.mark.parametrize(
    ("costs", "n", "message"),
    [({"a": 1.0}, 0, "n_shards=0"), ({"a": -1.0}, 1, "'a' is -1"), ({"a": math.inf}, 1, "inf")],
)
def test_bad_input(costs: dict[str, float], n: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        cut_into_shards(costs, n)


@dataclass(frozen=True)
class Span:
    """An item that belongs to a video."""

    id: str
    group: str
    cost: float
    fingerprint: str = ""
    max_rows: int = 1


def test_items_of_one_group_stay_together() -> None:
    costs = {"a": 1.0, "b": 2.0, "c": 3.0}
    items = [Span(f"{video}{index}", video, cost) for video, cost in costs.items() for index in range(3)]
    assert shards_of(items, 2) == [["a0", "a1", "a2", "b0", "b1", "b2"], ["c0", "c1", "c2"]]
    assert shards_of(items, 9) == [["c0", "c1", "c2"], ["b0", "b1", "b2"], ["a0", "a1", "a2"]]
