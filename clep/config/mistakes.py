"""Answers to mistakes on the command line: the setting, the choice or the quoting that was meant, in one line."""

import difflib
import functools
import inspect
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

from clep.config.check import TextExpected, UnknownOption, did_you_mean
from clep.config.folder import config_folder
from clep.config.overrides import plain_value, typed_word
from clep.config.plugins import GROUPS, plugin_names
from clep.config.targets import ANYTHING, TARGET, find_parts, find_target
from clep.errors import InputError

# What other frameworks call these settings and choices.
_OTHER_NAMES = {
    "accumulate_grad_batches": ("accumulation", "grad_accum", "gradient_accumulation_steps", "accum_iter"),
    "batch_size": ("bs", "batch", "per_device_train_batch_size"),
    "clip_batch": ("batch_size", "bs", "batch"),
    "check_val_every_n_epoch": ("val_every", "eval_every", "val_interval", "eval_interval", "validate_every"),
    "ckpt_path": ("resume", "resume_from", "resume_from_checkpoint", "checkpoint", "ckpt"),
    "data": ("data_dir", "data_root", "data_path", "root", "dataset_path"),
    "devices": ("gpus", "gpu", "num_gpus", "n_gpus", "num_devices"),
    "gradient_clip_val": ("grad_clip", "clip_grad", "clip_grad_norm", "max_grad_norm", "gradient_clip"),
    "hidden_dim": ("hidden", "hidden_size", "mlp_dim"),
    "init_from": ("pretrained", "weights", "finetune_from", "init_ckpt"),
    "init_scale": ("temperature", "logit_scale", "tau"),
    "lr": ("learning_rate", "base_lr"),
    "max_epochs": ("epochs", "num_epochs", "n_epochs", "num_train_epochs"),
    "max_steps": ("steps", "num_steps", "iterations", "iters"),
    "num_workers": ("workers", "n_workers", "dataloader_num_workers"),
    "out_dim": ("embed_dim", "embedding_dim", "proj_dim", "projection_dim", "output_dim"),
    "precision": ("amp", "fp16", "bf16", "mixed_precision"),
    "runs": ("out_dir", "output_dir", "save_dir", "log_dir", "output"),
    "text_encoder": ("sentence_encoder", "text_model", "sentence_model", "language_model"),
    "val_fraction": ("val_split", "val_ratio", "val_size", "validation_split", "held_out_fraction"),
    "video_encoder": ("visual_encoder", "vision_encoder", "video_model"),
    "warmup": ("warmup_steps", "num_warmup_steps", "warmup_epochs", "warmup_ratio"),
    "weight_decay": ("wd", "decay_rate"),
}
_GROUP_NAMES = {
    "callbacks": ("callback",),
    "data": ("dataset", "datamodule", "dataloader"),
    "evaluator": ("evaluators", "evaluate", "eval", "benchmark", "metric", "metrics"),
    "experiment": ("exp", "config", "recipe", "cfg"),
    "logger": ("loggers", "log", "logging", "tracker"),
    "loss": ("criterion", "objective", "loss_fn"),
    "model": ("arch", "architecture", "network", "tower"),
    "optim": ("optimizer", "optimiser", "opt"),
    "sampler": ("batch_sampler", "sampling"),
}
_CHOICE_NAMES = {
    "clip": ("infonce", "nce", "contrastive", "clip_loss", "ntxent", "nt_xent"),
    "siglip": ("sigmoid",),
    "cross_entropy": ("ce", "softmax"),
    "adamw": ("adam", "sgd"),
    "tensorboard": ("tb",),
    "wandb": ("weights_and_biases", "wb"),
    "temporal": ("transformer", "attention"),
    "table": ("csv", "custom", "own"),
    "none": ("null", "off", "false"),
}
_EXTRAS = {"hydra/sweeper=optuna": "sweep", "hydra/launcher=submitit": "slurm"}
_HOMES = ("data", "model", "optim", "trainer", "loss", "positives", "task", "paths", "callbacks", "evaluator")
_KEY = re.compile(r"[+~]{0,2}[\w./@-]+")
_TABLES = (".csv", ".tsv", ".parquet", ".jsonl")
_NEAR = 0.75


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
    missing = re.search(r"Could not (?:find|load) '([^']+)/([^'/]+)'", text)
    if isinstance(error, MissingConfigException) and missing:
        group, name = missing.groups()
        options = error.options or choices_of_groups(homes).get(group, [])
        return f"there is no {group}={name}. {_nearest_choice(group, name, options, homes)}"
    if found := re.match(r"Ambiguous value for argument '(.*)'\n", text):
        return f"{_explain_several(found.group(1))}; to train a run with each, add -m"
    if found := re.match(r"Could not append to config. An item is already at '([^']+)'", text):
        return f"{found.group(1)} is a setting already: write it without +"
    found = re.match(r"Could not override '([\w/]+)'\. No match in the defaults list", text)
    if found and (users := _users_of_group(found.group(1), homes)):
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
    whole, named = _settings_of_choices(key, homes)
    near = nearest_settings(key, plain, exact=True)
    if whole and near and not all(any(_likeness(one, home) >= 0.8 for home in near[0].split(".")) for one in parents):
        near = []  # the path is that of a choice which this run does not make
    found = (
        [f"+{one}" for one in _unlisted_options(plain, last, ".".join(parents))]
        or ([] if parents else _choices_meant(key, value, plain, homes))
        or near
        or ([] if whole else [f"+{one}" for one in _unlisted_options(plain, last) if one.split(".")[0] in _HOMES[:5]])
    )
    if found:
        return f"Did you mean {_listed(found, value)}?"
    if users := whole or named:
        where = " or ".join(f"{choice} (as {path})" for choice, path in users[:3])
        return f"It is a setting of {where}: choose that too."
    if found := nearest_settings(key, plain):
        return f"Did you mean {_listed(found, value)}?"
    if choosing := [f"{group}={last}" for group, names in choices_of_groups(homes).items() if last in names]:
        return f"Did you mean {' or '.join(choosing[:3])}?"
    node: Any = plain
    while parents and isinstance(node, Mapping) and parents[0] in node:
        node = node[parents.pop(0)]
    return did_you_mean(last, [str(name) for name in (node if isinstance(node, Mapping) else plain)])


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
    others = {_bare(name) for name, those in _OTHER_NAMES.items() if _known_as(last, those)}
    ranked = []
    for path, is_group in _paths(tree):
        *homes, name = path.split(".")
        near = 0.0 if exact else _likeness(last, name)
        if _bare(name) == _bare(last):
            near = 1.8 if is_group and others else 2.0
        elif _bare(name) in others and not is_group:
            near = 1.9
        if near < _NEAR or path == key:
            continue
        shared = sum(any(_likeness(parent, home) >= 0.8 for home in homes) for parent in parents)
        score = near + (shared / len(parents) if parents else 0.0)
        home = -1 if not homes else _HOMES.index(homes[0]) if homes[0] in _HOMES else len(_HOMES)
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
    for word in words:
        name = word.partition("=")[0]
        if behind or name in known:
            behind = name in _WITH_VALUE and "=" not in word and not behind
            continue
        if word.startswith("--") or re.fullmatch(r"-[A-Za-z]\w*", name):
            meant = name.lstrip("-").replace("-", "_")
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
            hint = f"Did you mean {near[0]}? Settings" if near else "Settings"
            raise InputError(f"there is no option {name}. {hint} are written without dashes: {meant}=VALUE")
        if "=" not in word and not word.startswith("~"):
            raise InputError(_explain_grammar(word, homes))


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
        if given in (None, []) and "none" in choices_of_groups(homes)[group]:
            raise InputError(f"there is no {group}={value}. Did you mean {group}=none?")
        if isinstance(given, bool | int | float):
            options = choices_of_groups(homes)[group]
            raise InputError(f"there is no {group}={value}. {_nearest_choice(group, value, options, homes)}")


