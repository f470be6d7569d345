"""Objects from plain dicts, and from nothing but the classes that this package and `torch.nn` define.

A config that arrives with a checkpoint or with shared weights is data from a stranger. It may say which class and
which arguments, so what can be named is limited to an allow-list, and names are resolved without following
attributes out of it.
"""

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from clep.errors import InputError

ALLOWED = ("clep.", "torch.nn.")
TARGET = "_target_"


def build(config: Mapping[str, Any], /, **kwargs: Any) -> Any:
    """Instantiate a tree of plain dicts, each naming its class or function by `_target_`.

    Args:
        config: e.g. `{"_target_": "torch.nn.Linear", "in_features": 3, "out_features": 4}`. Values may be such
            dicts themselves, lists of them, or plain values; dicts without `_target_` stay dicts.
        kwargs: further arguments of the outermost target, passed as they are; they win over the config's.

    Raises:
        InputError: a target is outside `clep.` and `torch.nn.` or does not exist, an argument is unknown or
            missing, or the target itself refuses its arguments. The message starts with the key's path.
    """
    return _build_dict(config, "", callable, kwargs)


def build_module(config: Mapping[str, Any], path: str = "") -> nn.Module:
    """Instantiate a tree in which every target must be an `nn.Module` class, as for configs from strangers.

    Args:
        config: as for `build`.
        path: the key under which `config` stands, for messages.

    Raises:
        InputError: as for `build`, or a target is another class or a function.
    """
    return _build_dict(config, path, _is_module_class, {})


def call(target: Callable[..., Any], arguments: Mapping[str, Any], path: str = "") -> Any:
    """Call `target(**arguments)`; what does not fit its signature is told by the key's path and the accepted names.

    Raises:
        InputError: an argument is unknown or missing, or `target` raised ValueError or TypeError.
    """
    name = getattr(target, "__qualname__", str(target))
    _check_arguments(target, name, arguments, path)
    try:
        return target(**arguments)
    except (ValueError, TypeError) as error:
        raise InputError(f"{path or 'config'}: {name}: {error}") from error


def _build_value(value: Any, path: str, accepts: Callable[[Any], bool]) -> Any:
    if isinstance(value, Mapping):
        if TARGET in value:
            return _build_dict(value, path, accepts, {})
        return {key: _build_value(item, _join(path, key), accepts) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_build_value(item, f"{path}[{place}]", accepts) for place, item in enumerate(value)]
    return value


def _build_dict(config: Mapping[str, Any], path: str, accepts: Callable[[Any], bool], extra: Mapping[str, Any]) -> Any:
    name = config.get(TARGET)
    if not isinstance(name, str):
        raise InputError(f"{_join(path, TARGET)}: expected the dotted name of a class, got {name!r}")
    target = _resolve(name, _join(path, TARGET))
    if not accepts(target):
        raise InputError(f"{_join(path, TARGET)}: {name} is not an nn.Module class; only those can be built here")
    arguments = {}
    for key, value in config.items():
        if key == TARGET:
            continue
        if key.startswith("_"):
            raise InputError(f"{_join(path, key)}: only {TARGET} may start with an underscore")
        if key not in extra:
            arguments[key] = _build_value(value, _join(path, key), accepts)
    return call(target, {**arguments, **extra}, path)


def _resolve(name: str, path: str) -> Any:
    """The class, function or classmethod called `name`, if it and every step to it lie inside the allow-list."""
    refused = f"{path}: {name!r} is not allowed; a target is a class or function defined under {' or '.join(ALLOWED)}"
    parts = name.split(".")
    if not name.startswith(ALLOWED) or any(not part.isidentifier() or part.startswith("_") for part in parts):
        raise InputError(refused)
    found, rest = _import_longest(parts, path)
    for part in rest:
        if inspect.ismodule(found) and not _inside(found.__name__):
            raise InputError(refused)
        if not hasattr(found, part):
            near = difflib.get_close_matches(part, [item for item in dir(found) if not item.startswith("_")], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InputError(f"{path}: {name!r} does not exist: {found.__name__} has no {part!r}{hint}")
        found = getattr(found, part)
    defined_in = getattr(found, "__module__", None)
    is_code = inspect.isclass(found) or inspect.isfunction(found) or inspect.ismethod(found)
    if not is_code or not isinstance(defined_in, str) or not _inside(defined_in):
        raise InputError(refused)
    return found


def _import_longest(parts: list[str], path: str) -> tuple[Any, list[str]]:
    """Import as many leading parts as are modules; return the last module and the parts left."""
    found = None
    for count in range(1, len(parts)):
        module = ".".join(parts[:count])
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise InputError(f"{path}: {module} needs {error.name!r}, which is not installed") from error
            return found, parts[count - 1 :]
    return found, parts[-1:]


def _inside(module: str) -> bool:
    return f"{module}.".startswith(ALLOWED)


def _is_module_class(target: Any) -> bool:
    return inspect.isclass(target) and issubclass(target, nn.Module)


def _check_arguments(target: Callable[..., Any], name: str, arguments: Mapping[str, Any], path: str) -> None:
    try:
        parameters = inspect.signature(target).parameters.values()
    except ValueError:
        return  # a class written in C, which tells its arguments only by refusing them
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    by_name = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    accepted = [parameter.name for parameter in by_name]
    takes = f"{name} takes: {', '.join(accepted) or 'nothing'}"
    for key in arguments:
        if key not in accepted:
            near = difflib.get_close_matches(key, accepted, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise InputError(f"{_join(path, key)}: unknown argument{hint} {takes}")
    missing = [p.name for p in by_name if p.default is p.empty and p.name not in arguments]
    if missing:
        raise InputError(f"{path or 'config'}: missing {', '.join(missing)}. {takes}")


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
