"""Command line of the jobs: `python -m clep.preprocess JOB key=value ...`."""

import inspect
import logging
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, get_args, get_origin

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table

from clep.command_line import HELP, exit_status, option_meanings
from clep.compute import graceful_shutdown
from clep.config.check import TextExpected, did_you_mean
from clep.config.compose import compose_config
from clep.config.mistakes import check_grammar, explain, nearest_option
from clep.config.overrides import split_config_dir
from clep.config.targets import TARGET
from clep.config.words import joined
from clep.errors import InputError
from clep.preprocess.catalogue import find_job, listed_jobs, register
from clep.preprocess.job import (
    CHOICES,
    EXTRACTION,
    Job,
    build_job,
    choices,
    extraction_options,
    nearest_choice,
    path_options,
)

USAGE = "python -m clep.preprocess JOB [key=value ...] [--config-dir DIR]"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one job and return the exit status: 0, 1 for input that cannot be used, 128 + signal after Ctrl-C or SIGTERM.

    Args:
        argv: words of the command line after the program's name; None takes those of this process.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    errors = Console(stderr=True, soft_wrap=True)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("clep").setLevel(logging.INFO)

    def work() -> None:
        with graceful_shutdown():
            _run(words)

    def report(text: str) -> None:
        errors.print(text, style="red" if text.startswith("error") else None, markup=False, highlight=False)

    return exit_status(work, report)


