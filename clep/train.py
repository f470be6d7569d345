"""The training command: preprocess what is missing, fit, evaluate, write `metrics.json` and the model."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hydra
import pytorch_lightning as pl
from omegaconf import DictConfig

from clep.config.build import build_typed
from clep.config.folder import config_folder
from clep.config.resolvers import register_resolvers
from clep.config.settings import checked, needed_jobs, quiet_libraries, refuse_unknown_settings
from clep.errors import InputError
from clep.evaluation import EvaluatorCallback
from clep.files import write_json
from clep.preprocess.plan import ensure
from clep.training.base import BaseModule
from clep.training.checkpoint import best_checkpoint, checked_monitors, find_checkpoint, remove_leftovers
from clep.training.display import finish_loggers, print_results
from clep.training.run_folder import locked_run_folder, rank

log = logging.getLogger(__name__)
register_resolvers()


def train(cfg: DictConfig) -> dict[str, float]:
    """Run the experiment that `cfg` describes and return its final metrics.

    Writes into `cfg.paths.run`: checkpoints, logs, `prompts.json`, `model/` (see `clep.load`) and `metrics.json`.
    Metrics whose names begin with `before/` were measured before training; `seconds/…` are wall-clock times. A run
    that was interrupted in this folder is continued.

    Raises:
        InputError: a setting, a file or a checkpoint cannot be used, or training diverged; the message names the
            remedy.
    """
    settings = checked(cfg)
    with locked_run_folder(cfg.paths.run):
        return _train(cfg, settings, Path(cfg.paths.run))


def _train(cfg: DictConfig, settings: dict, run_folder: Path) -> dict[str, float]:
    runs = Path(cfg.paths.runs) / cfg.name
    if rank() == 0:
        remove_leftovers(runs, run_folder)
    resume_from = find_checkpoint(cfg.ckpt_path, runs, run_folder)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    seconds: dict[str, float] = {}
    with _timed(seconds, "prepare"):
        if settings["synthetic"]:
            build_typed(settings["synthetic"])
        ensure(needed_jobs(settings))

    data = build_typed(cfg.data)
    module: BaseModule = build_typed(cfg.task)(settings, data)
    evaluators = {name: build_typed(evaluator) for name, evaluator in cfg.evaluator.items()}
    evaluation = EvaluatorCallback(evaluators, run_folder / "prompts.json")
    # Evaluators run before ModelCheckpoint, which may monitor what they log.
    callbacks = [evaluation, *(build_typed(callback) for callback in cfg.callbacks.values() if callback)]
    loggers = [build_typed(logger) for logger in cfg.logger.values() if logger]
    trainer: pl.Trainer = build_typed(cfg.trainer, callbacks=callbacks, logger=loggers or False)

    def measure(name: str, ckpt_path: str | None = None) -> dict[str, float]:
        with _timed(seconds, name):
            trainer.validate(module, datamodule=data, ckpt_path=ckpt_path, verbose=False, weights_only=True)
        return {key: float(value) for key, value in trainer.callback_metrics.items()}

    before = {}
    if not resume_from:
        before = measure("evaluate_before")
        checked_monitors(callbacks, before)
    with _timed(seconds, "fit"):
        try:
            trainer.fit(module, datamodule=data, ckpt_path=resume_from, weights_only=True)
        except SystemExit as error:  # Lightning turns Ctrl-C into an exit
            raise (KeyboardInterrupt if trainer.interrupted else error) from error
    fitted = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("train/")}

    trainer.loggers = []  # the best weights are of an earlier step than a logger would write down
    metrics = fitted | measure("evaluate_after", best_checkpoint(trainer) if cfg.final_weights == "best" else None)
    if trainer.is_global_zero:
        if prompts := evaluation.prompts():
            module.model.metadata["prompts"] = prompts
        module.save(run_folder)
        write_json(run_folder / "coverage.json", {"data": data.report, **evaluation.coverage})
        everything = metrics | {f"before/{name}": value for name, value in before.items()} | seconds
        write_json(run_folder / "metrics.json", everything)
        print_results(before, metrics, f"{cfg.name}: {run_folder}")
    finish_loggers(loggers)
    return metrics


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Add the wall-clock time of the block to `seconds`."""
    started = time.perf_counter()
    yield
    seconds[f"seconds/{name}"] = time.perf_counter() - started


@hydra.main(version_base=None, config_path=str(config_folder()), config_name="train")
def _run(cfg: DictConfig) -> dict[str, float]:
    quiet_libraries()
    try:
        return train(cfg)
    except InputError as error:
        log.error("%s", error)
        sys.exit(1)
    except KeyboardInterrupt:
        log.error("interrupted; `ckpt_path=last` with the same settings continues from the last checkpoint")
        sys.exit(130)


def main() -> None:
    """CLI entry point; prints an InputError without a traceback."""
    refuse_unknown_settings(sys.argv[1:])
    _run()


if __name__ == "__main__":
    main()
