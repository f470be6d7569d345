"""Build objects from plain dicts that name their class by `_target_`: the only builder of clep.

Unless the caller says otherwise, a config counts as a stranger's, and builds registered classes only (see `targets`).
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from clep.config.check import check_call
from clep.config.targets import ANYTHING, REGISTERED_ONLY, TARGET, Targets, find_target
from clep.errors import InputError

PARTIAL, ALLOW = "_partial_", "allow"


def build(config: Any, /, *, targets: Targets = REGISTERED_ONLY, key: str = "", **arguments: Any) -> Any:
    """Build a tree of plain dicts, each naming its class by `_target_`.

    Args:
        config: e.g. `{"_target_": "torch.nn.Linear", "in_features": 3, "out_features": 4}`. Values may be such dicts
            themselves, lists of them, or plain values; dicts without `_target_` stay dicts. With `_partial_: true` the
            result is a function of the arguments that are left. A DictConfig is resolved first.
        targets: which names may be imported; names are checked before anything is.
        key: path of `config` in the settings of the run, for messages.
        arguments: further arguments of the outermost target, not built; they override the config's.

    Raises:
        InputError: a target is not among `targets` or does not exist, an argument is unknown, missing or of another
            type, or the target itself refuses its arguments; or a part that the user did not type has an argument
            `allow`. The message starts with the key.
    """
    return _build_dict(_plain(config), key, targets, _is_any, arguments)


def build_typed(config: Any, /, **arguments: Any) -> Any:
    """Build what the user typed: as `build`, with any importable class or function as a target."""
    return build(config, targets=ANYTHING, **arguments)


def build_module(config: Mapping[str, Any], key: str = "", targets: Targets = REGISTERED_ONLY) -> nn.Module:
    """Build a tree in which every target must be an `nn.Module` class, such as the parts of a saved model.

    Args:
        config: as for `build`.
        key: path of `config` in the settings, for messages.
        targets: as for `build`.

    Raises:
        InputError: as for `build`, or a target is another class or a function.
    """
    return _build_dict(config, key, targets, _is_module_class, {})


def call(target: Callable[..., Any], arguments: Mapping[str, Any], key: str = "") -> Any:
    """Call `target(**arguments)` after a check of the arguments against its signature.

    Raises:
        InputError: an argument is unknown, missing or of another type, or `target` raised ValueError or TypeError.
    """
    check_call(target, dict(arguments), key)
    try:
        return target(**arguments)
    except (ValueError, TypeError) as error:
        name = getattr(target, "__qualname__", str(target))
        raise InputError(f"{key or 'config'}: {name}: {error}") from error


def _plain(config: Any) -> Any:
    if not isinstance(config, DictConfig | ListConfig):
        return config
    try:
        return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise InputError(str(error).split("\n")[0]) from error


def _build_value(value: Any, key: str, targets: Targets, accepts: Callable[[Any], bool]) -> Any:
    if isinstance(value, Mapping):
        if TARGET in value:
            return _build_dict(value, key, targets, accepts, {})
        return {name: _build_value(item, _join(key, name), targets, accepts) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_build_value(item, f"{key}[{index}]", targets, accepts) for index, item in enumerate(value)]
    return value


def _build_dict(
    config: Any, key: str, targets: Targets, accepts: Callable[[Any], bool], extra: Mapping[str, Any]
) -> Any:
    if not isinstance(config, Mapping) or TARGET not in config:
        raise InputError(f"{_join(key, TARGET)}: expected a dict with the dotted name of a class, got {config!r}")
    target = find_target(config[TARGET], key, targets)
    if not accepts(target):
        raise InputError(f"{_join(key, TARGET)}: {config[TARGET]} is not an nn.Module class; only those are built here")
    arguments = {}
    for name, value in config.items():
        if name in (TARGET, PARTIAL) or name in extra:
            continue
        if name == ALLOW and not targets.anything:  # a stranger's TrainedEncoder would name the classes itself
            raise InputError(f"{_join(key, name)} is not allowed in what is read from a file; type it yourself")
        if str(name).startswith("_"):
            raise InputError(f"{_join(key, name)}: only {TARGET} and {PARTIAL} may start with an underscore")
        arguments[name] = _build_value(value, _join(key, name), targets, accepts)
    if config.get(PARTIAL):
        return functools.partial(target, **{**arguments, **extra})
    return call(target, {**arguments, **extra}, key)


def _is_any(target: Any) -> bool:
    return True


def _is_module_class(target: Any) -> bool:
    return inspect.isclass(target) and issubclass(target, nn.Module)


def _join(key: str, name: Any) -> str:
    return f"{key}.{name}" if key else str(name)
