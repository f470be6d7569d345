"""The jobs of this package: listed from their source, imported by name, and registered with Hydra."""

import ast
from dataclasses import MISSING, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING as REQUIRED

from clep.config.check import did_you_mean
from clep.config.targets import TARGET
from clep.errors import InputError
from clep.preprocess.job import Job, job_class


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

    Args:
        name: of a job of this package, or the dotted name of a class of the user's own.

    Raises:
        InputError: there is no such job; the message suggests the nearest one.
    """
    jobs = listed_jobs()
    if "." in name:
        return job_class(name)
    if name not in jobs:
        raise InputError(f"there is no job {name!r}. {did_you_mean(name, jobs)}")
    listed = jobs[name]
    return job_class(f"{listed.module}.{listed.class_name}")


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