def check_grammar(words: Sequence[str]) -> None:
    """Refuse words `key=value` that Hydra cannot read, or reads as several values.

    Raises:
        InputError: the message has the word with the quotes that it needs.
    """
    for word in words:
        try:
            parsed = OverridesParser.create().parse_override(word)
        except HydraException:
            raise InputError(_explain_grammar(word, [config_folder()])) from None
        if parsed.is_sweep_override():
            raise InputError(_explain_several(word))


def nearest_option(word: str, options: Iterable[str]) -> str:
    """Return a sentence with the nearest of a command's options, also by names that other programs use."""
    known = list(options)
    found = nearest_settings(word, dict.fromkeys(known), exact=True)
    return f"Did you mean {found[0]!r}?" if found else did_you_mean(word, known)


def _explain_several(word: str) -> str:
    key, _, value = word.partition("=")
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
            return f"{word!r} is not key=value. Did you mean {' or '.join(sorted(choosing, key=_by_home)[:3])}?"
        if Path(word).suffix in _TABLES:
            return f"{word!r} is not key=value. Did you mean {typed_word('data.table', word)}?"
        return f"{word!r} is not key=value; write the key, = and the value without blanks between them"
    if not _KEY.fullmatch(key):
        return f"{word!r} is not key=value: {key!r} is not a key"
    if value.startswith(("[", "{")):
        return (
            f"cannot read {word}: a list is written {shlex.quote(f'{key}=[a,b]')}, a dict "
            f"{shlex.quote(f'{key}={{a: 1}}')}, as one word in quotes"
        )
    return f"cannot read {word}: a value with such characters needs quotes inside quotes: {typed_word(key, value)}"


