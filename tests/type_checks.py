"""Shapes and types of `clep` enforced at run time: jaxtyping where a signature has shapes, beartype alone elsewhere."""

import dataclasses
import inspect
import typing
from collections.abc import Callable
from typing import Any

import jaxtyping
from beartype import beartype
from jaxtyping import AbstractArray, install_import_hook, jaxtyped

_CHECKER = "beartype.beartype"


def install(package: str) -> None:
    """Check arguments and results of every function and dataclass of a package that is imported later.

    jaxtyping's own hook has beartype decorate each function twice, and binds and checks its arguments three times a
    call, for the sake of its messages. Here they are checked once, and bound only where a signature has shapes.
    """
    jaxtyping.jaxtyped = _checked  # the name that the import hook calls
    install_import_hook(package, _CHECKER)


def _checked(*, typechecker: Any) -> Callable[[Any], Any]:
    def decorate(found: Any) -> Any:
        if inspect.isclass(found):
            if dataclasses.is_dataclass(found) and "__init__" in vars(found):
                found.__init__ = decorate(found.__init__)  # type: ignore[misc]
            return found
        checked = beartype(found)
        shapes = not inspect.isfunction(found) or any(map(_has_shapes, found.__annotations__.values()))
        return jaxtyped(checked, typechecker=None) if shapes else checked

    return decorate


def _has_shapes(hint: Any) -> bool:
    if isinstance(hint, str):  # written in quotes, and read later
        return True
    return (inspect.isclass(hint) and issubclass(hint, AbstractArray)) or any(map(_has_shapes, typing.get_args(hint)))
