"""Answers to mistakes on the command line: the setting, the choice or the quoting that was meant, in one line."""

import difflib
import inspect
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

from clep.config.check import TextExpected, UnknownOption, did_you_mean
from clep.config.choices import (
    HOMES,
    by_home,
    choices_of_class,
    choices_of_groups,
    default_tree,
    experiments_with,
    paths_in,
    settings_of_choices,
    users_of_group,
    video_option,
)
from clep.config.folder import config_folder
from clep.config.other_names import (
    GROUP_NAMES,
    ON,
    OTHER_NAMES,
    bare,
    choices_known_as,
    instead,
    known_as,
    likeness,
)
from clep.config.overrides import plain_value, typed_word
from clep.config.targets import ANYTHING, TARGET, find_parts, find_target
from clep.config.trainer import FILLED_IN, trainer_names
from clep.config.words import joined, refuse_home_sign
from clep.errors import InputError

_EXTRAS = {"hydra/sweeper=optuna": "sweep", "hydra/launcher=submitit": "slurm"}
_KEY = re.compile(r"[+~]{0,2}[\w./@-]+")
_TABLES = (".csv", ".tsv", ".parquet", ".jsonl")
_NEAR = 0.75
_JOB_GROUPS = ("encoder", "extraction", "compute")  # choices of preprocessing jobs
_SWITCHED = ("logger", "callbacks", "debug", "evaluator", "loss", "sampler", "experiment", "model")
_VIDEO_JOB = "python -m clep.preprocess videos videos=DIR output=BANK.h5"


def explain(error: Exception, words: Sequence[str] = (), folders: Iterable[str | Path] = ()) -> str:
    """Return in one line what is wrong with a command line, and what to type instead.

    Args:
        error: of Hydra, OmegaConf, or an InputError of the checks.
        words: overrides as typed.
        folders: config folders of the user, beside `conf/`.
    """
    homes = [config_folder(), *map(Path, folders)]
    if isinstance(error, TextExpected):
        return _explain_number(error, words)
    if isinstance(error, OverrideParseException):
        return _explain_grammar(error.override, homes)
    text = str(error)
    missing = re.search(r"Could not (?:find|load) '([^']+)'", text)
    if isinstance(error, MissingConfigException) and missing and "/" in missing.group(1):
        known = choices_of_groups(homes)
        parts = missing.group(1).split("/")
        count = max((n for n in range(1, len(parts)) if "/".join(parts[:n]) in known), default=len(parts) - 1)
        group, name = "/".join(parts[:count]), "/".join(parts[count:])
        options = known.get(group) or list(error.options or ())
        return f"there is no {group}={name}. {_nearest_choice(group, name, options, homes)}"
    if found := re.match(r"Ambiguous value for argument '(.*)'\n", text):
        return f"{_explain_several(found.group(1))}; to train a run with each, add -m"
    if found := re.match(r"Could not append to config. An item is already at '([^']+)'", text):
        return f"{found.group(1)} is a setting already: write it without +"
    found = re.match(
        r"Could not override '([\w/]+)'\.\s+(?:Did you mean to override (.*)\?|No match in the default)", text
    )
    if found and found.group(1) in _JOB_GROUPS:
        return _choice_of_a_job(found.group(1), _value_of(found.group(1), words), homes)
    if found and (packages := re.findall(r"[\w/]+@[\w.]+", found.group(2) or "")):
        value = _value_of(found.group(1), words) or "NAME"
        return (
            f"{found.group(1)}={value} could be meant for several: {' or '.join(f'{p}={value}' for p in packages[:3])}"
        )
    if found and (users := users_of_group(found.group(1), homes)):
        return f"this experiment has no {found.group(1)}; it is part of {', '.join(users)}: add one of these"
    cause = error if isinstance(error, ConfigAttributeError | ConfigKeyError) else error.__cause__
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) and isinstance(cause.parent_node, DictConfig):
        named = re.search(r"Could not override '([^']+)'", text)
        key = named.group(1) if named else str(cause.full_key)
        tree: Any = OmegaConf.to_container(cause.parent_node._get_root(), resolve=False)
        return f"there is no setting {key}. {suggest_setting(key, tree, _value_of(key, words), folders)}"
    return " ".join(text.split())