def _nearest_choice(group: str, name: str, options: Sequence[str], homes: Sequence[Path]) -> str:
    if group == "data" and Path(name).suffix in _TABLES:
        return f"A table of yours: experiment=table {typed_word('data.table', name)}"
    meant = next((one for one, others in _CHOICE_NAMES.items() if one in options and _known_as(name, others)), None)
    if meant is not None:
        return f"Did you mean {group}={meant}?"
    for prefix, extra in _EXTRAS.items():
        if f"{group}={name}".startswith(prefix):
            return f"It needs a package that is not installed: pip install 'clep[{extra}]'."
    near = difflib.get_close_matches(Path(name).stem.lower(), list(options), n=2, cutoff=0.6)
    near = [one for one in near if _likeness(name, one) > _likeness(name, near[0]) - 0.1]
    if near:
        return f"Did you mean {' or '.join(f'{group}={one}' for one in near)}?"
    elsewhere = [
        f"{other}={name}" for other, names in choices_of_groups(homes).items() if name in names and other != group
    ]
    hint = f"Did you mean {' or '.join(sorted(elsewhere, key=_by_home)[:2])}? " if elsewhere else ""
    return f"{hint}Choose from: {', '.join(options)}."


def _choices_meant(key: str, value: str | None, tree: Mapping[str, Any], homes: Sequence[Path]) -> list[str]:
    """Return the groups, or choices of groups, that a key without dots may stand for."""
    groups = choices_of_groups(homes)
    meant = [group for group, others in _GROUP_NAMES.items() if group in groups and _known_as(key, others)]
    if meant and value in groups[meant[0]]:
        return [f"{meant[0]}={value}"]
    if meant and value is not None:
        named = [one for one, others in _CHOICE_NAMES.items() if one in groups[meant[0]] and _known_as(value, others)]
        near = named or difflib.get_close_matches(value, groups[meant[0]], n=2, cutoff=0.6) or groups[meant[0]]
        return [f"{meant[0]}={one}" for one in near[:6]]
    if value is None or nearest_settings(key, tree, exact=True):
        return []
    near = [group for group in groups if value in groups[group] and _likeness(key, group) >= 0.6]
    return [f"{group}={value}" for group in near or [one for one in groups if value in groups[one]]][:3]


