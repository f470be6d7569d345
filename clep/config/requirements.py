"""What the parts of a run need of its settings, and which files they read: parts declare it, one check compares.

A part is a class that a config names by `_target_`. Its classmethod `requires(config)` returns the settings of the run
that it needs; its attribute `reads` names the constructor arguments that are paths of files. A part of the user's own
declares the same and gets the same messages.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clep.config.targets import ANYTHING, TARGET, Targets, find_parts, find_target
from clep.errors import InputError


@dataclass(frozen=True)
class Need:
    """A setting that a part needs.

    Attributes:
        value: its value; `...` stands for any value but null.
        reason: why the part needs it.
        remedy: what the user should do; empty for "set KEY=VALUE".
    """

    value: Any = ...
    reason: str = ""
    remedy: str = ""


def check_requirements(settings: Mapping[str, Any], targets: Targets = ANYTHING) -> None:
    """Compare what every part in `settings` requires with the settings themselves.

    A key is a path into `settings`, e.g. "data.window.pool". A key that is left out counts at its default. A setting
    that the part at this path does not have (a DataModule of the user's own without `window`) is not compared.

    Args:
        settings: of a run, plain values.
        targets: names that may be imported.

    Raises:
        InputError: names the part, the setting and the remedy.
    """
    for where, part in find_parts(settings):
        target = find_target(part[TARGET], where, targets)
        requires = getattr(target, "requires", None)
        if not callable(requires):
            continue
        own = {str(key): value for key, value in part.items() if not str(key).startswith("_")}
        for key, need in requires(own).items():
            need = need if isinstance(need, Need) else Need(need)
            for found in _values(settings, key, targets):
                if not _fits(found, need.value):
                    raise InputError(_message(where, target, key, need, found))


def files_read(config: Any, targets: Targets = ANYTHING) -> set[Path]:
    """Return the paths of all files and folders that the parts in a config read, by their attribute `reads`."""
    paths = set()
    for where, part in find_parts(config):
        for argument in getattr(find_target(part[TARGET], where, targets), "reads", ()):
            if isinstance(part.get(argument), str | Path):
                paths.add(Path(part[argument]))
    return paths


def _message(where: str, target: Callable[..., Any], key: str, need: Need, found: Any) -> str:
    wanted = "" if need.value is ... else f"={_shown(need.value)}"
    reason = f" ({need.reason})" if need.reason else ""
    remedy = need.remedy or (f"set {key}" if need.value is ... else f"set {key}={_shown(need.value)}")
    name = getattr(target, "__name__", str(target))
    return f"{where}: {name} needs {key}{wanted}{reason}, but {key} is {_shown(found)}; {remedy}"


def _fits(found: Any, wanted: Any) -> bool:
    return found is not None if wanted is ... else found == wanted


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _values(settings: Mapping[str, Any], key: str, targets: Targets) -> Iterator[Any]:
    """Yield the value of a setting: its default where it is left out, nothing where the part there has none."""
    found: Any = settings
    for name in key.split("."):
        if found is None:
            break
        if not isinstance(found, Mapping):
            return
        if name in found:
            found = found[name]
            continue
        if TARGET not in found:
            found = None
            break
        parameter = inspect.signature(find_target(found[TARGET], key, targets)).parameters.get(name)
        if parameter is None:
            return
        found = None if parameter.default is parameter.empty else parameter.default
    yield found
