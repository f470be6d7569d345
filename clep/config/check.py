"""Check config values against the signatures of what they configure, before anything starts.

Hydra accepts `trainer.max_epochs=abc` and fails minutes later, far from the cause. Here each node with a `_target_` is
compared with the parameters and type hints of what it would call.
"""

import difflib
import inspect
import math
import re
import shlex
import types
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from beartype import BeartypeConf
from beartype.door import is_bearable
from beartype.roar import BeartypeException

from clep.config.other_names import choices_known_as
from clep.config.overrides import override, typed_word
from clep.config.targets import REGISTERED_ONLY, TARGET, Targets, check_targets, find_target
from clep.config.trainer import check_trainer
from clep.errors import InputError

_TRAINER = ("pytorch_lightning.trainer.trainer", "Trainer")
_OWN_KEYS = {TARGET, "_partial_"}
_INT_IS_FLOAT = BeartypeConf(is_pep484_tower=True)
# Least and greatest values of arguments that mean the same wherever they occur in clep, torch and Lightning.
_RANGES: dict[str, tuple[float | int, float | int]] = {
    **dict.fromkeys(("batch_size", "val_batch_size", "clip_batch", "accumulate_grad_batches"), (1, math.inf)),
    **dict.fromkeys(("check_val_every_n_epoch",), (1, math.inf)),
    **dict.fromkeys(("out_dim", "hidden_dim", "depth", "heads", "layers", "max_rows"), (1, math.inf)),
    **dict.fromkeys(("num_workers", "lr", "weight_decay", "gradient_clip_val", "offset_s", "min_words"), (0, math.inf)),
    **dict.fromkeys(("limit_train_batches", "limit_val_batches", "log_every_n_steps"), (0, math.inf)),
    **dict.fromkeys(("max_epochs", "max_steps"), (-1, math.inf)),
    "seed": (0, 2**32 - 1),
    **dict.fromkeys(("dropout", "val_fraction"), (0, 1)),
}
_RANGES_OF = ("clep", "torch", "pytorch_lightning")
_MOST_SHOWN = 60  # choices in one message: the videos of a bank may be thousands
# Groups of settings whose entries are parts, each with a class, or null.
_GROUPS_OF_PARTS = ("callbacks", "evaluator", "logger", "optim")
_WORDS = {**dict.fromkeys(("yes", "on", "true"), True), **dict.fromkeys(("no", "off", "false"), False)}
_SCALES = {"%": 0.01, "k": 1e3, "m": 1e6}


class OneOf:
    """Choices of a text argument, where other texts raise only later: `Annotated[str, OneOf("relu", "gelu")]`."""

    def __init__(self, *choices: str) -> None:
        self.choices = choices


class UnknownOption(InputError):
    """A key that is not an option.

    Attributes:
        problem: the message without a suggestion.
        key: full key as typed.
    """

    def __init__(self, problem: str, key: str, suggestion: str) -> None:
        super().__init__(f"{problem}. {suggestion}")
        self.problem, self.key = problem, key


class TextExpected(InputError):
    """A number where a text is expected, such as a name that consists of digits.

    Attributes:
        problem: the message without the quoting that helps.
        value: the number.
    """

    def __init__(self, problem: str, key: str, value: Any) -> None:
        super().__init__(f"{problem}; a name that looks like one needs quotes: {typed_word(key, str(value))}")
        self.problem, self.value = problem, value


def check_config(config: Any, where: str = "", targets: Targets = REGISTERED_ONLY) -> None:
    """Check a plain container (dicts, lists, scalars) and every `_target_` in it.

    Args:
        config: plain values.
        where: its path in the settings, for messages.
        targets: names that may be imported. All names are checked before the first import.

    Raises:
        InputError: a target is not among `targets` or cannot be imported, a key is not one of its parameters, a
            required one is missing, or a value is of another type; the message gives the full key as one types it.
    """
    check_targets(config, targets, where)
    if not where and isinstance(config, dict):
        _check_parts(config)
    _check_nodes(config, where, targets)


def _check_parts(config: dict[str, Any]) -> None:
    """Refuse a text, number or boolean in place of a part: `optim.schedule=cosine`, `evaluator.kinetics=true`."""
    for group in _GROUPS_OF_PARTS:
        for name, item in (config.get(group) or {}).items() if isinstance(config.get(group), dict) else ():
            if item is not None and not isinstance(item, dict):
                word = override(f"{group}.{name}", item)
                raise InputError(
                    f"{word} is not a part: {group}={name if item is True else 'NAME'} chooses one of conf/{group}, "
                    f"{group}.{name}.KEY=VALUE sets one of its settings, {group}.{name}.{TARGET}=MODULE.CLASS its class"
                )


