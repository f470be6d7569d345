"""The training command: preprocess what is missing, fit, evaluate, write `metrics.json` and the model."""

import logging
import os
import shlex
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
import pytorch_lightning as pl
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from clep.config.build import build_typed
from clep.config.check import did_you_mean
from clep.config.folder import config_folder
from clep.config.help import groups_help
from clep.config.mistakes import HYDRA_OPTIONS, check_words, explain
from clep.config.overrides import leaves_out_evaluators, split_config_dirs
from clep.config.own_parts import missing_options, record_parts
from clep.config.plugins import register_plugins
from clep.config.requirements import files_read
from clep.config.resolvers import register_resolvers
from clep.config.saved import SETTINGS
from clep.config.starter import write_starter
from clep.config.targets import REGISTERED_ONLY
from clep.errors import InputError
from clep.evaluation import EvaluatorCallback
from clep.evaluation.details import DETAILS, Detail, write_details
from clep.files import atomic_path, write_json
from clep.machine import this_machine, versions
from clep.preprocess import config_store  # noqa: F401 - `hydra.searchpath=…` replaces the list in conf/train.yaml
from clep.preprocess.job import Job, build_job, ensure
from clep.training.base import BaseModule
from clep.training.checkpoint import (
    best_checkpoint,
    check_unfinished,
    checked_monitors,
    find_checkpoint,
    remove_leftovers,
)
from clep.training.display import finish_loggers, log_final_metrics, print_results
from clep.training.early_stopping import TrainNothing, stopped_early
from clep.training.history import History
from clep.training.run_folder import FAILURE, locked_run_folder, rank, remove_failed_start
from clep.training.settings import checked_settings, typed_overrides
from clep.training.tasks import Task

log = logging.getLogger(__name__)
register_resolvers()
register_plugins()


def train(cfg: DictConfig) -> dict[str, float]:
    """Run the experiment that `cfg` describes and return its final metrics.

    Writes into `cfg.paths.run`: `config.yaml` (the settings, resolved), `parts.json` (names and files of parts from
    outside clep, if any), checkpoints, logs, `history.json` (metrics of each validation), `prompts.json`, `model/` (see
    `clep.load`), `metrics.json`, `details.safetensors` (see `clep.evaluation.details`) and `report.html`.
    Metrics whose names begin with `before/` were measured before training; `seconds/…` are wall-clock times. A run
    that was interrupted in this folder is continued.

    Raises:
        InputError: a setting, a file or a checkpoint cannot be used, or training diverged; the message names the
            remedy.
    """
    settings = checked_settings(cfg)
    with locked_run_folder(cfg.paths.run):
        return _train(cfg, settings, Path(cfg.paths.run))


