"""What the files of config folders offer: choices of groups, and the settings in them."""

import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from clep.config.folder import config_folder
from clep.config.other_names import OTHER_NAMES, bare, known_as
from clep.config.plugins import GROUPS, plugin_names
from clep.config.targets import TARGET, find_targets

# Where settings lie, the likely ones first.
HOMES = ("data", "model", "optim", "trainer", "loss", "positives", "task", "paths", "callbacks", "evaluator")
# Options of jobs that read videos, whose other names mean something else in a training.
_NOT_OF_VIDEOS = ("decode_threads", "clip_batch", "weights", "encoder")


@functools.cache
def files_of_folder(folder: Path) -> dict[tuple[str, str], tuple[str, Any]]:
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
        for group, name in files_of_folder(home):
            if group != ".":
                found.setdefault(group, []).append(name)
    for group in GROUPS.values():
        found.setdefault(group, []).extend(plugin_names(group))
    return found


def settings_of_choices(key: str, homes: Sequence[Path]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the choices whose file has a setting of this path, and those with one of this name; each with its path."""
    whole, named = [], []
    for home in homes:
        for (group, name), (package, content) in files_of_folder(home).items():
            if group in (".", "experiment", "ablation", "prepare") or not isinstance(content, Mapping):
                continue
            for path, _ in paths_in(content, package):
                if path == key:
                    whole.append((f"{group}={name}", path))
                elif bare(path.split(".")[-1]) == bare(key.split(".")[-1]):
                    named.append((f"{group}={name}", path))
    return whole, named


def users_of_group(group: str, homes: Sequence[Path]) -> list[str]:
    """Return the choices whose defaults list has this group: experiments and models."""
    found: dict[str, None] = {}
    for pattern in (rf"/?{re.escape(group)}(@[^:]*)?: .*", None):  # the choices, then those that include one of these
        pattern = pattern or "|".join(rf"(override )?/?{one.replace('=', ': ')}" for one in found) or "-"
        for home in homes:
            for (other, name), (_, content) in files_of_folder(home).items():
                words = [f"{key}: {value}" for key, value in _defaults(content)]
                if other != "." and any(re.fullmatch(pattern, word) for word in words):
                    found[f"{other}={name}"] = None
    return sorted(found, key=by_home)[:5]


def experiments_with(choice: str, homes: Sequence[Path]) -> list[str]:
    """Return the experiments that make a choice, such as "data=table", and whatever else it needs."""
    pattern = re.compile(rf"(override )?/?{re.escape(choice.replace('=', ': '))}")
    found = []
    for home in homes:
        for (group, name), (_, content) in files_of_folder(home).items():
            if group == "experiment" and any(pattern.fullmatch(f"{key}: {value}") for key, value in _defaults(content)):
                found.append(f"experiment={name}")
    return found


def choices_of_class(name: str, group: str, homes: Sequence[Path]) -> list[str]:
    """Return the choices of a group that build a class of this name, first those that are one."""
    found = []
    for home in homes:
        for (other, choice), (_, content) in files_of_folder(home).items():
            keys = [key for key, target in find_targets(content) if bare(str(target).split(".")[-1]) == bare(name)]
            if other == group and keys:
                found.append((min(map(len, keys)), f"{group}={choice}"))
    return [word for _, word in sorted(found)]


def default_tree(words: Sequence[str], homes: Sequence[Path]) -> dict[str, Any]:
    """Return the settings of `train.yaml` with the choices of a command line, without composing: for suggestions."""
    files = {key: item for home in reversed(homes) for key, item in files_of_folder(home).items()}
    typed = dict(word.split("=", 1) for word in words if re.fullmatch(r"\w+=[\w-]+", word))
    _, content = files[".", "train"]
    chosen = dict(_defaults(content))
    experiment = files.get(("experiment", typed.get("experiment", "")), ("", {}))[1]
    chosen |= {key.removeprefix("override ").lstrip("/"): value for key, value in _defaults(experiment)} | typed
    tree: dict[str, Any] = {key: value for key, value in content.items() if key not in ("defaults", "hydra")}
    for group, name in chosen.items():
        package, settings = files.get((group.split("@")[0], str(name)), ("", None))
        if isinstance(settings, Mapping) and package == group:
            tree[group] = settings
    return tree


def _defaults(content: Any) -> list[tuple[str, Any]]:
    """Return the pairs of a defaults list."""
    listed = content.get("defaults") if isinstance(content, Mapping) else None
    return [(str(key), value) for one in listed or () if isinstance(one, Mapping) for key, value in one.items()]


def video_option(name: str, homes: Sequence[Path]) -> str | None:
    """Return the option of jobs that read videos, by its own name or one that others use; None if there is none."""
    options: dict[str, str] = {}
    for home in homes:
        for (group, choice), (_, content) in files_of_folder(home).items():
            if isinstance(content, Mapping) and ((group, choice) == ("extraction", "default") or group == "encoder"):
                prefix = "" if group == "extraction" else "encoder."
                for one in content:
                    options.setdefault(str(one), f"{prefix}{one}")
    for one in ("defaults", TARGET, "name", "allow", "ids", "limit", "device", "precision", "compile", "format"):
        options.pop(one, None)  # these mean something else in a training
    if any(known_as(name, [one]) for one in options):
        return next(path for one, path in options.items() if known_as(name, [one]))
    meant = [one for one, others in OTHER_NAMES.items() if known_as(name, others)]
    return next((path for one, path in options.items() if one in meant and one not in _NOT_OF_VIDEOS), None)


def by_home(path: str) -> tuple[int, int]:
    """Return a sort key: settings and choices in the likely places first."""
    home = re.split(r"[.=]", path.lstrip("+"))[0]
    order = ("experiment", *HOMES)
    return (order.index(home) if home in order else len(order), path.count("."))


def paths_in(tree: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, bool]]:
    """Yield the path of every setting below a node, and whether it holds others."""
    for name, item in tree.items():
        if str(name) in (TARGET, "_partial_", "defaults"):
            continue
        path = f"{prefix}.{name}" if prefix else str(name)
        yield path, isinstance(item, Mapping)
        if isinstance(item, Mapping):
            yield from paths_in(item, path)
