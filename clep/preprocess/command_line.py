"""Write down the command that would run a job, so that it can be pasted into a shell."""

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from clep.config_folder import config_folder
from clep.preprocess.extraction import Extraction

PARTS = ("encoder", "compute")
"""Nodes of an extraction that are chosen by name from a folder of conf."""


def command_line(job: str, options: Mapping[str, Any]) -> str:
    """Return `python -m clep.preprocess JOB key=value …` for a job and those of its options that are to be told."""
    words: list[str] = []
    for key, value in options.items():
        words += list(_extraction(value)) if key == "extraction" and isinstance(value, Mapping) else [_word(key, value)]
    return " ".join(["python -m clep.preprocess", job, *words])


def _extraction(options: Mapping[str, Any]) -> Iterator[str]:
    usual = {field.name: field.default for field in fields(Extraction)}
    for key, value in options.items():
        if key in PARTS and isinstance(value, Mapping):
            yield from _part(key, value)
        elif value != usual.get(key):
            yield _word(key, value)


def _part(group: str, value: Mapping[str, Any]) -> Iterator[str]:
    name, differs = nearest_choice(group, value)
    if name:
        yield f"{group}={name}"
    for key, item in differs.items():
        yield _word(f"{group}.{key}", item)


def nearest_choice(group: str, value: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name the file of conf/<group> that a node differs least from, and what differs; "" where none has its target."""
    best, differs = "", dict(value)
    for path in sorted((config_folder() / group).glob("*.yaml")):
        given = OmegaConf.to_container(OmegaConf.load(path))
        assert isinstance(given, dict)
        other = {key: item for key, item in value.items() if key not in given or given[key] != item}
        if "_target_" not in other and (not best or len(other) < len(differs)):
            best, differs = path.stem, other
    return best, differs


def _word(key: str, value: Any) -> str:
    """Write `key=value` so that the shell and then Hydra read the value back as it is."""
    return shlex.quote(f"{key}={_hydra_value(value)}")


def _hydra_value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_hydra_value, value))}]"
    if not isinstance(value, str | Path):
        return json.dumps(value)
    text = str(value)
    if _reads_back(text):
        return text
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _reads_back(text: str) -> bool:
    try:
        return OverridesParser.create().parse_override(f"key={text}").value() == text
    except HydraException:
        return False