def suggest_setting(
    key: str, tree: Mapping[str, Any], value: str | None = None, folders: Iterable[str | Path] = ()
) -> str:
    """Return a sentence with the settings that an unknown key may stand for.

    Args:
        key: as typed.
        tree: the composed settings.
        value: as typed; part of the suggestion.
        folders: config folders of the user, beside `conf/`.
    """
    homes = [config_folder(), *map(Path, folders)]
    plain = {str(name): item for name, item in tree.items() if name != "hydra"}
    *parents, last = key.split(".")
    whole, named = settings_of_choices(key, homes)
    near = nearest_settings(key, plain, exact=True)
    if whole and near and not all(any(likeness(one, home) >= 0.8 for home in near[0].split(".")) for one in parents):
        near = []  # the path is that of a choice which this run does not make
    if parents == ["trainer"] and last in FILLED_IN:
        return f"A run sets it; {FILLED_IN[last]}."
    leaves = dict(paths_in(plain))
    same = [one for one in near if bare(one.split(".")[-1]) == bare(last) and not leaves[one] and _is_likely(one)]
    if not same and not (whole and parents) and (remedy := instead(key, value)):
        return re.sub(
            r"<(\w+)>", lambda found: (nearest_settings(found[1], plain, exact=True) or [found[1]])[0], remedy
        )
    if not whole and not any(map(_is_likely, near)) and (option := video_option(last, homes)):
        return f"It is a setting of jobs that read videos: {_VIDEO_JOB} {_with_value(option, value)}"
    found = (
        [f"+{one}" for one in _unlisted_options(plain, last, ".".join(parents))]
        or ([] if parents else _choices_meant(key, value, plain, homes))
        or near
        or ([] if whole else [f"+{one}" for one in _unlisted_options(plain, last) if one.split(".")[0] in HOMES[:5]])
    )
    if found:
        return _did_you_mean(found, value, plain)
    if users := whole or named:
        users = [(one, path) for user, path in users for one in _chosen_by(user, homes)]
        where = " or ".join(dict.fromkeys(f"{choice} (as {path})" for choice, path in users[:3]))
        return f"It is a setting of {where}: choose that too."
    if found := nearest_settings(key, plain):
        return _did_you_mean(found, value, plain)
    if choosing := [f"{group}={last}" for group, names in choices_of_groups(homes).items() if last in names]:
        return f"Did you mean {' or '.join(choosing[:3])}?"
    node: Any = plain
    while parents and isinstance(node, Mapping) and parents[0] in node:
        node = node[parents.pop(0)]
    if node is plain and "trainer" in plain and not difflib.get_close_matches(last.lower(), plain, n=1):
        return "python train.py --help lists the groups and settings, python train.py --cfg job those of a run."
    return did_you_mean(last, [str(one) for one in (node if isinstance(node, Mapping) else plain) if one != TARGET])


def _chosen_by(choice: str, homes: Sequence[Path]) -> list[str]:
    """Return what makes a choice: for data the experiments, since data needs its own preprocessing jobs."""
    return (choice.startswith("data=") and experiments_with(choice, homes)[:2]) or [choice]


def _is_likely(path: str) -> bool:
    return path.split(".")[0] in HOMES[:5] or "." not in path