def _check_nodes(config: Any, where: str, targets: Targets) -> None:
    if isinstance(config, list):
        for index, item in enumerate(config):
            _check_nodes(item, f"{where}[{index}]", targets)
    elif isinstance(config, dict):
        for key, item in config.items():
            _check_nodes(item, f"{where}.{key}" if where else str(key), targets)
        if TARGET in config:
            values = {key: value for key, value in config.items() if key not in _OWN_KEYS}
            target = find_target(config[TARGET], where, targets)
            if (target.__module__, target.__qualname__) == _TRAINER:
                check_trainer(values, where, did_you_mean)
            check_call(target, values, where, partial=bool(config.get("_partial_")), built=False)


def check_call(
    target: Callable[..., Any], values: dict[str, Any], where: str, partial: bool = False, built: bool = True
) -> None:
    """Check `values` as keyword arguments of `target`; `where` is the config key with which messages start.

    A YAML list may stand for a tuple, a string for a path, an int for a float.

    Args:
        target: a class or function.
        values: the arguments.
        where: a config key, or "".
        partial: required arguments may be missing.
        built: whether the parts among the values, dicts with a `_target_`, are built already; those that are not
            cannot be compared with the hint, and pass.

    Raises:
        InputError: see `check_config`.
    """
    name = getattr(target, "__qualname__", str(target))
    if not where and inspect.isfunction(target):  # the settings of a command
        name = "this command"
    parameters = _parameters(target)
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    named = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    prefix = f"{where}." if where else ""
    for key in values:
        if key not in named and not takes_any:
            problem = f"{prefix}{key}: {name} has no option {key!r}"
            raise UnknownOption(problem, f"{prefix}{key}", did_you_mean(key, named))
    if not partial:
        missing = [key for key, p in named.items() if p.default is p.empty and key not in values]
        if missing:
            raise InputError(f"{where or name}: {name} needs {', '.join(repr(key) for key in missing)}")
    hints = _hints(target)
    for key, value in values.items():
        choices = _choices(hints.get(key))
        if choices and isinstance(value, str) and value not in choices:
            raise InputError(f"{prefix}{key}={value} is unknown. {did_you_mean(value, choices)}")
        later = not built and _has_target(value)
        if key in hints and not later and not _fits(value, hints[key]):
            problem = f"{prefix}{key}={value!r} is {_kind(value)}, but {name} takes {_describe(hints[key])} there"
            if isinstance(value, int | float) and not isinstance(value, bool) and _fits("text", hints[key]):
                raise TextExpected(problem, f"{prefix}{key}", value)
            raise InputError(f"{problem}{_remedy(f'{prefix}{key}', value, hints[key])}")
        if key in _RANGES and target.__module__.split(".")[0] in _RANGES_OF:
            _check_range(f"{prefix}{key}", value, *_RANGES[key])


def _remedy(key: str, value: Any, hint: Any) -> str:
    """Return what to type instead of a value of another type, as the end of a sentence; empty if nothing is known."""
    for meant in _readings(value):
        if _fits(meant, hint):
            return f"; write {shlex.quote(override(key, meant))}"
    if value == "":
        return "; the value behind = is missing"
    kinds = [kind for kind in (typing.get_args(hint) if _is_union(hint) else [hint]) if inspect.isclass(kind)]
    parts = [kind for kind in kinds if kind.__module__.split(".")[0] in ("clep", "torch")]
    if parts and not isinstance(value, dict | list):
        named = ", ".join(parameter.name for parameter in _parameters(parts[0]))
        return f"; it has settings of its own ({named}): {key}.NAME=VALUE"
    return ""


def _readings(value: Any) -> list[Any]:
    """Return the values that may be meant: 10.0 is 10, "10k" is 10000, "10%" is 0.1, "yes" is true, a is [a]."""
    found: list[Any] = []
    if isinstance(value, str):
        text = value.strip().lower()
        number = re.fullmatch(r"([-+]?\d[\d_]*(?:\.\d*)?(?:e[-+]?\d+)?) *(%|k|m|fps|hz|px)?", text)
        if number:
            scaled = round(float(number.group(1).replace("_", "")) * _SCALES.get(number.group(2) or "", 1.0), 9)
            found += [int(scaled)] if scaled.is_integer() else []
            found += [scaled]
        found += [_WORDS[text]] if text in _WORDS else []
        found += [None] if text in ("", "none", "null", "no", "off") else []
    elif isinstance(value, bool):
        found += [] if value else [None]
    elif isinstance(value, float):
        found += [int(value)] if value.is_integer() else []
    elif value in (0, 1):
        found += [bool(value)]
    return found if isinstance(value, dict | list) or value is None else [*found, [value]]


