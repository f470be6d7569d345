"""Run the preprocessing that a run still lacks, or say which command would, where that takes long."""

import importlib
import inspect
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from clep.compute.locks import file_lock
from clep.config.check import check_call
from clep.errors import InputError
from clep.preprocess.command_line import command_line

logger = logging.getLogger(__name__)

LONG_TEXTS = 200_000
LONG_BYTES = 50e9


def ensure(
    jobs: Sequence[Mapping[str, Any]], long_texts: int = LONG_TEXTS, long_bytes: float | int = LONG_BYTES
) -> list[dict[str, Any]]:
    """Bring the outputs of jobs up to date, in order.

    Outputs whose inputs are not here any more (only the results were copied to this machine) are taken as they are.
    Several processes, as the ranks of a training run, may call this at once: one works, the others wait for it.

    Args:
        jobs: composed settings of jobs, `{"_target_": "clep.preprocess.<job>.run", **options}`.
        long_texts: more texts than this, to be encoded without a GPU, are left to the user.
        long_bytes: more bytes of features than this, to be packed, are left to the user.

    Returns:
        The coverage of each job that could be checked or run.

    Raises:
        InputError: an option is wrong, an input is missing while an output is too, or the job would take long; the
            message then ends with its command.
    """
    return [result for job in jobs if (result := _ensure_one(dict(job), long_texts, long_bytes)) is not None]


def outputs(job: Mapping[str, Any]) -> list[Path]:
    """Return the files that a job leaves."""
    module, options = _split(dict(job))
    return module.outputs(options)


def missing_outputs(job: Mapping[str, Any]) -> list[Path]:
    """Return the files that a job would leave and that are not there yet."""
    return [path for path in outputs(job) if not path.exists()]


def command(job: Mapping[str, Any]) -> str:
    """Return the command line that runs a job with these settings; it can be pasted into a shell."""
    module, options = _split(dict(job))
    name, usual = module.__name__.rpartition(".")[2], _defaults(module)
    told = {key: value for key, value in options.items() if key not in usual or value != usual[key]}
    return command_line(name, told)


def _ensure_one(job: dict[str, Any], long_texts: int, long_bytes: float | int) -> dict[str, Any] | None:
    module, options = _split(job)
    gone = [path for path in module.inputs(options) if not path.exists()]
    lacking = [path for path in module.outputs(options) if not path.exists()]
    if gone and not lacking:
        logger.info("%s is not here; what was made from it is taken as it is", gone[0])
        return None
    if gone:
        raise InputError(
            f"{lacking[0]} is missing, and so is {gone[0]}, which it is made from. Put it there, or name its "
            f"place (paths.data=DIR moves all of them). The job: {command(job)}"
        )
    if not lacking and not os.access(module.outputs(options)[0].parent, os.W_OK):
        logger.info("%s cannot be written to; what is in it is taken as it is", module.outputs(options)[0].parent)
        return None
    with file_lock(module.outputs(options)[0]):
        reason = module.cost_warning(options, long_texts, long_bytes)
        if reason is not None:
            raise InputError(f"{reason}, which takes long. Run once, where it suits, then come back: {command(job)}")
        return module.run(**options)


def _split(job: dict[str, Any]) -> tuple[ModuleType, dict[str, Any]]:
    """Return the module of a job and its options, those not given at their defaults."""
    target = str(job.get("_target_", ""))
    module_name, _, function = target.rpartition(".")
    if not module_name.startswith("clep.preprocess.") or function != "run":
        raise InputError(f"_target_={target!r} is not a job; expected clep.preprocess.<job>.run")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise InputError(f"_target_={target!r} is not a job: {error}") from error
    options = {key: value for key, value in job.items() if not key.startswith("_")}
    check_call(module.run, options, module_name.rpartition(".")[2])
    return module, _defaults(module) | options


def _defaults(module: ModuleType) -> dict[str, Any]:
    parameters = inspect.signature(module.run).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}
