"""The training command: preprocess what is missing, fit, evaluate, write `metrics.json` and the model."""

import logging
import sys
import time
from pathlib import Path

import hydra
import pytorch_lightning as pl
from omegaconf import DictConfig

from clep.config.folder import config_folder
from clep.config.resolvers import register_resolvers
from clep.config.settings import checked, instantiate, needed_jobs, quiet_libraries, refuse_unknown_settings
from clep.errors import InputError
from clep.evaluation import EvaluatorCallback
from clep.files import write_json
from clep.preprocess.plan import ensure
from clep.training import BaseModule, checked_monitors, find_checkpoint, finish_loggers, print_results

log = logging.getLogger(__name__)
register_resolvers()


def train(cfg: DictConfig) -> dict[str, float]:
    """Run the experiment that `cfg` describes and return its final metrics.

    Writes into `cfg.paths.run`: checkpoints, logs, `prompts.json`, `model/` (see `clep.load`) and `metrics.json`,
    whose names that begin with `before/` were measured before training and whose `seconds/…` are wall-clock times.

    Raises:
        InputError: a setting, a file or a checkpoint cannot be used; the message says which and what to do.
    """
    settings, run_folder = checked(cfg), Path(cfg.paths.run)
    resume_from = find_checkpoint(cfg.ckpt_path, Path(cfg.paths.runs) / cfg.name)
    if (run_folder / "metrics.json").exists():
        raise InputError(
            f"{run_folder} holds a finished run; give this one a folder of its own (name=…, CLEP_RUN_ID=…)"
        )
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    seconds: dict[str, float] = {}

    started = time.perf_counter()
    if settings["synthetic"]:
        instantiate(settings["synthetic"])
    ensure(needed_jobs(settings))
    seconds["seconds/prepare"] = time.perf_counter() - started

    data = instantiate(cfg.data)
    module: BaseModule = instantiate(cfg.task)(settings, data)
    evaluators = {name: instantiate(evaluator) for name, evaluator in cfg.evaluator.items()}
    evaluation = EvaluatorCallback(evaluators, run_folder / "prompts.json")
    # The evaluators come first, so that a checkpoint can be chosen by what they logged.
    callbacks = [evaluation, *(instantiate(callback) for callback in cfg.callbacks.values() if callback)]
    loggers = [instantiate(logger) for logger in cfg.logger.values() if logger]
    trainer: pl.Trainer = instantiate(cfg.trainer, callbacks=callbacks, logger=loggers or False)

    def measure(name: str, ckpt_path: str | None = None) -> dict[str, float]:
        started = time.perf_counter()
        trainer.validate(module, datamodule=data, ckpt_path=ckpt_path, verbose=False, weights_only=True)
        seconds[f"seconds/{name}"] = time.perf_counter() - started
        return {key: float(value) for key, value in trainer.callback_metrics.items()}

    before = {}
    if not resume_from:
        before = measure("evaluate_before")
        checked_monitors(callbacks, before)
    started = time.perf_counter()
    try:
        trainer.fit(module, datamodule=data, ckpt_path=resume_from, weights_only=True)
    except SystemExit as error:  # what the trainer makes of Ctrl-C
        raise (KeyboardInterrupt if trainer.interrupted else error) from error
    seconds["seconds/fit"] = time.perf_counter() - started
    fitted = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("train/")}

    best = getattr(trainer.checkpoint_callback, "best_model_path", "") if cfg.final_weights == "best" else ""
    metrics = fitted | measure("evaluate_after", best or None)
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
    """Train from the command line; what a user can mend is told in one sentence, without a traceback."""
    refuse_unknown_settings(sys.argv[1:])
    _run()


if __name__ == "__main__":
    main()
