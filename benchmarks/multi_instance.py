"""Seconds and memory of multi-instance retrieval at full size: `python -m benchmarks.multi_instance`.

Random similarities of 9,668 clips and 3,842 sentences, with classes as frequent as in EPIC-KITCHENS: relevancy of the
whole set, mAP and nDCG in both directions, beside one argsort in each direction and the loops over queries by which the
official code computes the same.
"""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.report import RESULTS, Report, read_settings
from benchmarks.timing import seconds_of
from clep.metrics import mir_metrics, mir_relevancy

Action = tuple[int, list[int]]


@dataclass
class Settings:
    """Of this benchmark; `official_queries` are timed by loops, and the time of all is extrapolated from them."""

    results: str = str(RESULTS)
    clips: int = 9668
    sentences: int = 3842
    verbs: int = 97
    nouns: int = 300
    official_queries: int = 200
    repeats: int = 3


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, write the result and return it."""
    settings = read_settings(Settings, words)
    report = Report("multi_instance", settings, settings.results)
    torch.set_num_threads(2)
    clips, sentences = actions(settings)
    relevancy = mir_relevancy(clips, sentences)
    similarity = np.random.default_rng(1).standard_normal(relevancy.shape, dtype=np.float32)
    times = {
        "relevancy": fastest(lambda: mir_relevancy(clips, sentences), settings.repeats),
        "metrics": fastest(lambda: mir_metrics(similarity, relevancy), settings.repeats),
        "argsort in both directions": fastest(
            lambda: (np.argsort(-similarity, axis=1), np.argsort(-similarity.T, axis=1)), settings.repeats
        ),
        "official loops": official_seconds(similarity, relevancy, settings.official_queries),
    }
    report.add("seconds", times)
    report.add("metrics", mir_metrics(similarity, relevancy))
    report.target("relevancy, seconds", times["relevancy"], at_most=5)
    report.target("mAP and nDCG in both directions, seconds", times["metrics"], at_most=3)
    ratio = times["metrics"] / times["argsort in both directions"]
    report.target("times one argsort in each direction", ratio, at_most=2)
    report.target("times faster than loops over queries", times["official loops"] / times["metrics"], at_least=1)
    report.target("peak memory of a process that measures, GB", peak_gb(words), at_most=1.5)
    return report.write()


def actions(settings: Settings) -> tuple[list[Action], list[Action]]:
    """Return classes of sentences, and of clips that are one of them each; few classes are frequent."""
    random = np.random.default_rng(0)
    verb = np.minimum(random.zipf(1.5, settings.sentences), settings.verbs) - 1
    sentences: list[Action] = []
    for one in verb.tolist():
        count = int(random.choice([1, 2, 3], p=[0.8, 0.15, 0.05]))
        sentences.append((one, np.unique(np.minimum(random.zipf(1.3, count), settings.nouns) - 1).tolist()))
    chosen = [*range(settings.sentences), *random.integers(settings.sentences, size=settings.clips)]
    return [sentences[i] for i in chosen[: settings.clips]], sentences


def fastest(run: Any, repeats: int) -> float:
    """Return the seconds of the fastest of some calls."""
    return min(seconds_of(run)() for _ in range(repeats))


def official_seconds(similarity: np.ndarray, relevancy: np.ndarray, queries: int) -> float:
    """Return the seconds that a loop over all queries of both directions takes, from its first `queries`."""
    total = 0.0
    for scores, relevant in ((similarity, relevancy), (similarity.T, relevancy.T)):
        few = slice(0, queries)
        total += seconds_of(lambda one=scores[few], other=relevant[few]: by_loops(one, other))() * len(scores) / queries
    return total


def by_loops(similarity: np.ndarray, relevancy: np.ndarray) -> list[tuple[float, float]]:
    """Return mAP and nDCG of each query, one query after the other."""
    found = []
    for scores, relevant in zip(similarity, relevancy, strict=True):
        order = np.argsort(scores)[::-1]
        ranked = relevant[order]
        hits = ranked == 1
        precision = np.cumsum(ranked) / np.arange(1, len(ranked) + 1)
        discount = np.log2(np.arange(1, len(ranked) + 1) + 1)
        k = np.arange(len(ranked)) < (relevant > 0).sum()
        best = (np.sort(relevant)[::-1] / discount * k).sum()
        found.append(
            (float((precision * hits).sum() / max(hits.sum(), 1)), float((ranked / discount * k).sum() / best))
        )
    return found


def peak_gb(words: Sequence[str] | None) -> float:
    """Return the peak memory of a process that computes relevancy and metrics, less that of one that imports them."""
    given = list(sys.argv[1:] if words is None else words)
    peaks = [
        float(subprocess.run([sys.executable, "-c", code, *given], check=True, capture_output=True, text=True).stdout)
        for code in ("import benchmarks.multi_instance as b; print(b.own_peak(False))",
                     "import benchmarks.multi_instance as b; print(b.own_peak(True))")
    ]  # fmt: skip
    return peaks[1] - peaks[0]


def own_peak(measure: bool) -> float:
    """Return the peak memory of this process in GB, after measuring if asked."""
    torch.set_num_threads(2)
    if measure:
        settings = read_settings(Settings, sys.argv[1:])
        clips, sentences = actions(settings)
        shape = (len(clips), len(sentences))
        similarity = np.random.default_rng(1).standard_normal(shape, dtype=np.float32)
        mir_metrics(similarity, mir_relevancy(clips, sentences))
    # Not ru_maxrss, which a process inherits from the one that started it.
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e9


if __name__ == "__main__":
    main()
