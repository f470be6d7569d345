"""Checks of a bank: degenerate features before training, and whether an argument is an open bank that fits a model."""

import functools
import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from clep.bank import FeatureBank
from clep.errors import InputError
from clep.models import SavedModel

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger(__name__)

ALL_ROWS = 20_000
BLOCKS, BLOCK_ROWS = 64, 16
HUGE = 1e6


def check_features(bank: FeatureBank, what: str, remedy: str) -> None:
    """Warn about non-finite or huge rows; raise if all rows are such, or all are zero or equal.

    All rows are read if there are at most 20,000, else 64 evenly spread blocks of 16 rows.

    Args:
        bank: the bank.
        what: name of a row in messages: "row" or "text embedding".
        remedy: remedy in messages.

    Raises:
        InputError: all rows that were read are NaN, infinite, huge, zero or equal.
    """
    row = sampled_rows(bank.n_rows)
    some = torch.cat([bank.take(piece).float().cpu() for piece in row.split(BLOCKS * BLOCK_ROWS)])
    scope = "" if len(row) == bank.n_rows else f" (of {len(row):,} that were sampled from {bank.n_rows:,})"
    finite = some.isfinite().all(dim=1)
    huge = finite & (some.abs() > HUGE).any(dim=1)
    for bad, problem in ((~finite, "not finite"), (huge, f"larger than {HUGE:,.0f}")):
        if bad.all():
            raise InputError(f"{bank.path}: all {what}s are {problem}{scope}; {remedy}")
        if bad.any():
            log.warning("%s: %s %s%s; %s", bank.path, _count(bank, row, bad, what), problem, scope, remedy)
    if not some.any():
        raise InputError(f"{bank.path}: all {what}s are zero{scope}; {remedy}")
    if len(some) > 1 and (some == some[0]).all():
        raise InputError(f"{bank.path}: all {what}s are equal{scope}; {remedy}")


def check_bank(model: SavedModel, bank: FeatureBank) -> None:
    """Check that a bank has features like those that a model was trained on.

    Raises:
        InputError: they are of another encoder or dimension.
    """
    model.check_bank(bank.encoder, bank.dim, None if bank.clock is None else bank.clock.rows_per_second)


def takes_bank(usage: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a method so that wrong arguments, or a bank that is not opened, are answered with its usage."""

    def decorate(method: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(method)
        def called(*arguments: P.args, **named: P.kwargs) -> R:
            try:
                bank = inspect.signature(method).bind(*arguments, **named).arguments["bank"]
            except TypeError as error:
                raise InputError(f"{method.__name__}: {error}; it is called as {usage}") from error
            if not isinstance(bank, FeatureBank):
                path = repr(str(bank)) if isinstance(bank, str | Path) else "PATH"
                raise InputError(
                    f"{method.__name__}: bank is a {type(bank).__name__}; open it first: "
                    f"bank = clep.bank.FeatureBank.open({path}), then {usage}"
                )
            return method(*arguments, **named)

        return called

    return decorate


def sampled_rows(n_rows: int) -> Int64[Tensor, " sample"]:
    """Return the indices of the rows to read: all of a small bank, else blocks that are spread evenly."""
    if n_rows <= ALL_ROWS:
        return torch.arange(n_rows)
    starts = torch.linspace(0, n_rows - BLOCK_ROWS, BLOCKS, dtype=torch.float64).long()
    return (starts[:, None] + torch.arange(BLOCK_ROWS)).reshape(-1)


def _count(bank: FeatureBank, row: Int64[Tensor, " sample"], bad: Bool[Tensor, " sample"], what: str) -> str:
    video = torch.searchsorted(bank.first_row.cpu(), row[bad], right=True) - 1
    count, videos = int(bad.sum()), len(video.unique())
    rows = f"{count:,} {what}{'s' if count > 1 else ''}"
    of = f" of {videos:,} video{'s' if videos > 1 else ''} (the first is {bank.videos[int(video[0])]})"
    return f"{rows}{of if len(bank) > 1 else ''} {'are' if count > 1 else 'is'}"