def _train(cfg: DictConfig, settings: dict[str, Any], run_folder: Path) -> dict[str, float]:
    runs = Path(cfg.paths.runs) / cfg.name
    if rank() == 0:
        remove_leftovers(runs, run_folder)
    resume_from = find_checkpoint(cfg.ckpt_path, runs, run_folder)
    check_unfinished(resume_from, cfg.ckpt_path, settings["trainer"])
    nothing_left = stopped_early(resume_from, cfg.ckpt_path, settings["callbacks"])
    if rank() == 0:
        with atomic_path(run_folder / SETTINGS) as temporary:
            temporary.write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), encoding="utf-8")
        record_parts(run_folder, settings, _config_dirs())
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    seconds: dict[str, float] = {}
    with _timed(seconds, "prepare"):
        if settings["synthetic"]:
            build_typed(settings["synthetic"])
        skips = leaves_out_evaluators(settings["missing_evaluators"], typed_overrides())
        left_out = evaluators_without_files(settings) if skips else {}
        for name, reason in left_out.items():
            log.warning("evaluator %s is left out: %s (with missing_evaluators=error that is an error)", name, reason)
        settings["evaluator"] = {key: one for key, one in settings["evaluator"].items() if key not in left_out}
        ensure(needed_jobs(settings))

    data = build_typed(cfg.data)
    task = build_typed(cfg.task)
    if not isinstance(task, Task):
        raise InputError(f"task: {type(task).__name__} is not a clep.training.Task, which has a method build")
    module: BaseModule = task.build(settings, data)
    if cfg.compile:
        module.compile_steps()
    evaluators = {name: build_typed(cfg.evaluator[name]) for name in settings["evaluator"]}
    evaluation, history = EvaluatorCallback(evaluators, run_folder / "prompts.json"), History(run_folder)
    # Evaluators run before ModelCheckpoint, which may monitor what they log.
    callbacks = [evaluation, history, *(build_typed(callback) for callback in cfg.callbacks.values() if callback)]
    loggers = [build_typed(logger) for logger in cfg.logger.values() if logger]
    callbacks += [TrainNothing()] if nothing_left else []
    shows_progress = any(isinstance(callback, pl.callbacks.ProgressBar) for callback in callbacks)
    trainer: pl.Trainer = build_typed(
        cfg.trainer, callbacks=callbacks, logger=loggers or False, enable_progress_bar=shows_progress
    )
    started = time.time()

    def measure(name: str, ckpt_path: str | None = None) -> dict[str, float]:
        with _timed(seconds, name):
            trainer.validate(module, datamodule=data, ckpt_path=ckpt_path, verbose=False, weights_only=True)
        return {key: float(value) for key, value in trainer.callback_metrics.items()}

    if not resume_from:  # a checkpoint holds the metrics of its run
        module.metrics_before = measure("evaluate_before")
        checked_monitors(callbacks, module.metrics_before)
    with _timed(seconds, "fit"):
        try:
            trainer.fit(module, datamodule=data, ckpt_path=resume_from, weights_only=True)
        except SystemExit as error:  # Lightning turns Ctrl-C into an exit
            raise (KeyboardInterrupt if trainer.interrupted else error) from error
    before, fitted = module.metrics_before, module.train_metrics()

    trainer.loggers = []  # the best weights are of an earlier step than a logger would write down
    best = best_checkpoint(trainer) if cfg.final_weights == "best" else None
    steps, evaluation.keeps_details = trainer.global_step, cfg.report is not None
    metrics = fitted | measure("evaluate_after", best)
    if trainer.is_global_zero:
        chosen = history.chosen(trainer.checkpoint_callback, best is not None, steps)
        history.write(chosen)
        if prompts := evaluation.prompts():
            module.model.metadata["prompts"] = prompts
        module.save(run_folder)
        coverage = {"data": data.report, **evaluation.coverage}
        write_json(run_folder / "coverage.json", coverage | ({"left_out": left_out} if left_out else {}))
        everything = metrics | {f"before/{name}": value for name, value in before.items()} | seconds
        write_json(run_folder / "metrics.json", everything)
        print_results(before, metrics, f"{cfg.name}: {run_folder}", f"Measured: {chosen}.")
        if options := missing_options(run_folder, REGISTERED_ONLY):
            log.info("to evaluate it: python -m clep.evaluate ckpt=%s %s", shlex.quote(str(run_folder)), options)
        log_final_metrics(loggers, settings, metrics)
        if cfg.report is not None:
            run = {"started": started, "ended": time.time(), "machine": this_machine(), "versions": versions()}
            _write_report(cfg, run_folder, evaluation.details, run, loggers)
    finish_loggers(loggers)
    return metrics


def _write_report(
    cfg: DictConfig, run_folder: Path, details: list[Detail], run: dict[str, Any], loggers: list[Any]
) -> None:
    """Write the details of the evaluation and the report. Whatever goes wrong is a warning: the run has succeeded."""
    try:
        write_details(run_folder / DETAILS, details, run)
        page = build_typed(cfg.report).write(run_folder, loggers)
        log.info("report: %s", page)
    except Exception as error:
        log.warning("the run has no report: %s: %s", type(error).__name__, error)
        log.debug("traceback", exc_info=True)


def needed_jobs(settings: Mapping[str, Any]) -> list[Job]:
    """Return the jobs of `prepare` with an output that the data or an evaluator of this run reads."""
    read = files_read(settings["data"]) | files_read(settings["evaluator"])
    jobs = [build_job(job, f"prepare.{name}") for name, job in settings["prepare"].items() if job]
    return [job for job in jobs if _writes_any(job, read)]


