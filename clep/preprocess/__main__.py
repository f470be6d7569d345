"""Command line of the jobs: `python -m clep.preprocess JOB key=value ...`."""

import logging
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from clep.compute import Stopped, graceful_shutdown
from clep.compute.locks import file_lock
from clep.config.check import check_call, check_config, did_you_mean
from clep.config.folder import config_folder
from clep.config.targets import ANYTHING
from clep.errors import InputError
from clep.preprocess.choices import PARTS, choices
from clep.preprocess.job_help import USAGE, job_files, job_help, jobs_help

HELP = ("--help", "-h", "help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one job and return the exit status: 0, 1 for input that cannot be used, 128 + signal after Ctrl-C or SIGTERM.

    Args:
        argv: words of the command line after the program's name; None takes those of this process.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    errors = Console(stderr=True, soft_wrap=True)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("clep").setLevel(logging.INFO)
    try:
        with graceful_shutdown():
            _run(words)
    except InputError as error:
        errors.print(f"error: {error}", style="red", markup=False, highlight=False)
        return 1
    except KeyboardInterrupt:
        errors.print("interrupted; the same command again continues", markup=False)
        return 130
    except Stopped as error:
        errors.print(f"stopped by signal {error.signal}; the same command again continues", markup=False)
        return 128 + error.signal
    return 0


def _run(words: list[str]) -> None:
    wants_help = any(word in HELP for word in words)
    words = [word for word in words if word not in HELP]
    conf = config_folder()
    jobs = job_files(conf)
    name, overrides = _job_and_overrides(words)
    if not name:
        if not wants_help:
            raise InputError(f"which job? {USAGE}; jobs: {', '.join(jobs)}")
        Console().print(jobs_help(conf), highlight=False)
        return
    if name not in jobs:
        raise InputError(f"there is no job {name!r}. {did_you_mean(name, jobs)} (jobs: {', '.join(jobs)})")
    target, options = job_options(name, overrides)
    run = get_method(target)
    if wants_help:
        Console().print(job_help(name, run, options), highlight=False)
        return
    check_call(run, options, "")
    check_config(options, targets=ANYTHING)
    written = sys.modules[run.__module__].outputs(options)
    with file_lock(_lock(written[0], options)) if written else nullcontext():
        run(**options)


def _lock(output: Path, options: dict[str, Any]) -> Path:
    """Return what to be alone with: the output, or this machine's own part where several share the work."""
    part = (options.get("extraction") or {}).get("shard")
    return output if part is None else output.with_name(f"{output.stem}.part-{str(part).replace('/', '-of-')}")


def job_options(name: str, overrides: list[str]) -> tuple[str, dict[str, Any]]:
    """Return what a job calls and the options it would be called with, as its config and the command line say.

    Raises:
        InputError: a key is not an option of the job nor a path, or a value cannot be read.
    """
    settings = _compose(name, overrides)
    try:
        options = OmegaConf.to_container(settings.job, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise InputError(str(error).split("\n")[0]) from error
    assert isinstance(options, dict)
    target = str(options.pop("_target_"))
    return target, {str(key): value for key, value in options.items()}


def _job_and_overrides(words: list[str]) -> tuple[str, list[str]]:
    """Split the words into the job and Hydra overrides; a key of the job itself may stand without `job.`."""
    name = ""
    overrides = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            if name or not word.replace("_", "").replace("-", "").isalnum() or word.startswith("-"):
                raise InputError(f"{word!r} is not key=value. Usage: {USAGE}")
            name = word
        elif key == "job":
            name = value
        else:
            overrides.append(word)
    return name, overrides


def _compose(name: str, overrides: list[str]) -> DictConfig:
    with initialize_config_dir(str(config_folder()), version_base=None):
        plain = compose("preprocess", [f"job={name}"])
        written = [_checked(word, plain) for word in overrides]
        try:
            return compose("preprocess", [f"job={name}", *written])
        except (HydraException, OmegaConfBaseException) as error:
            reason = str(error).split("\n")[0]
            raise InputError(
                f"cannot read the options {' '.join(overrides)} ({reason}); a value with commas, colons or brackets "
                "needs quotes inside quotes: \"csv='a,b.csv'\""
            ) from error


def _checked(word: str, plain: DictConfig) -> str:
    """Return a word as Hydra's override: a key of the job or its `extraction`, or a choice of encoder or compute."""
    options = [str(key) for key in plain.job if not str(key).startswith("_")]
    inner = [str(key) for key in plain.job.get("extraction") or ()]
    key, _, value = word.partition("=")
    bare = key.lstrip("+~").removeprefix("job.").removeprefix("extraction.")
    group, dot, item = bare.partition(".")
    home = "job.extraction" if group in inner else "job"
    if group in PARTS and (group in inner or (group == "compute" and group in options)):
        if dot:
            return f"++{home}.{bare}={value}"
        if value in choices(group):
            return f"{group}@{home}.{group}={value}"
        if home == "job.extraction" and group not in options:
            raise InputError(f"there is no {group} {value!r} in conf/{group}. {did_you_mean(value, choices(group))}")
    if bare in options:
        return f"job.{bare}={value}"
    if bare in inner:
        return f"job.extraction.{bare}={value}"
    if group == "paths" and dot and item in plain.paths:
        return word
    if group == "paths" and dot:
        raise InputError(f"there is no path {bare!r}. {did_you_mean(item, map(str, plain.paths))}")
    raise InputError(f"this job has no option {bare!r}. {did_you_mean(bare, [*options, *inner])}")


if __name__ == "__main__":
    sys.exit(main())
