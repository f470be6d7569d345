"""Statistics of per-query ranks: metrics, chance, bootstrap intervals, and differences between two runs."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int32

from clep.evaluation.details import Classes, Ranks
from clep.view.report.record import RunRecord

LEVEL = 95
_RESAMPLES, _MOST_DRAWS = 2_000, 20_000_000
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
    """Return what guessing would reach in percent, where the details of the run tell it.

    Of ranks: the mean probability that a random order has a right answer among the first k. Of mean average precision:
    the mean share of positive clips.
    """
    name, _, last = metric.rpartition("/")
    if last in _CUTOFFS and name in run.ranks:
        return 100 * float(chance_within(run.ranks[name], _CUTOFFS[last]).mean())
    if last == "mAP" and name in run.classes:
        return _prevalence(run.classes[name])
    return None


def chance_within(ranks: Ranks, k: int) -> Float64[np.ndarray, " queries"]:
    """Return the probability, for each query, that a random order has a right answer among the first k."""
    answers, wrong = ranks.answers.astype(np.float64), (ranks.answers - ranks.right).astype(np.float64)
    misses = np.ones(len(answers))
    for drawn in range(k):
        misses *= np.clip(wrong - drawn, 0, None) / np.maximum(answers - drawn, 1)
    return 1 - misses


def interval(run: RunRecord, metric: str) -> Interval | None:
    """Return the bootstrap interval over queries of a metric that is computed from ranks; None for another."""
    name, _, last = metric.rpartition("/")
    ranks = run.ranks.get(name)
    if ranks is None or len(ranks.rank) < 2:
        return None
    if last in _CUTOFFS:
        return _mean_interval(100.0 * (ranks.rank <= _CUTOFFS[last]))
    if last in _OF_RANKS:
        return _resampled(_OF_RANKS[last], ranks.rank, np.zeros_like(ranks.rank))
    return None


def difference(one: RunRecord, other: RunRecord, metric: str) -> tuple[Interval, int] | None:
    """Return the difference `other` - `one` over the queries that both have, and the number of these; None if unknown.

    Queries are resampled in pairs, so that those that are easy for both do not widen the interval.
    """
    name, _, last = metric.rpartition("/")
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
    ranks: Int32[np.ndarray, " queries"],
    minus: Int32[np.ndarray, " queries"],
) -> Interval:
    """Bootstrap interval of the statistic of some ranks minus that of others, the queries drawn together."""
    count, generator = len(ranks), np.random.default_rng(0)
    times = max(200, min(_RESAMPLES, _MOST_DRAWS // count))
    values = []
    for _ in range(times):
        drawn = generator.integers(0, count, count)
        values.append(float(statistic(ranks[drawn]) - statistic(minus[drawn])))
    edge = (100 - LEVEL) / 2
    low, high = np.percentile(values, [edge, 100 - edge])
    return Interval(float(statistic(ranks) - statistic(minus)), float(low), float(high))


def _prevalence(classes: Classes) -> float | None:
    present = classes.count > 0
    return float(100 * classes.count[present].mean() / classes.clips) if present.any() and classes.clips else None