def evaluators_without_files(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the evaluators whose files neither exist nor can be made, with the file that is missing.

    What the training data needs as well is no reason to leave an evaluator out: without it there is no run.
    """
    jobs = {name: build_job(job, f"prepare.{name}") for name, job in settings["prepare"].items() if job}
    of_data = {name for name, job in jobs.items() if _writes_any(job, files_read(settings["data"]))}
    written = [output for job in jobs.values() for output in job.outputs()]
    found = {}
    for name, evaluator in settings["evaluator"].items():
        read = files_read(evaluator)
        own = [job for key, job in jobs.items() if key not in of_data and _writes_any(job, read)]
        missing = [path for job in own if job.missing_outputs() for path in job.inputs()]
        missing += [path for path in read if not any(_overlap(output, path) for output in written)]
        if gone := [path for path in missing if not path.exists() and not any(_overlap(one, path) for one in written)]:
            found[name] = f"{gone[0]} does not exist"
    return found


def _writes_any(job: Job, read: Iterable[Path]) -> bool:
    return any(_overlap(output, path) for output in job.outputs() for path in read)


def _overlap(one: Path, other: Path) -> bool:
    one, other = one.absolute(), other.absolute()
    return one.is_relative_to(other) or other.is_relative_to(one)


def _config_dirs() -> list[str]:
    """Return the config folders that the user named by `--config-dir` or `hydra.searchpath`."""
    if not HydraConfig.initialized():
        return []
    sources = HydraConfig.get().runtime.config_sources
    named = [one for one in sources if one.provider == "command-line" or "searchpath" in one.provider]
    return [one.path for one in named if one.schema == "file"]  # the package in conf/train.yaml is no folder


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Add the wall-clock time of the block to `seconds`."""
    started = time.perf_counter()
    yield
    seconds[f"seconds/{name}"] = time.perf_counter() - started


def quiet_libraries() -> None:
    """Silence messages of libraries that say nothing about the run."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for noisy in ("pytorch_lightning", "sentence_transformers", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*srun.*")  # shown wherever Slurm is installed
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning's own use of a deprecated name
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")  # evaluators return equal metrics on every rank
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")  # no workers is the fastest here


@hydra.main(version_base=None, config_path=str(config_folder()), config_name="train")
def _run(cfg: DictConfig) -> dict[str, float] | float:
    quiet_libraries()
    folder = Path(cfg.paths.run)
    try:
        metrics = train(cfg)
        return metrics if cfg.optimized_metric is None else _optimized(metrics, cfg.optimized_metric)
    except InputError as error:
        log.error("%s", error)
        if HydraConfig.get().mode == RunMode.MULTIRUN:  # the other runs of the sweep go on
            write_json(folder / FAILURE, {"error": str(error)})
            return {} if cfg.optimized_metric is None else float("nan")
        remove_failed_start(folder)
        sys.exit(1)
    except KeyboardInterrupt:
        log.error("interrupted; `ckpt_path=last` with the same settings continues from the last checkpoint")
        sys.exit(130)


def _optimized(metrics: Mapping[str, float], name: str) -> float:
    if name not in metrics:
        raise InputError(
            f"optimized_metric={name}: no evaluator of this run measures it. {did_you_mean(name, metrics)}"
        )
    return metrics[name]


def _write_starter(words: list[str]) -> None:
    if len(words) != 1 or words[0].startswith("-"):
        raise InputError("new takes the folder of the project: clep-train new my_project")
    commands = write_starter(Path(words[0]))
    sys.stdout.write("".join(f"  {command}\n" for command in [f"wrote {words[0]}; next:", *commands]))


def main() -> None:
    """CLI entry point; prints an InputError, or what is wrong with an override, without a traceback."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises, so that a wrong override is explained below
    words = sys.argv[1:]
    settings = words
    folders: list[str] = []
    try:
        if words[:1] == ["new"]:
            _write_starter(words[1:])
            return
        settings, folders = split_config_dirs(words)
        if {"--help", "-h"} & set(words):
            sys.stdout.write(groups_help(folders))
            return
        check_words(words, HYDRA_OPTIONS, folders)
        _run()
    except InputError as error:
        sys.exit(f"error: {error}")
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(f"error: {explain(error, settings, folders)}")


if __name__ == "__main__":
    main()