def _did_you_mean(found: Sequence[str], value: str | None, tree: Mapping[str, Any]) -> str:
    """Return a sentence with settings; of a part, which has no value, with its class and settings."""
    node: Any = tree
    for name in found[0].split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    if isinstance(node, Mapping) and TARGET in node and value is not None and not value.startswith("{"):
        names = ", ".join(f"{found[0]}.{name}" for name in node if name != TARGET)
        own = f"set {names}, or" if names else "choose"
        return (
            f"Did you mean {found[0]}? It is a part, {node[TARGET]}: {own} another class by {found[0]}.{TARGET}=CLASS"
        )
    return f"Did you mean {_listed(found, value)}?"


def _choice_of_a_job(group: str, value: str | None, homes: Sequence[Path]) -> str:
    """Return where a choice of preprocessing jobs is made, with the nearest choice."""
    known = choices_of_groups(homes).get(group, [])
    value = value if value in known else next(iter(difflib.get_close_matches(value or "", known, n=1)), "NAME")
    if group == "encoder":
        return (
            f"this run reads features; encoder={value} belongs to jobs that read videos: {_VIDEO_JOB} encoder={value}, "
            f"or to a training on a table with videos: experiment=table data.table=FILE data.videos=DIR encoder={value}"
        )
    word = f"{group}={value}" if group == "compute" else "--help"
    return f"{group} belongs to preprocessing jobs, before the training: python -m clep.preprocess JOB {word}"


def nearest_settings(key: str, tree: Mapping[str, Any], exact: bool = False) -> list[str]:
    """Return the full paths of the settings that are nearest to `key`: those that tie for the best.

    The last part of the path counts most, then whether its other parts are among those of `key`, then where it lies
    (`data` before `evaluator`).

    Args:
        key: e.g. "batch_size" or "data.val_fraction".
        tree: the composed settings.
        exact: only settings of this name, with or without underscores, or of a name that other frameworks use for it.
    """
    *parents, last = key.split(".")
    others = {bare(name) for name, those in OTHER_NAMES.items() if known_as(last, those)}
    ranked = []
    for path, is_group in paths_in(tree):
        *homes, name = path.split(".")
        near = 0.0 if exact else likeness(last, name)
        if bare(name) == bare(last):
            near = 1.8 if is_group and others else 2.0
        elif bare(name) in others and not is_group:
            near = 1.9
        if near < _NEAR or path == key:
            continue
        shared = sum(any(likeness(parent, home) >= 0.8 for home in homes) for parent in parents)
        score = near + (shared / len(parents) if parents else 0.0)
        home = -1 if not homes else HOMES.index(homes[0]) if homes[0] in HOMES else len(HOMES)
        ranked.append(((-round(score, 2), home, len(homes)), path))
    best = min((rank for rank, _ in ranked), default=None)
    return [path for rank, path in ranked if rank == best][:3]


def check_words(words: Sequence[str], options: Iterable[str], folders: Iterable[str | Path] = ()) -> None:
    """Refuse words of a command line that are neither `key=value` nor an option of the command.

    Args:
        words: without the program's name.
        options: with their dashes, e.g. "--help"; the word behind one that takes a value is not checked.
        folders: config folders of the user.

    Raises:
        InputError: the message has the word that was meant.
    """
    homes, known, behind = [config_folder(), *map(Path, folders)], set(options), False
    check_choices(words, folders)
    refuse_home_sign(words)
    for index, word in enumerate(words):
        name, equals, value = word.partition("=")
        if behind or name in known:
            behind = name in _WITH_VALUE and not equals and not behind
            continue
        meant = joined(words, index)
        if word.startswith("--") or re.fullmatch(r"-[A-Za-z]\w*", name):
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.8) if word.startswith("--") else []
            key, _, value = (meant or f"{name.lstrip('-').replace('-', '_')}=VALUE").partition("=")
            remedy = f"Did you mean {near[0]}? " if near else ""
            raise InputError(
                f"there is no option {name}. {remedy}Settings are written without dashes. "
                f"{_setting_meant(key, value, words, homes)}"
            )
        if not name:
            raise InputError(f"{word!r} is not key=value: there is no key before =")
        if not equals and not word.startswith("~"):
            if meant and meant.split("=")[0] in choices_of_groups(homes):
                raise InputError(f"{word!r} is not key=value. Did you mean {shlex.quote(meant)}?")
            if meant:
                key, _, value = meant.partition("=")
                remedy = _setting_meant(key, value, words, homes)
                raise InputError(f"{word!r} is not key=value. {remedy}")
            raise InputError(_explain_grammar(word, homes))


