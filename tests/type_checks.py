"""Shapes of `clep` enforced at run time by jaxtyping and beartype; its other types too where all are asked for.

mypy checks the plain types, and cannot check shapes.
"""

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray, install_import_hook, jaxtyped

_CHECKER = "beartype.beartype"
_beartype = beartype(conf=BeartypeConf(violation_type=TypeError))  # as without checks, where a type is refused


def install(package: str, everything: bool) -> None:
    """Check arguments and results of the functions and dataclasses of a package that is imported later.

    All of them if `everything`, otherwise those with shapes in their signature.

    jaxtyping's own hook has beartype decorate each function twice, and binds and checks its arguments three times a
    call, for the sake of its messages. Here they are checked once, and bound only where a signature has shapes.
    Functions are decorated when they are first called: decorating all of them takes 5 s in each process, and most
    tests call few.
    """
    jaxtyping.jaxtyped = functools.partial(_checked, everything=everything)  # the name that the import hook calls
    install_import_hook(package, _CHECKER)


def _checked(*, typechecker: Any, everything: bool) -> Callable[[Any], Any]:
    def decorate(found: Any) -> Any:
        if inspect.isclass(found):
            if dataclasses.is_dataclass(found) and "__init__" in vars(found):
                found.__init__ = decorate(found.__init__)  # type: ignore[misc]
            return found
        if not inspect.isfunction(found) or inspect.iscoroutinefunction(found) or inspect.isgeneratorfunction(found):
            return jaxtyped(found, typechecker=typechecker)
        hints = list(getattr(found, "__annotations__", {}).values())
        if not hints or not (everything or any(map(_is_quoted, hints)) or any(map(_has_shapes, hints))):
            return found
        return _at_first_call(functools.partial(_check, typechecker), found)

    return decorate


def _at_first_call(decorate: Callable[[Any], Any], function: Any) -> Any:
    decorated = None

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal decorated
        if decorated is None:
            decorated = decorate(function)
        return decorated(*args, **kwargs)

    return call


def _check(typechecker: Any, function: Any) -> Any:
    hints = list(function.__annotations__.values())
    if any(map(_is_quoted, hints)):  # jaxtyping's own way skips names that are imported for static checks only
        return jaxtyped(function, typechecker=typechecker)
    checked = _beartype(function)
    return jaxtyped(checked, typechecker=None) if any(map(_has_shapes, hints)) else checked


def _is_quoted(hint: Any) -> bool:
    """Return whether a hint, or a part of it, is a string that names a type."""
    if isinstance(hint, str | typing.ForwardRef):
        return True
    if typing.get_origin(hint) is typing.Literal:
        return False
    return any(map(_is_quoted, hint if isinstance(hint, list) else typing.get_args(hint)))


def _has_shapes(hint: Any) -> bool:
    return (inspect.isclass(hint) and issubclass(hint, AbstractArray)) or any(map(_has_shapes, typing.get_args(hint)))
