"""The jobs of this package: listed from their source, imported by name, and registered with Hydra."""

import ast
import importlib
from dataclasses import MISSING, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING as REQUIRED

from clep.config.targets import TARGET
from clep.preprocess.job import Job


@dataclass(frozen=True)
class Listed:
    """A job as its source declares it.

    Attributes:
        module: where its class is, e.g. "clep.preprocess.kinetics".
        class_name: e.g. "Kinetics".
        summary: first line of the class's docstring.
    """

    module: str
    class_name: str
    summary: str


@cache
def listed_jobs() -> dict[str, Listed]:
    """Return every job of the package by name, sorted.

    The source files are parsed and not imported: importing all jobs loads PyTorch, which takes seconds.
    """
    found = {}
    for path in Path(__file__).parent.glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                for keyword in node.keywords:
                    if keyword.arg == "job" and isinstance(keyword.value, ast.Constant):
                        summary = (ast.get_docstring(node) or "").partition("\n")[0]
                        module = f"{__package__}.{path.stem}"
                        found[str(keyword.value.value)] = Listed(module, node.name, summary)
    return dict(sorted(found.items()))


def find_job(name: str) -> type[Job]:
    """Import the class of a job.

    Raises:
        KeyError: the package has no job of this name.
    """
    listed = listed_jobs()[name]
    found: type[Job] = getattr(importlib.import_module(listed.module), listed.class_name)
    return found


def register(job: type[Job]) -> None:
    """Register a job as `job/<name>` in Hydra's ConfigStore: its `_target_`, options, defaults and config groups."""
    node: dict[str, Any] = {TARGET: f"{job.__module__}.{job.__qualname__}"}
    defaults: list[Any] = ["_self_"]
    for option in job.options():
        group = option.metadata.get("group")
        if group is None:
            node[option.name] = REQUIRED if option.default is MISSING else option.default
            continue
        choice = option.metadata["choice"]
        defaults.append({f"/{group}@{option.name}": choice})
        if choice is None:
            node[option.name] = None
    ConfigStore.instance().store(group="job", name=job.name, node={"defaults": defaults, **node}, provider="clep")
