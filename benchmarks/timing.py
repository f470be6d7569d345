"""Taking turns: each repeat measures every side once, so that what slows the machine slows all of them."""

import gc
import logging
from collections.abc import Callable, Mapping
from statistics import median
from time import perf_counter
from typing import Any

log = logging.getLogger(__name__)


def take_turns(sides: Mapping[str, Callable[[], float]], repeats: int, warm: int = 1) -> dict[str, list[float]]:
    """Call every side in turn, A B A B, and return what each measured; the first `warm` rounds are forgotten."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(warm + repeats):
        for name, measure in sides.items():
            gc.collect()
            value = measure()
            if turn >= warm:
                found[name].append(value)
            log.info("turn %d of %d, %s: %.6g", turn + 1, warm + repeats, name, value)
    return found


def seconds_of(work: Callable[[], Any]) -> Callable[[], float]:
    """Return a side that measures how long `work` takes. What it returns is freed after the clock has stopped."""

    def measure() -> float:
        started = perf_counter()
        result = work()
        seconds = perf_counter() - started
        del result
        return seconds

    return measure


def medians(raw: Mapping[str, list[float]]) -> dict[str, float]:
    """Return the median of each side."""
    return {name: median(values) for name, values in raw.items()}


def paired_ratio(raw: Mapping[str, list[float]], above: str, below: str) -> dict[str, float]:
    """Return `above / below`: of the medians, and the lowest and highest of a single turn."""
    turns = [a / b for a, b in zip(raw[above], raw[below], strict=True)]
    return {"ratio": median(raw[above]) / median(raw[below]), "lowest": min(turns), "highest": max(turns)}
