"""Parts of a job that are chosen by name from a folder of conf."""

from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf

from clep.config.folder import config_folder

PARTS = ("encoder", "compute")


def choices(group: str) -> list[str]:
    """Return the names in conf/<group>, sorted."""
    return sorted(path.stem for path in (config_folder() / group).glob("*.yaml"))


def nearest_choice(group: str, value: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name the file of conf/<group> that a node differs least from, and what differs; "" where none has its target."""
    best, differs = "", dict(value)
    for name in choices(group):
        given = OmegaConf.to_container(OmegaConf.load(config_folder() / group / f"{name}.yaml"))
        assert isinstance(given, dict)
        other = {key: item for key, item in value.items() if key not in given or given[key] != item}
        if "_target_" not in other and (not best or len(other) < len(differs)):
            best, differs = name, other
    return best, differs
