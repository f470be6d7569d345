"""Exponential moving average (EMA) of a model's weights."""

import copy
from typing import TypeVar

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from clep.errors import InputError

Model = TypeVar("Model", bound=nn.Module)


def averaged_copy(model: Model) -> Model:
    """Return a copy of `model` for the average; its parameters need no gradient.

    Raises:
        InputError: 16-bit weights, in which the small updates of an average would be rounded away.
    """
    average = copy.deepcopy(model).requires_grad_(False)
    if any(parameter.dtype in (torch.bfloat16, torch.float16) for parameter in average.parameters()):
        raise InputError("ema: updates of an average of 16-bit weights would be rounded away; use precision=bf16-mixed")
    return average


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float | int, step: int) -> None:
    """Move `average` towards `model` after an optimizer step: average ← d · average + (1 − d) · model.

    d grows as (1 + step) / (10 + step) up to `decay`, so that the initial weights do not dominate a short run's
    average. The step count is kept on the host, so nothing waits for the GPU. Buffers, such as the statistics of a
    batch norm, are copied.

    Args:
        average: made by `averaged_copy`.
        model: as trained.
        decay: in (0, 1), reached in a long run; 0.999 averages over about 1,000 steps.
        step: optimizer steps before this one.
    """
    now = min(decay, (1 + step) / (10 + step))
    held, trained = list(average.parameters()), list(model.parameters())
    get_ema_multi_avg_fn(now)(held, trained, step)
    for buffer, current in zip(average.buffers(), model.buffers(), strict=True):
        buffer.copy_(current)


def check_decay(decay: float | int | None) -> None:
    """Refuse a decay outside (0, 1).

    Raises:
        InputError: it is not between 0 and 1.
    """
    if decay is not None and not 0 < decay < 1:
        raise InputError(f"ema={decay} must lie between 0 and 1, for instance 0.999, or be null for no average")
