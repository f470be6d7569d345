"""Plug-ins: classes that installed packages offer by entry points, chosen by name as the files of `conf/` are.

Entry points of `clep.encoders`, `clep.datasets` and `clep.evaluators` name a class: `mine = "my_package.module:Class"`.
Listing them reads the metadata of packages and imports nothing; a class is imported when a run that chose it starts.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore

from clep.config.folder import config_folder

GROUPS = {"clep.encoders": "encoder", "clep.datasets": "data", "clep.evaluators": "evaluator"}


@dataclass(frozen=True)
class Plugin:
    """A class that a package offers.

    Attributes:
        kind: entry point group, e.g. "clep.encoders".
        name: under which it is chosen: `encoder=NAME`.
        target: dotted name of the class.
        package: that offers it.
    """

    kind: str
    name: str
    target: str
    package: str

    def __str__(self) -> str:
        """Return the plug-in in messages."""
        return f"the plug-in {self.name!r} of the package {self.package} (entry point {self.kind})"

    def node(self) -> dict[str, Any]:
        """Return the config that the choice stands for.

        A dataset is a `clep.data.Source`: it takes the place of Ego4D's in `conf/data/ego4d.yaml`.
        """
        part = {"_target_": self.target}
        if self.kind == "clep.evaluators":
            return {self.name: part}
        if self.kind == "clep.encoders":
            return part
        content = yaml.safe_load((config_folder() / "data" / "ego4d.yaml").read_text(encoding="utf-8"))
        return {**content, "sources": {"ego4d": part}}


@functools.cache
def installed_plugins() -> tuple[Plugin, ...]:
    """Return the plug-ins of all installed packages; none is imported."""
    return tuple(
        Plugin(kind, point.name, point.value.replace(":", ".").partition("[")[0].strip(), _package(point))
        for kind in GROUPS
        for point in entry_points(group=kind)
    )


def register_plugins() -> None:
    """Make plug-ins choices of their groups: `encoder=NAME`, `data=NAME`, `evaluator=NAME`. Files of `conf/` win."""
    for plugin in installed_plugins():
        group, provider = GROUPS[plugin.kind], f"plug-in of {plugin.package}"
        ConfigStore.instance().store(group=group, name=plugin.name, node=plugin.node(), provider=provider)


def plugin_names(group: str) -> list[str]:
    """Return the names of the plug-ins that a group of configs offers."""
    return [plugin.name for plugin in installed_plugins() if GROUPS[plugin.kind] == group]


def plugin_of(target: str) -> Plugin | None:
    """Return the plug-in that offers a class; None if no package does."""
    return next((plugin for plugin in installed_plugins() if plugin.target == target), None)


def chosen_plugins(choices: Iterable[tuple[str, Any]]) -> frozenset[str]:
    """Return the dotted names of the plug-ins that the user chose, from pairs of a group and its value or values."""
    named = [(group, name) for group, value in choices for name in (value if isinstance(value, list) else [value])]
    chosen = {(group, name) for group, name in named if isinstance(name, str)}
    return frozenset(one.target for one in installed_plugins() if (GROUPS[one.kind], one.name) in chosen)


def _package(point: Any) -> str:
    return point.dist.name if point.dist is not None else point.value.partition(".")[0].partition(":")[0]
