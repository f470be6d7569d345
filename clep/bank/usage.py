"""Answers to wrong arguments of methods that take an opened bank."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from clep.bank.feature_bank import FeatureBank
from clep.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")


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
