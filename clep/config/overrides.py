"""Write overrides `key=value` in Hydra's grammar, and read those of a run as data."""

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException

from clep.config.targets import TARGET, Targets, check_targets, find_targets
from clep.errors import InputError
from clep.files import read_yaml

MOST_BYTES = 1_000_000
_RESOLVERS = {"oc.select", "clep.slug", "clep.precision", "clep.run_id"}  # these read the config only
_REFERENCE = re.compile(r"\$\{\s*([\w.@/\[\]-]*)\s*([:}]?)")
_CHOICE = re.compile(r"[\w-]+(/[\w-]+)*")


def override(key: str, value: Any) -> str:
    """Return `key=value`, quoted so that Hydra reads back exactly this value."""
    return f"{key}={_written(value)}"


def typed_word(key: str, text: str) -> str:
    """Return `key=text` as one types it in a shell, so that Hydra reads back exactly this text."""
    if not text.isprintable() or set(text) & set('"\\$'):
        return shlex.quote(f"{key}={_quoted(text)}")
    return shlex.quote(f'{key}="{text}"')


def plain_value(word: str) -> Any:
    """Return the value of an override as plain Python values; None where it cannot be read."""
    try:
        return _value(parse_overrides([word])[0])
    except InputError:
        return None


def plain_values(words: Sequence[str]) -> list[tuple[str, Any]]:
    """Return the key, or group, and the value of each override, as plain Python values."""
    return [(key_of(parsed), _value(parsed)) for parsed in parse_overrides(words)]


def parse_overrides(words: Sequence[str], source: str = "the command line") -> list[Override]:
    """Parse overrides; nothing in them is resolved or imported.

    Raises:
        InputError: one is not in Hydra's grammar; the message names the source and the remedy.
    """
    try:
        return OverridesParser.create().parse_overrides(list(words))
    except HydraException as error:
        raise InputError(
            f"{source}: cannot read the settings ({str(error).splitlines()[0]}); a value with commas, colons, "
            "quotes or brackets needs quotes inside quotes: \"csv='a,b.csv'\""
        ) from error


def read_overrides(path: str | Path) -> list[str]:
    """Read the list of overrides that a run left, as text.

    Raises:
        InputError: the file cannot be read, or is not a list of texts.
    """
    too_large = Path(path).is_file() and Path(path).stat().st_size > MOST_BYTES
    content = None if too_large else read_yaml(path)
    words = [] if content is None and not too_large else content
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise InputError(f"{path} is not a list of overrides key=value; give a run that clep trained, unchanged")
    return words


def key_of(parsed: Override) -> str:
    """Return the key that an override sets, or the group that it chooses, without `+`, `~` and `@package`."""
    return str(parsed.key_or_group)


def leaves_out_evaluators(missing_evaluators: str | None, words: Sequence[str]) -> bool:
    """Whether evaluators without their files are left out: as the setting says, but never those that the user typed.

    Args:
        missing_evaluators: the setting; "skip" leaves them out.
        words: what the user typed; `evaluator=…` without `missing_evaluators=…` insists on its files.
    """
    typed = {key_of(parsed) for parsed in parse_overrides(words)}
    return missing_evaluators == "skip" and ("evaluator" not in typed or "missing_evaluators" in typed)


def listed(value: str) -> list[str]:
    """Return the names in the value of a command's option, `kinetics` or `[kinetics,retrieval]`.

    A name with a comma is quoted: `["a,b",c]`.
    """
    names = re.findall(r"""\s*("[^"]*"|'[^']*'|[^,]+)\s*(?:,|\Z)""", value.removeprefix("[").removesuffix("]"))
    return [name.strip().strip("'\"") for name in names if name.strip()]


def split_config_dir(words: Sequence[str]) -> tuple[list[str], str | None]:
    """Take the user's config folder out of a command line; return the rest and the folder.

    Raises:
        InputError: as `split_config_dirs`, or there are several folders.
    """
    rest, folders = split_config_dirs(words)
    if len(folders) > 1:
        raise InputError(f"one config folder can be given, not {' and '.join(folders)}; put their groups into one")
    return rest, folders[0] if folders else None


