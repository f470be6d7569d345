"""Command lines `key=value`: reading, checks, hints and `--help` follow from one declaration of the options.

The declaration is a dataclass or the signature of a function: names, defaults, type hints, and the meanings in its
docstring. Settings that Hydra composes are checked in `clep.config.mistakes`.
"""

import inspect
import logging
import re
import shlex
import sys
import textwrap
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any

from clep.compute import Stopped, graceful_shutdown
from clep.config.check import check_call, did_you_mean
from clep.config.mistakes import nearest_option
from clep.config.other_names import OTHER_NAMES, known_as
from clep.config.overrides import listed, plain_value
from clep.config.words import joined, refuse_home_sign
from clep.errors import InputError

log = logging.getLogger(__name__)

HELP = ("--help", "-h", "help")
_FLAGS = {**dict.fromkeys(("true", "yes", "1"), True), **dict.fromkeys(("false", "no", "0"), False)}


def run_command(
    run: Callable[[list[str]], int | None],
    usage: Callable[[list[str]], str],
    words: Sequence[str] | None,
    needs_words: bool = True,
) -> int:
    """Call `run` with the words, or print `usage` for `--help`; return the exit status.

    Args:
        run: may return a status.
        usage: returns the help.
        words: None for those of this process.
        needs_words: whether no words mean `--help`.

    Returns:
        0, 1 after an InputError, which is printed, or 128 + signal after Ctrl-C, SIGTERM or SIGHUP.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    words = list(sys.argv[1:] if words is None else words)

    def work() -> int | None:
        if set(HELP) & set(words) or (needs_words and not words):
            sys.stdout.write(usage(words) + "\n")
            return 0
        with graceful_shutdown():
            return run(words)

    return exit_status(work, log.error)


def exit_status(work: Callable[[], int | None], report: Callable[[str], None]) -> int:
    """Call `work` and return its status, 0 for None; report why it ended, and return another status, where it raised.

    Returns:
        1 after an InputError, 128 + signal after Ctrl-C, SIGTERM or SIGHUP.
    """
    again = "run the same command again to continue"
    try:
        return work() or 0
    except InputError as error:
        report(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        report(f"interrupted; {again}")
        return 130
    except Stopped as stopped:
        report(f"stopped by signal {stopped.signal}; {again}")
        return 128 + stopped.signal


def read_options(
    target: Callable[..., Any], words: Sequence[str], command: str, names: Sequence[str] = (), positional: str = ""
) -> dict[str, Any]:
    """Read `key=value` words as arguments of `target`.

    Args:
        target: dataclass or function that declares the options.
        words: of the command line.
        command: for messages.
        names: parameters that are options; () for all.
        positional: option that is meant by a path without a key.

    Raises:
        InputError: as `split_words` and `typed_values`, an option is unknown, or a required one is missing.
    """
    options = _parameters(target, names)
    given, others = split_words(words, options, positional)
    if others:
        key = others[0].partition("=")[0]
        raise InputError(f"{command} has no option {key!r}. {nearest_option(key, options, takes_paths=False)}")
    for name, parameter in options.items():
        if parameter.default is parameter.empty and name not in given:
            raise InputError(f"{name}=VALUE is needed: {_meanings(target)[name]}")
    return typed_values(target, given)


def split_words(
    words: Sequence[str],
    options: Iterable[str],
    positional: str = "",
    choices: Mapping[str, Iterable[str]] | None = None,
) -> tuple[dict[str, str], list[str]]:
    """Split a command line into the values of a command's own options, as typed, and its other words.

    Args:
        words: of the command line.
        options: names of the command's own options.
        positional: option that is meant by a path without a key.
        choices: names that an option takes; one without a key means that option.

    Raises:
        InputError: a word is neither `key=value` nor `~key`, starts a path with `~`, or gives an option twice or empty.
    """
    known, given, others = list(options), dict[str, str](), list[str]()
    refuse_home_sign(words)
    for index, word in enumerate(words):
        key, equals, value = word.partition("=")
        if (not equals and not word.startswith("~")) or word.startswith("-"):
            meant = _meant(words, index, known, positional, choices or {})
            hint = f"Did you mean {shlex.quote(meant)}?" if meant else did_you_mean(word.lstrip("-"), known)
            raise InputError(f"{word!r} is not key=value. {hint}")
        if key not in known:
            others.append(word)
        elif key in given or not value:
            raise InputError(f"{key} is given {'twice' if key in given else 'without a value'}; write {key}=VALUE once")
        else:
            given[key] = value
    return given, others


def _meant(
    words: Sequence[str], index: int, known: Sequence[str], positional: str, choices: Mapping[str, Iterable[str]]
) -> str | None:
    """Guess the `key=value` that was meant by a word of another form; None without a guess."""
    word, meant = words[index], joined(words, index)
    if named := [option for option, names in choices.items() if word in names]:
        return f"{named[0]}={word}"
    key, _, value = (meant or "").partition("=")
    if meant and key not in known:
        other = next((one for one in known if known_as(key, OTHER_NAMES.get(one, ()))), None)
        meant = f"{other}={value}" if other else meant if word.startswith("-") or "." in key else None
    return f"{positional}={word}" if meant is None and positional and ("/" in word or Path(word).exists()) else meant


def typed_values(target: Callable[..., Any], given: Mapping[str, str]) -> dict[str, Any]:
    """Convert values as typed to the type hints of `target`; a list is `a,b` or `[a,b]`.

    Raises:
        InputError: a value has another type.
    """
    hints = typing.get_type_hints(target, include_extras=True)
    values = {key: _typed(key, text, hints[key]) for key, text in given.items()}
    check_call(target, values, "", partial=True)
    return values


def options_help(target: Callable[..., Any], names: Sequence[str] = (), **defaults: Any) -> str:
    """Return the options of `target` with meanings and defaults, which `defaults` may replace."""
    meanings = _meanings(target)
    for name, parameter in _parameters(target, names).items():
        default = defaults.get(name, parameter.default)
        if default not in (None, parameter.empty, "", ()):
            meanings[name] += f" (default: {str(default).lower() if isinstance(default, bool) else default})"
    return aligned({name: meanings[name] for name in _parameters(target, names)})


def option_meanings(declared: Callable[..., Any]) -> dict[str, str]:
    """Return the meanings of options in the docstring (Attributes, Args) of a function, or of a class and its bases."""
    meanings: dict[str, str] = {}
    for home in reversed(getattr(declared, "__mro__", (declared,))):
        text = inspect.cleandoc(home.__doc__ or "")
        section = re.search(r"^(?:Attributes|Args):\n(.*?)(?=^\S|\Z)", text, re.DOTALL | re.MULTILINE)
        entry = r"^    (\w+(?:, \w+)*): (.*(?:\n      +.*)*)"
        for names, meaning in re.findall(entry, section.group(1), re.MULTILINE) if section else []:
            meanings |= dict.fromkeys(names.split(", "), " ".join(meaning.split()))
    return meanings


def aligned(meanings: Mapping[str, str]) -> str:
    """Return lines of names and their meanings, aligned and wrapped."""
    width = max(map(len, meanings)) + 2
    return "\n".join(
        textwrap.fill(text, 118, initial_indent=name.ljust(width), subsequent_indent=" " * width)
        for name, text in meanings.items()
    )


def _parameters(target: Callable[..., Any], names: Sequence[str]) -> dict[str, inspect.Parameter]:
    """Return the options by name, those of a dataclass before those of its base classes."""
    found, own = inspect.signature(target).parameters, getattr(target, "__annotations__", {})
    return {name: found[name] for name in sorted(names or found, key=lambda name: name not in own)}


def _meanings(target: Callable[..., Any]) -> dict[str, str]:
    return {name: text.replace("`", "").rstrip(".") for name, text in option_meanings(target).items()}


def _typed(key: str, text: str, hint: Any) -> Any:
    kinds = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, UnionType) else (hint,)
    if text == "null" and NoneType in kinds:
        return None
    if any(typing.get_origin(kind) in (list, Sequence) for kind in kinds):
        if "[" in text[1:] and not text.startswith("[") and "," not in text:
            return [text]  # a path such as videos[1]
        if text.startswith("[") != text.endswith("]"):
            raise InputError(f"{key}={text} cannot be read; a list is written '{key}=[a,b]'")
        return listed(text)
    if str in kinds or typing.get_origin(kinds[0]) is typing.Literal:
        return text
    if bool in kinds and text.lower() not in _FLAGS:
        raise InputError(f"{key}={text} must be true or false")
    value = _FLAGS[text.lower()] if bool in kinds else plain_value(f"{key}={text}")
    return text if value is None else value
