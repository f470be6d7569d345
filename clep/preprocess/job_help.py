"""What `--help` says: the jobs, and the options of one with their defaults and meaning."""

import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from clep.preprocess.choices import nearest_choice

USAGE = "python -m clep.preprocess JOB [key=value ...]"


def job_files(conf: Path) -> dict[str, Path]:
    """Return the config file of each job, by name."""
    return {path.stem: path for path in sorted((conf / "job").glob("*.yaml"))}


def jobs_help(conf: Path) -> RenderableType:
    """List the jobs, one line each: the first line of each config file. Imports none of them."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
    for name, path in job_files(conf).items():
        table.add_row(name, escape(path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")))
    return Group(
        escape(f"{USAGE}\n\nJobs:"),
        table,
        escape(
            f"\nOptions of a job: {USAGE.split(' [')[0]} --help\n"
            "paths.data=DIR moves all inputs and outputs (default: the folder data where you run)."
        ),
    )


def job_help(name: str, run: Callable[..., Any], defaults: Mapping[str, Any]) -> RenderableType:
    """List the options of one job: name, default as written in its config, meaning from its docstring."""
    plain = {key: value for key, value in defaults.items() if not key.startswith("_") and key != "extraction"}
    summary = inspect.cleandoc(run.__doc__ or "").partition("\n\nArgs:")[0]
    parts: list[RenderableType] = [escape(f"{USAGE.replace('JOB', name)}\n\n{summary}\n")]
    parts.append(_options(plain, option_meanings(run)))
    if isinstance(defaults.get("extraction"), Mapping):
        # These load PyTorch, which the list of jobs can do without.
        from clep.extraction import Extraction
        from clep.extraction.regions import RegionExtraction

        meanings = option_meanings(Extraction) | option_meanings(RegionExtraction)
        parts += ["\nHow videos are encoded:\n", _options(defaults["extraction"], meanings)]
        parts.append("\nOptions of an encoder or a compute: encoder.KEY=VALUE, compute.KEY=VALUE, see conf.")
    return Group(*parts)


def _options(defaults: Mapping[str, Any], meanings: Mapping[str, str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 2), title_justify="left")
    for heading in ("option", "default", "meaning"):
        table.add_column(heading, overflow="fold")
    for option, default in defaults.items():
        table.add_row(option, escape(_shown(option, default)), escape(meanings.get(option, "")))
    return table


def _shown(option: str, default: Any) -> str:
    if isinstance(default, Mapping):
        return nearest_choice(option, default)[0]
    return "null" if default is None else str(default).lower() if isinstance(default, bool) else str(default)


def option_meanings(run: Callable[..., Any]) -> dict[str, str]:
    """Return what the section "Args:" of a docstring says of each parameter."""
    section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", inspect.cleandoc(run.__doc__ or ""), re.DOTALL | re.MULTILINE)
    if section is None:
        return {}
    entries = re.findall(r"^    (\w+): (.*(?:\n      +.*)*)", section.group(1), re.MULTILINE)
    return {name: " ".join(meaning.split()) for name, meaning in entries}
