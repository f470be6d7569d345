"""Work cut into shards of similar cost."""

import heapq
import math
from collections.abc import Mapping
from statistics import median

from clep.errors import InputError


def cut_into_shards(costs: Mapping[str, float | int], n_shards: int) -> list[list[str]]:
    """Cut items into shards of similar total cost, the costliest shard first.

    The costliest item goes first, each to the shard that has least so far (longest processing time first, Graham 1969).
    The costliest shard then exceeds the best possible one by a third at most. The cut depends on the items and their
    costs alone, not on their order.

    Args:
        costs: item → cost in any unit, e.g. a video's seconds. NaN, unknown, counts as the median of the known ones.
        n_shards: how many shards are wanted. With fewer items than that, each is a shard of its own.

    Returns:
        The items of each shard, sorted by name; no shard is empty.

    Raises:
        InputError: `n_shards` is not positive, or a cost is negative or infinite.
    """
    if n_shards < 1:
        raise InputError(f"n_shards={n_shards} must be at least 1")
    for item, cost in costs.items():
        if cost < 0 or math.isinf(cost):
            raise InputError(f"the cost of {item!r} is {cost}; it should be 0 or more, or NaN where it is unknown")
    known = [float(cost) for cost in costs.values() if not math.isnan(cost)]
    usual = median(known) if known else 1.0
    items = sorted((-usual if math.isnan(cost) else -float(cost), item) for item, cost in costs.items())
    shards: list[list[str]] = [[] for _ in range(min(n_shards, len(items)))]
    # Among shards of equal cost the one with fewer items is next, so that items that cost nothing are shared out too.
    loads = [(0.0, 0, place) for place in range(len(shards))]
    for minus_cost, item in items:
        load, count, place = heapq.heappop(loads)
        shards[place].append(item)
        heapq.heappush(loads, (load - minus_cost, count + 1, place))
    by_cost = sorted((-load, sorted(shards[place])) for load, _, place in loads)
    return [shard for _, shard in by_cost]
