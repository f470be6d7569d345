"""Learning-rate schedules: functions of the step and of the run's own number of steps, as factors of the peak rate."""

import math
from collections.abc import Callable

from clep.errors import InputError

Schedule = Callable[[int, int], float]


def constant(step: int, total_steps: int) -> float:
    """Keep the peak learning rate throughout."""
    return 1.0


def warmup_cosine(warmup: float = 0.05, floor: float = 0.0) -> Schedule:
    """Rise linearly over the share `warmup` of the steps, then fall along half a cosine to `floor` at the last one.

    Args:
        warmup: share of the run's steps in [0, 1).
        floor: factor at the end.

    Raises:
        InputError: `warmup` is not a share.
    """
    if not 0 <= warmup < 1:
        raise InputError(f"schedule.warmup={warmup} is a share of the run's steps: at least 0 and below 1")

    def factor(step: int, total_steps: int) -> float:
        rising = max(1, round(warmup * total_steps)) if warmup else 0
        if step < rising:
            return (step + 1) / rising
        progress = min(1.0, (step - rising) / max(1, total_steps - 1 - rising))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))

    return factor


def steady() -> Schedule:
    """Return the schedule that keeps the peak learning rate."""
    return constant
