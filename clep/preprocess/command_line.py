"""Write down the command that would run a job, so that it can be pasted into a shell."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from clep.config.overrides import override
from clep.extraction import Extraction
from clep.preprocess.choices import PARTS, nearest_choice


def command_line(job: str, options: Mapping[str, Any]) -> str:
    """Return `python -m clep.preprocess JOB key=value …` for a job and those of its options that are to be told."""
    words: list[str] = []
    for key, value in options.items():
        if isinstance(value, Mapping) and key == "extraction":
            words += _extraction(value)
        elif isinstance(value, Mapping) and key in PARTS:
            words += _part(key, value)
        else:
            words.append(_word(key, value))
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


def _word(key: str, value: Any) -> str:
    """Write `key=value` so that the shell and then Hydra read the value back as it is."""
    return shlex.quote(override(key, value))