def _setting_meant(key: str, value: str, words: Sequence[str], homes: Sequence[Path]) -> str:
    """Return a sentence with the setting that is meant by a key, before anything is composed."""
    tree = default_tree(words, homes)
    if key in dict(paths_in(tree)) or key in choices_of_groups(homes):
        return f"Did you mean {_with_value(key, value)}?"
    return suggest_setting(key, tree, value, homes[1:])


_WITH_VALUE = {"--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp", "--cfg", "-c", "--package", "-p"}
_WITH_VALUE |= {"--info", "-i", "--experimental-rerun"}
HYDRA_OPTIONS = frozenset(_WITH_VALUE) | {
    *("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m"),
    *("--shell-completion", "-sc"),
}


def check_choices(words: Sequence[str], folders: Iterable[str | Path] = ()) -> None:
    """Refuse a number, a boolean, null or an empty list where a file of a group is chosen by its name.

    Raises:
        InputError: the message has the group's choices.
    """
    homes = [config_folder(), *map(Path, folders)]
    for word in words:
        group, equals, value = word.partition("=")
        if not equals or not re.fullmatch(r"\w+(/\w+)*", group) or not any((home / group).is_dir() for home in homes):
            continue
        given = plain_value(word)
        if not value:
            raise InputError(f"{group}= names no choice. Choose from: {', '.join(choices_of_groups(homes)[group])}.")
        if given in (None, []) and "none" in choices_of_groups(homes)[group]:
            raise InputError(f"there is no {group}={value}. Did you mean {group}=none?")
        if value == "null" or isinstance(given, bool | int | float):
            options = choices_of_groups(homes)[group]
            raise InputError(f"there is no {group}={value}. {_nearest_choice(group, value, options, homes)}")


def check_grammar(words: Sequence[str]) -> None:
    """Refuse words `key=value` that Hydra cannot read, or reads as several values.

    Raises:
        InputError: the message has the word with the quotes that it needs.
    """
    refuse_home_sign(words)
    for word in words:
        key, _, value = word.partition("=")
        if not key or not value:
            raise InputError(f"{word!r} is not key=value: the {'value behind' if key else 'key before'} = is missing")
        try:
            parsed = OverridesParser.create().parse_override(word)
        except HydraException:
            raise InputError(_explain_grammar(word, [config_folder()])) from None
        if parsed.is_sweep_override():
            raise InputError(_explain_several(word))


def nearest_option(word: str, options: Iterable[str], takes_paths: bool = True) -> str:
    """Return a sentence with the nearest of a command's options, also by names that other programs use.

    Args:
        word: the unknown option.
        options: those of the command.
        takes_paths: whether the command takes `paths.data` too.
    """
    known = list(options)
    first = re.split(r"[./@]", word)[0]
    tree: dict[str, Any] = dict.fromkeys(known)
    if "encoder" in known and (inner := video_option(word, [config_folder()] if "." not in word else [])):
        tree[inner] = None
    tree |= {"paths": {"data": None}} if takes_paths else {}
    if found := nearest_settings(word, tree, exact=True):
        return f"Did you mean {found[0]!r}?"
    if first in choices_of_groups([config_folder()]) and first not in known:
        return f"It is a setting of the training, python train.py {first}…; the options here: {', '.join(known)}."
    return did_you_mean(word, known)


