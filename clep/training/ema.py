"""The exponential moving average of a model's weights."""

import copy
from typing import TypeVar

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from clep.errors import InputError

Model = TypeVar("Model", bound=nn.Module)


def averaged_copy(model: Model) -> Model:
    """Return a copy of `model` that holds the average and is not trained.

    Raises:
        InputError: weights of 16 bits, which the small steps of an average leave where they are.
    """
    average = copy.deepcopy(model).requires_grad_(False)
    if any(parameter.dtype in (torch.bfloat16, torch.float16) for parameter in average.parameters()):
        raise InputError("ema: an average of 16-bit weights would round its steps away; use precision=bf16-mixed")
    return average


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float | int, step: int) -> None:
    """Move `average` towards `model` after an optimizer step: average ← d · average + (1 − d) · model.

    d grows as (1 + step) / (10 + step) up to `decay`, so that a short run's average is not made of its first weights.
    The number of the step is a number of the host: nothing waits for a GPU. Buffers, such as the statistics of a batch
    norm, are copied.

    Args:
        average: made by `averaged_copy`.
        model: as trained.
        decay: in (0, 1), of a long run; 0.999 remembers about 1,000 steps.
        step: steps that were taken before this one.
    """
    now = min(decay, (1 + step) / (10 + step))
    held, trained = list(average.parameters()), list(model.parameters())
    get_ema_multi_avg_fn(now)(held, trained, step)
    for buffer, current in zip(average.buffers(), model.buffers(), strict=True):
        buffer.copy_(current)


def check_decay(decay: float | int | None) -> None:
    """Refuse a decay that is no average.

    Raises:
        InputError: it is not between 0 and 1.
    """
    if decay is not None and not 0 < decay < 1:
        raise InputError(f"ema={decay} must lie between 0 and 1, for instance 0.999, or be null for no average")