def job_options(name: str, overrides: Sequence[str], config_dir: str | None = None) -> dict[str, Any]:
    """Compose the config of a job, `_target_` included, from its declaration, `conf/` and the command line.

    Args:
        name: of the job, or the dotted name of a class of the user's own.
        overrides: words key=value, as on the command line.
        config_dir: a folder of the user's own groups, such as `encoder/`, beside `conf/`.

    Raises:
        InputError: a key is not an option of the job nor a path, or a value cannot be read.
    """
    job = find_job(name)
    register(job)
    settings = _compose(job, overrides, config_dir)
    try:
        options = OmegaConf.to_container(settings.job, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise InputError(str(error).split("\n")[0]) from error
    assert isinstance(options, dict)
    return {str(key): value for key, value in options.items()}


def _run(words: list[str]) -> None:
    words, config_dir = split_config_dir(words)
    wants_help = any(word in HELP for word in words)
    name, overrides = _job_and_overrides([word for word in words if word not in HELP])
    if not name:
        if not wants_help:
            raise InputError(f"no job given. Usage: {USAGE}; jobs: {', '.join(listed_jobs())}")
        Console().print(_jobs_help(), highlight=False)
        return
    options = job_options(name, overrides, config_dir)
    if wants_help:
        Console().print(_job_help(find_job(name), options), highlight=False)
        return
    try:
        job = build_job(options)
    except TextExpected as error:
        raise InputError(explain(error, overrides)) from error
    with job.lock():
        job.run()


def _job_and_overrides(words: list[str]) -> tuple[str, list[str]]:
    """Split the words into the job and Hydra overrides; a key of the job itself may stand without `job.`."""
    name = ""
    overrides = []
    for index, word in enumerate(words):
        key, equals, value = word.partition("=")
        if not equals or word.startswith("-"):
            if name or not re.fullmatch(r"\w[\w.-]*", word):
                meant = joined(words, index)
                hint = f" Did you mean {shlex.quote(meant)}?" if meant else ""
                raise InputError(f"{word!r} is not key=value.{hint} Usage: {USAGE}")
            name = word
        elif key == "job":
            name = value
        else:
            overrides.append(word)
    return name, overrides


def _compose(job: type[Job], overrides: Sequence[str], config_dir: str | None) -> DictConfig:
    check_grammar(overrides)
    written = [part for word in overrides for part in _as_overrides(word, job, config_dir)]
    return compose_config("preprocess", [f"job={job.name}", *written], config_dir)


def _as_overrides(word: str, job: type[Job], config_dir: str | None) -> list[str]:
    """Return a word as Hydra's overrides; a part of the user's own, `encoder={_target_: …}`, replaces the default."""
    key, _, value = word.partition("=")
    if key in CHOICES and value.startswith("{"):
        home = f"job.{EXTRACTION}" if key in extraction_options(job) else "job"
        return [f"~{key}@{home}.{key}", f"+{home}.{key}={value}"]
    return [_as_override(word, job, config_dir)]


def _as_override(word: str, job: type[Job], config_dir: str | None) -> str:
    """Return a word as Hydra's override: a key of the job or its `extraction`, or a choice of encoder or compute."""
    options = [option.name for option in job.options()]
    inner = extraction_options(job)
    key, _, value = word.partition("=")
    bare = key.lstrip("+~").removeprefix("job.").removeprefix(f"{EXTRACTION}.")
    group, dot, item = bare.partition(".")
    home = f"job.{EXTRACTION}" if group in inner else "job"
    if group in CHOICES and (group in inner or (group == "compute" and group in options)):
        if dot:
            return f"++{home}.{bare}={value}"
        known = choices(group, config_dir)
        if value in known:
            return f"{group}@{home}.{group}={value}"
        if home != "job" and group not in options:
            raise InputError(f"there is no {group} {value!r} in conf/{group}. {did_you_mean(value, known)}")
    if bare in options:
        return f"job.{bare}={value}"
    if dot and group in options and group not in inner and _is_mapping(job, group):
        return f"++job.{bare}={value}"
    if bare in inner:
        return f"job.{EXTRACTION}.{bare}={value}"
    if bare == "paths" or (group == "paths" and item in path_options()):
        return word
    if group == "paths" and dot:
        raise InputError(f"there is no path {bare!r}. {did_you_mean(item, path_options())}")
    raise InputError(f"this job has no option {bare!r}. {nearest_option(bare, [*options, *inner])}")


def _is_mapping(job: type[Job], option: str) -> bool:
    """Return whether an option holds values by name, which can be given one by one: columns.text=caption."""
    hint = next(field.type for field in job.options() if field.name == option)
    return any(get_origin(kind) is Mapping for kind in (hint, *get_args(hint)))


def _jobs_help() -> RenderableType:
    """List the jobs, one line each; imports none of them."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
    for name, job in listed_jobs().items():
        table.add_row(name, escape(job.summary.rstrip(".")))
    return Group(
        escape(f"{USAGE}\n\nJobs:"),
        table,
        escape(
            f"\nOptions of a job: {USAGE.split(' [')[0]} --help\n"
            "paths.data=DIR moves all inputs and outputs (default: the folder data where you run)."
        ),
    )


def _job_help(job: type[Job], options: Mapping[str, Any]) -> RenderableType:
    """Return what a job does, and its options: name, value with this command line, meaning."""
    summary = inspect.cleandoc(job.__doc__ or "").partition("\n\nAttributes:")[0]
    plain = {key: value for key, value in options.items() if key not in (TARGET, EXTRACTION)}
    parts: list[RenderableType] = [escape(f"{USAGE.replace('JOB', job.name)}\n\n{summary}\n")]
    parts.append(_table(plain, option_meanings(job)))
    declared = {option.name: option for option in job.options()}
    if isinstance(options.get(EXTRACTION), Mapping):
        kinds: list[Any] = [kind for kind in get_args(declared[EXTRACTION].type) if is_dataclass(kind)]
        meanings = option_meanings(kinds[0]) if kinds else {}
        parts += ["\nHow videos are encoded:\n", _table(options[EXTRACTION], meanings)]
        parts.append("\nOptions of an encoder or a compute: encoder.KEY=VALUE, compute.KEY=VALUE, see conf.")
    return Group(*parts)


def _table(values: Mapping[str, Any], meanings: Mapping[str, str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 2), title_justify="left")
    for heading in ("option", "default", "meaning"):
        table.add_column(heading, overflow="fold")
    for option, value in values.items():
        table.add_row(option, escape(_shown(option, value)), escape(meanings.get(option, "")))
    return table


def _shown(option: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return nearest_choice(option, value)[0]
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    sys.exit(main())
