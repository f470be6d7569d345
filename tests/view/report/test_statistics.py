"""Statistics of reports against slow versions and simulations."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clep.evaluation.details import Pairs, QueryValues, Ranks, reliability, value_details
from clep.view.report import statistics
from clep.view.report.geometry import flat_map, geometry, unit, verb_groups, verb_of
from clep.view.report.record import RunRecord
from clep.view.report.statistics import chance, chance_within, difference, interval


def ranks_of(rank: np.ndarray, answers: int = 20, right: int | np.ndarray = 1, key: np.ndarray | None = None) -> Ranks:
    count = len(rank)
    of_each = [np.broadcast_to(values, count).astype(np.int32) for values in (answers, right)]
    keys = np.arange(count, dtype=np.uint64) if key is None else key.astype(np.uint64)
    return Ranks("x/t2v", count, keys, rank.astype(np.int32), *of_each)


def run_of(*details: object) -> RunRecord:
    return RunRecord(Path("x"), "x", {}, {}, {}, [], None, {}, {}, [], list(details), {})


def test_chance_against_random_orders() -> None:
    right = np.array([1, 3, 17, 20])
    found = chance_within(ranks_of(np.ones(4), 20, right), 5)
    generator = np.random.default_rng(0)
    simulated = [
        np.mean([(generator.permutation(20)[:5] < count).any() for _ in range(4000)]) for count in right.tolist()
    ]
    np.testing.assert_allclose(found, simulated, atol=0.03)
    assert found[0] == pytest.approx(5 / 20)
    assert chance(run_of(ranks_of(np.ones(4), 20, 1)), "x/t2v/r5") == pytest.approx(25.0)
    assert chance(run_of(), "x/t2v/r5") is None


def test_intervals_against_plain_resampling() -> None:
    generator = np.random.default_rng(1)
    rank = generator.integers(1, 20, 150)
    run = run_of(ranks_of(rank))
    hit = 100.0 * (rank <= 5)
    means = [hit[generator.integers(0, 150, 150)].mean() for _ in range(4000)]
    found = interval(run, "x/t2v/r5")
    assert found.value == pytest.approx(hit.mean())
    np.testing.assert_allclose([found.low, found.high], np.percentile(means, [2.5, 97.5]), atol=1.0)
    middle = interval(run, "x/t2v/median_rank")
    assert middle.low <= np.median(rank) == middle.value <= middle.high
    assert interval(run, "x/t2v/nothing") is None


def test_differences_pair_the_queries() -> None:
    """Two runs that err on the same queries differ by a certain amount, however much the queries vary."""
    generator = np.random.default_rng(2)
    rank = generator.integers(1, 20, 400)
    better = np.where(np.arange(400) % 20 == 0, 1, rank)
    order = generator.permutation(400)
    one, other = run_of(ranks_of(rank)), run_of(ranks_of(better[order], key=order))
    found, queries = difference(one, other, "x/t2v/r1")
    assert queries == 400
    assert found.value == pytest.approx(100 * ((better == 1).mean() - (rank == 1).mean()))
    assert found.excludes_zero
    assert found.high - found.low < 5  # that of a single run is 4 times as wide in its variance
    same, _ = difference(one, one, "x/t2v/mean_rank")
    assert (same.value, same.low, same.high) == (0, 0, 0)
    missing, queries = difference(one, run_of(ranks_of(rank[:100])), "x/t2v/r1")
    assert (queries, missing.value) == (100, 0)


def values_of(name: str, value: np.ndarray, queries: np.ndarray | None = None) -> QueryValues:
    ids = np.arange(len(value)) if queries is None else queries
    return value_details(name, ("mAP", "nDCG"), np.stack([value, 100 - value], 1), [str(one) for one in ids.tolist()])


def test_intervals_of_values_against_plain_resampling() -> None:
    generator = np.random.default_rng(5)
    value = 100 * generator.beta(0.5, 1.5, 300)
    means = value[generator.integers(0, 300, (4000, 300))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    run = run_of(values_of("mir/t2v", value))
    found = interval(run, "mir/t2v/mAP")
    assert found.value == pytest.approx(value.mean(), rel=1e-6)
    np.testing.assert_allclose([found.low, found.high], [low, high], atol=0.7)
    assert interval(run, "mir/t2v/nDCG").low == pytest.approx(100 - found.high, rel=1e-6)
    assert interval(run, "mir/t2v/mAP_binary") is None
    assert interval(run, "mir/mean/mAP") is None, "one direction alone has no mean"


def test_differences_of_values_pair_the_queries() -> None:
    generator = np.random.default_rng(6)
    value = 100 * generator.beta(0.5, 1.5, 300)
    better = value + generator.normal(1.0, 2.0, 300)
    order = generator.permutation(300)[:250]
    one = run_of(values_of("mir/t2v", value), values_of("mir/v2t", value[:100]))
    other = run_of(values_of("mir/t2v", better[order], order), values_of("mir/v2t", better[:100]))
    found, queries = difference(one, other, "mir/t2v/mAP")
    assert queries == 250
    assert found.value == pytest.approx((better - value)[order].mean(), rel=1e-4)
    error = (better - value)[order].std() / np.sqrt(250)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    side, _ = difference(one, other, "mir/v2t/mAP")
    mean, queries = difference(one, other, "mir/mean/mAP")
    assert queries == 350
    np.testing.assert_allclose(mean, (np.array(found) + np.array(side)) / 2)
    assert difference(one, run_of(), "mir/t2v/mAP") is None
    assert difference(one, run_of(values_of("mir/t2v", value, np.arange(300) + 1000)), "mir/t2v/mAP") is None


def pairs_of(video: np.ndarray, text: np.ndarray, text_id: np.ndarray) -> Pairs:
    count = len(video)
    seconds = np.zeros(count)
    return Pairs("x", count, ["v"] * count, ["t"] * count, seconds, seconds, text_id, video, text, 2.0)


def test_geometry_against_loops() -> None:
    generator = np.random.default_rng(3)
    video, text = (unit(generator.normal(size=(12, 5)).astype(np.float32)) for _ in range(2))
    text_id = np.arange(12) // 2
    text[1::2] = text[::2]
    found = geometry(pairs_of(video, text, text_id))
    assert found.alignment == pytest.approx(np.mean([((v - t) ** 2).sum() for v, t in zip(video, text, strict=True)]))
    squared = [((video[a] - video[b]) ** 2).sum() for a in range(12) for b in range(a)]
    assert found.video_uniformity == pytest.approx(np.log(np.mean(np.exp(-2 * np.array(squared)))), abs=1e-5)
    assert len(found.others) == 12 * 10
    np.testing.assert_allclose(found.pairs, (video * text).sum(1), atol=1e-6)
    logits = 2.0 * text @ video.T
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    best = probability.argmax(1)
    confidence = [probability[row, text_id == text_id[best[row]]].sum() for row in range(12)]
    expected = reliability(np.array(confidence), text_id[best] == text_id)
    np.testing.assert_allclose(found.calibration, expected, atol=1e-5)


def test_maps_are_the_same_each_time() -> None:
    rows = np.random.default_rng(4).normal(size=(50, 8)).astype(np.float32)
    one, method = flat_map(rows)
    other, _ = flat_map(rows)
    assert one.shape == (50, 2)
    assert np.isfinite(one).all()
    np.testing.assert_array_equal(one, other)
    assert method in ("t-SNE", "principal components")
    assert flat_map(rows[:5])[1] == "principal components"


@pytest.mark.parametrize(
    ("text", "verb"),
    [("C opens the jar", "opens"), ("#C C cuts it", "cuts"), ("Camera wearer washes a cup", "washes"), ("", "")],
)
def test_the_verb_follows_the_subject(text: str, verb: str) -> None:
    assert verb_of(text) == verb


def test_frequent_verbs_have_groups() -> None:
    texts = ["C opens it"] * 3 + ["C cuts it"] * 2 + [f"C {word}s it" for word in "abdefghijk"]
    groups, labels = verb_groups(texts)
    assert labels[:2] == ["opens", "cuts"]
    assert labels[-1] == "other"
    assert groups[:5] == [0, 0, 0, 1, 1]
    assert max(groups) == len(labels) - 1


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("statistic", [np.mean, np.median])
def test_an_interval_equals_that_of_one_resample_after_another(
    statistic: Callable[..., Any], paired: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = np.random.default_rng(5)
    ranks, others = drawn.integers(1, 100, (2, 37)).astype(np.int32)
    monkeypatch.setattr(statistics, "_RESAMPLES", 250)
    monkeypatch.setattr(statistics, "_BLOCK_DRAWS", 37 * 9)  # nine resamples together; the last block is smaller

    def value_of(index: np.ndarray) -> float:
        return float(statistic(ranks[index]) - (statistic(others[index]) if paired else 0))

    generator = np.random.default_rng(0)
    values = [value_of(generator.integers(0, 37, 37)) for _ in range(250)]
    found = statistics._resampled(statistic, ranks, others if paired else None)
    assert found == (value_of(np.arange(37)), *np.percentile(values, [2.5, 97.5]))