def _explain_several(word: str) -> str:
    key, _, value = word.partition("=")
    if re.fullmatch(r"-?\d+,\d+", value):
        return (
            f"{word} is several values: a fraction is written {key}={value.replace(',', '.')}, a list "
            f"{shlex.quote(f'{key}=[{value}]')}, a text {typed_word(key, value)}"
        )
    return (
        f"{word} is several values: a list is written {shlex.quote(f'{key}=[{value}]')}, a text with a comma needs "
        f"quotes inside quotes: {typed_word(key, value)}"
    )


def _explain_number(error: TextExpected, words: Sequence[str]) -> str:
    """Name the word whose value was read as a number, since its digits may be lost (2019_05_12 is 20190512)."""
    for word in words:
        key, _, value = word.partition("=")
        if plain_value(word) == error.value and _KEY.fullmatch(key):
            return f"{error.problem}; a name that looks like one needs quotes: {typed_word(key, value)}"
    return str(error)


def _explain_grammar(word: str, homes: Sequence[Path]) -> str:
    key, equals, value = word.partition("=")
    if not equals:
        if choosing := [f"{group}={word}" for group, names in choices_of_groups(homes).items() if word in names]:
            return f"{word!r} is not key=value. Did you mean {' or '.join(sorted(choosing, key=by_home)[:3])}?"
        if Path(word).suffix in _TABLES:
            return f"{word!r} is not key=value. Did you mean experiment=table {typed_word('data.table', word)}?"
        return f"{word!r} is not key=value; write the key, = and the value without blanks between them"
    if not _KEY.fullmatch(key):
        return f"{word!r} is not key=value: {key!r} is not a key"
    if value.startswith(("[", "{")):
        return (
            f"cannot read {word}: a list is written {shlex.quote(f'{key}=[a,b]')}, a dict "
            f"{shlex.quote(f'{key}={{a: 1}}')}, as one word in quotes"
        )
    if value.endswith(",") and "," not in value[:-1]:
        return f"cannot read {word}: it ends with a comma; write {shlex.quote(word.rstrip(','))}"
    return f"cannot read {word}: a value with such characters needs quotes inside quotes: {typed_word(key, value)}"


def _nearest_choice(group: str, name: str, options: Sequence[str], homes: Sequence[Path]) -> str:
    if group == "data" and Path(name).suffix in _TABLES:
        return f"A table of yours: experiment=table {typed_word('data.table', name)}"
    if Path(name).suffix in (".yaml", ".yml"):
        stem = Path(name).stem
        if stem in options:
            return f"Did you mean {group}={stem}?"
        return f"A file of your own, DIR/{group}/{stem}.yaml, is chosen by {group}={stem} --config-dir DIR"
    if group == "trainer" and name != "default":
        for argument in ("strategy", "accelerator", "profiler"):
            if name in trainer_names(argument):
                return f"Did you mean trainer.{argument}={name}?"
    meant_setting = suggest_setting(name, default_tree([], homes), "true") if group == "debug" else ""
    if meant_setting.startswith("Did you mean trainer."):
        return f"{meant_setting} Choose from: {', '.join(options)}."
    if found := choices_of_class(name.split(".")[-1], group, homes):
        return f"Did you mean {' or '.join(found[:3])}?"
    if meant := choices_known_as(name, options):
        return f"Did you mean {group}={meant[0]}?"
    for prefix, extra in _EXTRAS.items():
        if f"{group}={name}".startswith(prefix):
            return f"It needs a package that is not installed: pip install 'clep[{extra}]'."
    near = difflib.get_close_matches(Path(name).stem.lower(), list(options), n=2, cutoff=0.6)
    near = [one for one in near if likeness(name, one) > likeness(name, near[0]) - 0.1]
    near = near or [one for one in options if name.lower() in one.split("_")][:2]  # slurm: submitit_slurm
    if near:
        return f"Did you mean {' or '.join(f'{group}={one}' for one in near)}?"
    elsewhere = [
        f"{other}={name}" for other, names in choices_of_groups(homes).items() if name in names and other != group
    ]
    if elsewhere == [f"encoder={name}"]:
        return f"It is an encoder: {_choice_of_a_job('encoder', name, homes)}"
    hint = f"Did you mean {' or '.join(sorted(elsewhere, key=by_home)[:2])}? " if elsewhere else ""
    return f"{hint}Choose from: {', '.join(options)}."