def _check_range(key: str, value: Any, least: float | int, greatest: float | int) -> None:
    if isinstance(value, int | float) and not isinstance(value, bool) and not least <= value <= greatest:
        most = "" if greatest == math.inf else f" and at most {greatest}"
        raise InputError(f"{key}={value} must be at least {least}{most}")


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return a sentence with the nearest of `choices`, or where none is near with all, or the first of very many."""
    choices = list(choices)
    if meant := choices_known_as(word, choices):
        return f"Did you mean {meant[0]!r}?"
    by_lower = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(word.lower(), by_lower, n=3, cutoff=0.6)
    if near:
        return f"Did you mean {' or '.join(repr(by_lower[choice]) for choice in near)}?"
    shown = choices if len(choices) <= _MOST_SHOWN else [*choices[:5], f"… ({len(choices):,} in all)"]
    return f"Choose from: {', '.join(shown)}." if choices else "It takes none."


def _parameters(target: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters of a constructor or function; `**options` of a class stand for those of its base class."""
    if not inspect.isclass(target):
        return _signature(target)
    if _takes_none(target):
        return []
    found: dict[str, inspect.Parameter] = {}
    for home in _constructing(target):
        found = {name: one for name, one in found.items() if one.kind is not one.VAR_KEYWORD}
        found |= {one.name: one for one in _signature(home.__init__)[1:] if one.name not in found}
    return list(found.values())


def _signature(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except ValueError:  # written in C, without a readable signature
        kinds = inspect.Parameter
        return [kinds("self", kinds.POSITIONAL_ONLY), kinds("arguments", kinds.VAR_KEYWORD)]


def _constructing(target: type[Any]) -> list[type[Any]]:
    """Return the class that defines a class's constructor and, behind each `**options`, the next one of clep.

    Constructors of other packages (Lightning, torch) are not known to take what their subclasses pass on.
    """
    defining = [one for one in target.__mro__ if "__init__" in vars(one)]
    chain = defining[:1]
    for one in defining[1:]:
        kinds = {parameter.kind for parameter in _signature(vars(chain[-1])["__init__"])}
        if inspect.Parameter.VAR_KEYWORD not in kinds or not one.__module__.startswith("clep."):
            break
        chain.append(one)
    return chain


def _takes_none(target: type[Any]) -> bool:
    # The inherited constructors have a signature that accepts anything, and raise on any argument.
    from torch import nn  # here, so that a list of jobs is shown without waiting for PyTorch

    return target.__new__ is object.__new__ and target.__init__ in (object.__init__, nn.Module.__init__)


def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    constructors = [one.__init__ for one in _constructing(target)] if inspect.isclass(target) else [target]
    found: dict[str, Any] = {}
    for constructor in constructors:
        try:
            found = typing.get_type_hints(inspect.unwrap(constructor), include_extras=True) | found
        except (NameError, TypeError, SyntaxError):
            return {}
    return found


def _fits(value: Any, hint: Any) -> bool:
    if isinstance(value, bool) and not _accepts_bool(hint):
        return False
    readings = [value]
    if isinstance(value, list):
        readings.append(tuple(value))
    if isinstance(value, str):
        readings.append(Path(value))
    try:
        return any(is_bearable(reading, hint, conf=_INT_IS_FLOAT) for reading in readings)
    except BeartypeException:
        return True


def _choices(hint: Any) -> tuple[str, ...]:
    """Return the texts that an argument takes, where it takes no others; () for other types."""
    kinds = [kind for kind in typing.get_args(hint) if kind is not types.NoneType] if _is_union(hint) else [hint]
    if any(typing.get_origin(kind) is not typing.Literal and not hasattr(kind, "__metadata__") for kind in kinds):
        return ()
    found = [one for kind in kinds for one in getattr(kind, "__metadata__", ()) if isinstance(one, OneOf)]
    texts = [text for one in found for text in one.choices]
    texts += [text for kind in kinds if not hasattr(kind, "__metadata__") for text in typing.get_args(kind)]
    return tuple(text for text in texts if isinstance(text, str))


def _has_target(value: Any) -> bool:
    """Return whether a value contains a part that is built later, so that its type cannot be compared yet."""
    if isinstance(value, dict):
        return "_target_" in value or any(map(_has_target, value.values()))
    return isinstance(value, list) and any(map(_has_target, value))


def _accepts_bool(hint: Any) -> bool:
    # To Python a bool is an int; to a user `batch_size=true` is a mistake.
    kinds = set(typing.get_args(hint)) if _is_union(hint) else {hint}
    return bool in kinds or not kinds & {int, float}


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _kind(value: Any) -> str:
    return "nothing (null)" if value is None else f"of type {type(value).__name__}"


def _describe(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")