def split_config_dirs(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Take the user's config folders out of a command line; return the rest and the folders.

    They are given as `--config-dir DIR`, `-cd DIR`, `--config-dir=DIR` or `hydra.searchpath=[file://DIR]`.

    Raises:
        InputError: a folder is not named.
    """
    rest, folders, words = [], [], list(words)
    while words:
        word = words.pop(0)
        option, equals, value = word.partition("=")
        if option == "hydra.searchpath":
            folders += [name.removeprefix("file://") for name in listed(value) if not name.startswith("pkg://")]
        elif option not in ("--config-dir", "-cd"):
            rest.append(word)
        elif equals or words:
            folders.append(value if equals else words.pop(0))
        else:
            raise InputError("--config-dir needs a folder: --config-dir DIR")
    return rest, folders


def typed_targets(words: Sequence[str]) -> frozenset[str]:
    """Return the `_target_` names that overrides of the user mention."""
    found = set()
    for parsed in parse_overrides(words):
        value = _value(parsed)
        if key_of(parsed).split(".")[-1] == TARGET:
            found.add(value)
        found.update(name for _, name in find_targets(value))
    return frozenset(name for name in found if isinstance(name, str))


def check_read_overrides(
    words: Sequence[str], targets: Targets, source: str, folders: Iterable[Path]
) -> tuple[list[str], list[str]]:
    """Check overrides that were read from a file as data, before they take part in a config.

    They may set values, choose among the files of the config folders, and name registered classes. They may not name
    other classes, read the environment, choose files elsewhere, or change Hydra's own settings.

    Args:
        words: the overrides.
        targets: classes that they may name.
        source: the file, for messages.
        folders: the config folders whose groups they may choose from.

    Returns:
        The overrides that can be composed, and those that choose a file which none of `folders` has.

    Raises:
        InputError: an override wants more than that; the message names it.
    """
    homes = list(folders)
    known: list[str] = []
    foreign: list[str] = []
    for word, parsed in zip(words, parse_overrides(words, source), strict=True):
        key, value = key_of(parsed), _value(parsed)
        where = f"{source}: {word}"
        if key.split(".")[0].split("/")[0] == "hydra":
            raise InputError(f"{where}: a run may not change Hydra's own settings; type it yourself if you want it")
        group = key.replace(".", "/")
        if _CHOICE.fullmatch(group) and any((home / group).is_dir() for home in homes) and not isinstance(value, dict):
            names = [str(one) for one in (value if isinstance(value, list) else [value]) if one is not None]
            if not all(_CHOICE.fullmatch(name) for name in names):
                raise InputError(f"{where}: a run may only choose files of conf/{group}, by name; type it yourself")
            there = all(any((home / group / f"{name}.yaml").is_file() for home in homes) for name in names)
            (known if there else foreign).append(word)
            continue
        _check_value(key, value, targets, where)
        known.append(word)
    return known, foreign


def check_references(value: Any, where: str) -> None:
    """Refuse interpolations `${…}` in values that were read from a file, unless they read the config alone.

    Raises:
        InputError: one calls a resolver such as `oc.env`, or is nested, so that what it calls cannot be seen.
    """
    for text in _texts(value):
        for found in _REFERENCE.finditer(text):
            name, end = found.groups()
            if not end or (end == ":" and name not in _RESOLVERS):
                raise InputError(
                    f"{where}: {text!r} refers to more than the config ({name or 'a nested interpolation'}), which is "
                    f"not allowed in what is read from a file; type the value yourself"
                )


def _check_value(key: str, value: Any, targets: Targets, where: str) -> None:
    *parents, last = key.split(".")
    if TARGET in parents or (TARGET in last and last != TARGET):
        raise InputError(f"{where}: {key} is not a setting")
    if last == TARGET and value is not None:
        targets.check(value, f"{where}: {'.'.join(parents)}")
    check_targets(value, targets, f"{where}: {key}")
    if last != TARGET and any(TARGET in text for text in _texts(value)):
        raise InputError(f"{where}: a text that holds {TARGET} is not allowed in what is read from a file")
    check_references(value, where)


def _value(parsed: Override) -> Any:
    """Return the value as plain Python values; a sweep as a list of its values."""
    try:
        if parsed.is_sweep_override():
            return list(parsed.sweep_string_iterator())
        return _unquoted(parsed.value())
    except (HydraException, TypeError, ValueError) as error:
        raise InputError(f"{parsed.input_line}: the value cannot be read; write it out as plain values") from error


def _unquoted(value: Any) -> Any:
    """Return a parsed value as plain Python values.

    Raises:
        TypeError: it is none, but a function of Hydra's grammar such as `extend_list`.
    """
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, Mapping):
        return {str(_unquoted(key)): _unquoted(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_unquoted(item) for item in value]
    if value is not None and not isinstance(value, str | int | float | bool):
        raise TypeError(f"a {type(value).__name__} is not a plain value")
    return value


def _texts(value: Any) -> Iterator[str]:
    """Yield all texts in a value; of dicts the values, and the keys but for `_target_`."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key != TARGET:
                yield str(key)
                yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


def _written(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_written(str(key))}:{_written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_written, value))}]"
    if not isinstance(value, str | Path):
        return json.dumps(value)
    text = str(value).replace("${", "\\${")  # else OmegaConf would look it up
    return text if text and _reads_back(text) else _quoted(str(value))  # an empty one would be lost in a list


def _quoted(text: str) -> str:
    text = text.replace("${", "\\${")
    escaped = re.sub(r"(\\*)('|\Z)", _escaped, text)
    return f"'{escaped}'"


def _escaped(found: re.Match[str]) -> str:
    """Escape a quote, or the end, and the backslashes before it: Hydra's grammar reads no others as escapes."""
    backslashes, quote = found.groups()
    return backslashes * 2 + ("\\'" if quote else "")


def _reads_back(text: str) -> bool:
    """Whether a text needs no quotes, alone or followed by a bracket, which a backslash at its end would escape."""
    try:
        return all(
            OverridesParser.create().parse_override(f"key={written}").value() == value
            for written, value in ((text, text), (f"[{text}]", [text]), (f"{{a:{text}}}", {"a": text}))
        )
    except HydraException:
        return False
