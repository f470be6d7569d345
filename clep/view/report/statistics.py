"""Statistics of ranks and values of queries: chance, bootstrap intervals, and differences between two runs."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int32, UInt64

from clep.evaluation.details import Classes, Ranks
from clep.view.report.record import RunRecord

LEVEL = 95
_RESAMPLES, _MOST_DRAWS = 2_000, 20_000_000
_BLOCK_DRAWS = 200_000
"""Draws that are evaluated together: few enough to stay in a CPU's cache."""
_CUTOFFS = {"r1": 1, "r5": 5, "r10": 10, "top1": 1, "top5": 5, "accuracy": 1}
_OF_RANKS: dict[str, Callable[..., Float64[np.ndarray, "..."]]] = {"mean_rank": np.mean, "median_rank": np.median}


class Interval(NamedTuple):
    """A value and its bootstrap interval."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside."""
        return self.low > 0 or self.high < 0


def chance(run: RunRecord, metric: str) -> float | None:
    """Return chance level in percent, if the details of the run determine it.

    For ranks: the mean probability that a random order has a correct answer among the first k. For mean average
    precision: the mean share of positive clips.
    """
    name, _, last = metric.rpartition("/")
    if last in _CUTOFFS and name in run.ranks:
        return 100 * float(chance_within(run.ranks[name], _CUTOFFS[last]).mean())
    if last == "mAP" and name in run.classes:
        return _prevalence(run.classes[name])
    return None


def chance_within(ranks: Ranks, k: int) -> Float64[np.ndarray, " queries"]:
    """Return the probability, for each query, that a random order has a correct answer among the first k."""
    answers, wrong = ranks.answers.astype(np.float64), (ranks.answers - ranks.right).astype(np.float64)
    misses = np.ones(len(answers))
    for drawn in range(k):
        misses *= np.clip(wrong - drawn, 0, None) / np.maximum(answers - drawn, 1)
    return 1 - misses


def interval(run: RunRecord, metric: str) -> Interval | None:
    """Return the bootstrap interval over queries of a metric; None if the run has no ranks or values of its queries.

    The mean of both directions has the mean of their intervals: exact if easy clips have easy sentences, else too wide.
    """
    name, _, last = metric.rpartition("/")
    if (sides := _directions(name)) is not None:
        found = [interval(run, f"{side}/{last}") for side in sides]
        return _mean_of([one for one in found if one is not None])
    if (of_run := _query_values(run, name, last)) is not None:
        return _resampled_mean(of_run[1]) if len(of_run[1]) > 1 else None
    ranks = run.ranks.get(name)
    if ranks is None or len(ranks.rank) < 2:
        return None
    if last in _CUTOFFS:
        return _mean_interval(100.0 * (ranks.rank <= _CUTOFFS[last]))
    if last in _OF_RANKS:
        return _resampled(_OF_RANKS[last], ranks.rank)
    return None


def difference(one: RunRecord, other: RunRecord, metric: str) -> tuple[Interval, int] | None:
    """Return the difference `other` - `one` over the queries that both have, and the number of these; None if unknown.

    Queries are resampled in pairs, so that those that are easy for both do not widen the interval. See `interval` for
    the mean of both directions; its number of queries is that of both.
    """
    name, _, last = metric.rpartition("/")
    if (sides := _directions(name)) is not None:
        both = [found for side in sides if (found := difference(one, other, f"{side}/{last}")) is not None]
        mean = _mean_of([found for found, _ in both])
        return (mean, sum(queries for _, queries in both)) if mean is not None else None
    of_one, of_other = _query_values(one, name, last), _query_values(other, name, last)
    if of_one is not None and of_other is not None:
        keys, a, b = np.intersect1d(of_one[0], of_other[0], return_indices=True)
        return (_resampled_mean(of_other[1][b] - of_one[1][a]), len(keys)) if len(keys) > 1 else None
    if name not in one.ranks or name not in other.ranks:
        return None
    first, second = one.ranks[name], other.ranks[name]
    keys, a, b = np.intersect1d(first.key, second.key, return_indices=True)
    if len(keys) < 2:
        return None
    ranks, others = first.rank[a], second.rank[b]
    if last in _CUTOFFS:
        k = _CUTOFFS[last]
        return _mean_interval(100.0 * (others <= k) - 100.0 * (ranks <= k)), len(keys)
    if last in _OF_RANKS:
        return _resampled(_OF_RANKS[last], others, ranks), len(keys)
    return None


def _directions(name: str) -> tuple[str, str] | None:
    """Return the names of both directions that "<benchmark>/mean" is the mean of; None for another name."""
    benchmark, _, last = name.rpartition("/")
    return (f"{benchmark}/t2v", f"{benchmark}/v2t") if last == "mean" else None


def _mean_of(sides: Sequence[Interval]) -> Interval | None:
    return Interval(*(float(np.mean(part)) for part in zip(*sides, strict=True))) if len(sides) == 2 else None


def _query_values(
    run: RunRecord, name: str, last: str
) -> tuple[UInt64[np.ndarray, " queries"], Float64[np.ndarray, " queries"]] | None:
    """Return the keys and values of the queries whose mean is the metric; None if the run has none."""
    found = run.values.get(name)
    if found is None or last not in found.metrics:
        return None
    return found.key, found.value[:, found.metrics.index(last)].astype(np.float64)


def _resampled_mean(values: Float64[np.ndarray, " queries"]) -> Interval:
    """Bootstrap interval of a mean of values of which many are distinct."""
    return _resampled(np.mean, values)


def _mean_interval(values: Float64[np.ndarray, " queries"]) -> Interval:
    """Bootstrap interval of a mean of values of which few are distinct: their counts are multinomial."""
    distinct, counts = np.unique(values, return_counts=True)
    drawn = np.random.default_rng(0).multinomial(len(values), counts / len(values), 10_000)
    means = drawn @ distinct / len(values)
    edge = (100 - LEVEL) / 2
    low, high = np.percentile(means, [edge, 100 - edge])
    return Interval(float(values.mean()), float(low), float(high))


def _resampled(
    statistic: Callable[..., Float64[np.ndarray, "..."]],
    ranks: Int32[np.ndarray, " queries"] | Float64[np.ndarray, " queries"],
    minus: Int32[np.ndarray, " queries"] | None = None,
) -> Interval:
    """Bootstrap interval of the statistic of some ranks or values, minus that of others; queries are drawn together."""
    count, generator = len(ranks), np.random.default_rng(0)
    times = max(200, min(_RESAMPLES, _MOST_DRAWS // count))
    block = max(1, _BLOCK_DRAWS // count)
    values = np.empty(times)
    for first in range(0, times, block):
        drawn = generator.integers(0, count, (min(block, times - first), count))
        of_block = values[first : first + block]
        of_block[:] = statistic(ranks[drawn], axis=1)
        if minus is not None:
            of_block -= statistic(minus[drawn], axis=1)
    edge = (100 - LEVEL) / 2
    low, high = np.percentile(values, [edge, 100 - edge])
    value = float(statistic(ranks) - (0 if minus is None else statistic(minus)))
    return Interval(value, float(low), float(high))


def _prevalence(classes: Classes) -> float | None:
    present = classes.count > 0
    return float(100 * classes.count[present].mean() / classes.clips) if present.any() and classes.clips else None