def _choices_meant(key: str, value: str | None, tree: Mapping[str, Any], homes: Sequence[Path]) -> list[str]:
    """Return the groups, or choices of groups, that a key without dots may stand for."""
    groups = choices_of_groups(homes)
    meant = [group for group, others in GROUP_NAMES.items() if group in groups and known_as(key, others)]
    if meant and value in groups[meant[0]]:
        return [f"{meant[0]}={value}"]
    if meant and value is not None:
        named = choices_known_as(value, groups[meant[0]])
        near = named or difflib.get_close_matches(value, groups[meant[0]], n=2, cutoff=0.6) or groups[meant[0]]
        return [f"{meant[0]}={one}" for one in near[:6]]
    if value in ON:
        chosen = [(likeness(key, one), f"{group}={one}") for group in groups for one in groups[group]]
        best = max(likeness for likeness, _ in chosen)
        found = [word for likeness, word in chosen if likeness == best and word.split("=")[0] in _SWITCHED]
        leaves = [path for path in nearest_settings(key, tree, exact=True) if not dict(paths_in(tree))[path]]
        return sorted(found, key=by_home)[:2] if best >= _NEAR and not leaves else []
    if value is None or nearest_settings(key, tree, exact=True):
        return []
    near = [group for group in groups if value in groups[group] and likeness(key, group) >= 0.6]
    return [f"{group}={value}" for group in near or [one for one in groups if value in groups[one]]][:3]


def _unlisted_options(tree: Mapping[str, Any], name: str, where: str | None = None) -> list[str]:
    """Return the full paths of constructor arguments of this name that the config leaves out.

    Args:
        tree: the composed settings.
        name: of the argument.
        where: key of the one part to look at; None for all.
    """
    names = {bare(name)} | {bare(one) for one, others in OTHER_NAMES.items() if known_as(name, others)}
    found = []
    for key, part in find_parts(tree):
        if where not in (None, key) or "[" in key or key.split(".")[0] in ("prepare", "hydra"):
            continue
        try:
            parameters = inspect.signature(find_target(part[TARGET], key, ANYTHING)).parameters.values()
        except (InputError, ValueError, TypeError):
            continue
        named = {one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
        named -= set(FILLED_IN) if key == "trainer" else set()
        found += [f"{key}.{one}" for one in sorted(named) if bare(one) in names and one not in part]
    return sorted(found, key=by_home)[:2]


def _listed(found: Sequence[str], value: str | None) -> str:
    return " or ".join(one if "=" in one else _with_value(one, value) for one in found)


def _with_value(path: str, value: str | None) -> str:
    if value is None:
        return path
    if path == "ckpt_path" and value.lower() in ("true", "1", "yes"):
        value = "last"
    return shlex.quote(f"{path}={value}")


def _value_of(key: str, words: Sequence[str]) -> str | None:
    for word in reversed(words):
        name, equals, value = word.partition("=")
        if equals and name.lstrip("+~") == key:
            return value
    return None


def explained(error: InputError, words: Sequence[str], tree: Mapping[str, Any]) -> InputError:
    """Return an InputError of the checks with what to type instead.

    Args:
        error: an `UnknownOption` gets the settings that may be meant, a `TextExpected` the quoting.
        words: overrides as typed.
        tree: the composed settings.
    """
    if isinstance(error, UnknownOption):
        return InputError(f"{error.problem}. {suggest_setting(error.key, tree, _value_of(error.key, words))}")
    return InputError(explain(error, words)) if isinstance(error, TextExpected) else error
