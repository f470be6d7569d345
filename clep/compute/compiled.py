"""Functions compiled by `torch.compile` where that works."""

import logging
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

log = logging.getLogger(__name__)

Function = TypeVar("Function", bound=Callable[..., Any])


def compile_or_keep(function: Function, trial: Callable[[Function], Any], effect: str, **options: Any) -> Function:
    """Return a function compiled by `torch.compile`, or the function itself, with a warning, where compiling fails.

    Args:
        function: to be compiled.
        trial: calls the compiled function as it will be used; compiling happens here.
        effect: what a failure leads to, for the warning: "the steps run without it".
        options: for `torch.compile`.

    Raises:
        torch.OutOfMemoryError, MemoryError: the trial needs more memory than there is, which it would without
            compiling too.
    """
    try:
        compiled = cast(Function, torch.compile(function, **options))
        trial(compiled)
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # compilers fail in many ways, and the work can go on without
        reason = str(error).strip().splitlines()
        log.warning(
            "compile=true: torch.compile failed (%s: %s), so %s",
            *(type(error).__name__, reason[0] if reason else "no reason given", effect),
        )
        return function
    return compiled