def _unlisted_options(tree: Mapping[str, Any], name: str, where: str | None = None) -> list[str]:
    """Return the full paths of constructor arguments of this name that the config leaves out.

    Args:
        tree: the composed settings.
        name: of the argument.
        where: key of the one part to look at; None for all.
    """
    names = {_bare(name)} | {_bare(one) for one, others in _OTHER_NAMES.items() if _known_as(name, others)}
    found = []
    for key, part in find_parts(tree):
        if where not in (None, key) or "[" in key or key.split(".")[0] in ("prepare", "hydra"):
            continue
        try:
            parameters = inspect.signature(find_target(part[TARGET], key, ANYTHING)).parameters.values()
        except (InputError, ValueError, TypeError):
            continue
        named = {one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
        found += [f"{key}.{one}" for one in sorted(named) if _bare(one) in names and one not in part]
    return sorted(found, key=_by_home)[:2]


@functools.cache
def _files(folder: Path) -> dict[tuple[str, str], tuple[str, Any]]:
    """Return the package and the content of each file of a config folder, by group and name."""
    found = {}
    for path in sorted(folder.rglob("*.yaml")):
        group = path.parent.relative_to(folder).as_posix()
        text = path.read_text(encoding="utf-8", errors="replace")
        package = re.search(r"^# *@package +(\S+)", text, re.MULTILINE)
        try:
            content = yaml.safe_load(text)
        except yaml.YAMLError:
            continue
        named = package.group(1) if package else group.replace("/", ".")
        found[group, path.stem] = ("" if named == "_global_" else named, content)
    return found


def choices_of_groups(folders: Iterable[str | Path] = ()) -> dict[str, list[str]]:
    """Return the choices of each group in `conf/` and in config folders of the user."""
    found: dict[str, list[str]] = {}
    for home in dict.fromkeys([config_folder(), *map(Path, folders)]):
        for group, name in _files(home):
            if group != ".":
                found.setdefault(group, []).append(name)
    for group in GROUPS.values():
        found.setdefault(group, []).extend(plugin_names(group))
    return found


def _settings_of_choices(key: str, homes: Sequence[Path]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the choices whose file has a setting of this path, and those with one of this name; each with its path."""
    whole, named = [], []
    for home in homes:
        for (group, name), (package, content) in _files(home).items():
            if group in (".", "experiment", "ablation", "prepare") or not isinstance(content, Mapping):
                continue
            for path, _ in _paths(content, package):
                if path == key:
                    whole.append((f"{group}={name}", path))
                elif _bare(path.split(".")[-1]) == _bare(key.split(".")[-1]):
                    named.append((f"{group}={name}", path))
    return whole, named


def _users_of_group(group: str, homes: Sequence[Path]) -> list[str]:
    """Return the choices whose defaults list has this group: experiments and models."""
    found: dict[str, None] = {}
    for pattern in (rf"/?{re.escape(group)}(@[^:]*)?: .*", None):  # the choices, then those that include one of these
        pattern = pattern or "|".join(rf"(override )?/?{one.replace('=', ': ')}" for one in found) or "-"
        for home in homes:
            for (other, name), (_, content) in _files(home).items():
                defaults = content.get("defaults") if isinstance(content, Mapping) else None
                words = [
                    f"{key}: {value}"
                    for one in defaults or ()
                    if isinstance(one, Mapping)
                    for key, value in one.items()
                ]
                if other != "." and any(re.fullmatch(pattern, word) for word in words):
                    found[f"{other}={name}"] = None
    return sorted(found, key=_by_home)[:5]


def _by_home(path: str) -> tuple[int, int]:
    home = re.split(r"[.=]", path.lstrip("+"))[0]
    order = ("experiment", *_HOMES)
    return (order.index(home) if home in order else len(order), path.count("."))


def _paths(tree: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, bool]]:
    """Yield the path of every setting below a node, and whether it holds others."""
    for name, item in tree.items():
        if str(name) in (TARGET, "_partial_", "defaults"):
            continue
        path = f"{prefix}.{name}" if prefix else str(name)
        yield path, isinstance(item, Mapping)
        if isinstance(item, Mapping):
            yield from _paths(item, path)


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


def _known_as(name: str, others: Iterable[str]) -> bool:
    return _bare(name) in map(_bare, others)


def _bare(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, _bare(one), _bare(other)).ratio()


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
