"""The training command: preprocess what is missing, fit, evaluate, write `metrics.json` and the model."""

import logging
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any, Literal

import hydra
import pytorch_lightning as pl
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from hydra.utils import instantiate as hydra_instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from clep.config_check import check_call, check_config, why_not_composed
from clep.config_folder import config_folder
from clep.data import MomentDataModule
from clep.errors import InputError
from clep.evaluation import EvaluatorCallback
from clep.files import write_json
from clep.models import DualEncoder, load_weights
from clep.preprocess.plan import ensure
from clep.pretrained import load_encoder
from clep.resolvers import register_resolvers
from clep.training import ContrastiveModule
from clep.training.results import print_results
from clep.training.run_folder import find_checkpoint

log = logging.getLogger(__name__)
register_resolvers()


def train(cfg: DictConfig) -> dict[str, float]:
    """Run the experiment that `cfg` describes and return its final metrics.

    Writes into `cfg.paths.run`: checkpoints, logs, `prompts.json`, `model/` (see `clep.load`) and `metrics.json`,
    whose names that begin with `before/` were measured before training and whose `seconds/…` are wall-clock times.

    Raises:
        InputError: a setting, a file or a checkpoint cannot be used; the message says which and what to do.
    """
    plain = _plain(cfg)
    check_call(settings, plain, "")
    check_config(plain | {"model": with_dims(plain["model"], 1, 1)})
    _refuse_several_devices_in_a_sweep(cfg)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    seconds = {}

    started = time.perf_counter()
    if plain["world"]:
        instantiate(plain["world"])
    ensure([job for job in plain["prepare"].values() if job])
    seconds["seconds/prepare"] = time.perf_counter() - started

    run_folder = Path(cfg.paths.run)
    data: MomentDataModule = instantiate(cfg.data)
    module = ContrastiveModule(
        make_model(plain, data),
        instantiate(cfg.loss),
        instantiate(cfg.optim.optimizer),
        instantiate(cfg.optim.schedule),
        positives=cfg.positives,
        form=cfg.form,
    )
    evaluation = EvaluatorCallback(
        {name: instantiate(evaluator) for name, evaluator in cfg.evaluator.items()}, run_folder / "prompts.json"
    )
    # The evaluators come first, so that a checkpoint can be chosen by what they logged.
    callbacks = [evaluation, *(instantiate(callback) for callback in cfg.callbacks.values() if callback)]
    loggers = [instantiate(logger) for logger in cfg.logger.values() if logger]
    trainer: pl.Trainer = instantiate(cfg.trainer, callbacks=callbacks, logger=loggers or False)

    resume_from = find_checkpoint(cfg.ckpt_path, Path(cfg.paths.runs) / cfg.name)
    before = {} if resume_from else _measure(trainer, module, data, seconds, "seconds/evaluate_before")
    started = time.perf_counter()
    try:
        trainer.fit(module, datamodule=data, ckpt_path=resume_from, weights_only=True)
    except SystemExit as error:  # what the trainer makes of Ctrl-C
        raise (KeyboardInterrupt if trainer.interrupted else error) from error
    seconds["seconds/fit"] = time.perf_counter() - started
    fitted = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("train/")}

    best = getattr(trainer.checkpoint_callback, "best_model_path", "") if cfg.final == "best" else ""
    metrics = fitted | _measure(trainer, module, data, seconds, "seconds/evaluate_after", best or None)
    metrics = {name: value for name, value in metrics.items() if not name.startswith("before/")}
    if trainer.is_global_zero:
        module.model.save_pretrained(run_folder / "model")
        everything = metrics | {f"before/{name}": value for name, value in before.items()} | seconds
        write_json(run_folder / "metrics.json", everything)
        write_json(run_folder / "coverage.json", {"data": data.report, **evaluation.coverage})
        print_results(before, metrics, f"{cfg.name}: {run_folder}")
    return metrics


def instantiate(config: Any, **arguments: Any) -> Any:
    """Build what a part of the config describes; lists in it arrive as lists, not as Hydra's own kind."""
    return hydra_instantiate(config, _convert_="all", **arguments)


def settings(
    name: str,
    seed: int,
    tags: Literal["clean", "tutorial"],
    text_encoder: str,
    encoder: str,
    precision: str | int,
    positives: Literal["text_id", "diagonal"],
    form: Literal["global", "local"],
    final: Literal["best", "last"],
    ckpt_path: str | None,
    init_from: str | None,
    world: dict[str, Any] | None,
    paths: dict[str, Any],
    prepare: dict[str, Any],
    data: dict[str, Any],
    model: dict[str, Any],
    loss: dict[str, Any],
    optim: dict[str, Any],
    evaluator: dict[str, Any],
    callbacks: dict[str, Any],
    trainer: dict[str, Any],
    logger: dict[str, Any],
) -> None:
    """Say which settings a run has, so that a config can be compared with this signature."""


def make_model(plain: dict[str, Any], data: MomentDataModule) -> DualEncoder:
    """Build the model for the banks of `data`, from the weights of `init_from` if given, with what it must remember."""
    metadata = data.metadata(plain["text_encoder"])
    model = DualEncoder.from_config({**with_dims(plain["model"], *data.dims), "metadata": metadata})
    if plain["init_from"]:
        load_weights(model, load_encoder(plain["init_from"]).state_dict(), plain["init_from"])
    return model


def with_dims(model: dict[str, Any], video_dim: int, text_dim: int) -> dict[str, Any]:
    """Return the config of a model whose towers take rows of these sizes, where it leaves `in_dim` open (null)."""
    dims = {"video": video_dim, "text": text_dim}
    towers = {
        tower: {**model[tower], "in_dim": dim}
        for tower, dim in dims.items()
        if "in_dim" in model[tower] and model[tower]["in_dim"] is None
    }
    return {**model, **towers}


def _measure(
    trainer: pl.Trainer,
    module: ContrastiveModule,
    data: MomentDataModule,
    seconds: dict[str, float],
    name: str,
    ckpt_path: str | None = None,
) -> dict[str, float]:
    started = time.perf_counter()
    trainer.validate(module, datamodule=data, ckpt_path=ckpt_path, verbose=False, weights_only=True)
    seconds[name] = time.perf_counter() - started
    return {key: float(value) for key, value in trainer.callback_metrics.items()}


def _plain(cfg: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _refuse_several_devices_in_a_sweep(cfg: DictConfig) -> None:
    sweeping = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    local = sweeping and "basic" in HydraConfig.get().runtime.choices.get("hydra/launcher", "basic")
    if local and cfg.trainer.devices not in (1, "1", "auto"):
        raise InputError(
            f"a sweep in this process cannot train on trainer.devices={cfg.trainer.devices}: the trainer starts the "
            f"command again for "
            f"each device, and that would start the whole sweep. Use trainer.devices=1, or a launcher that gives each "
            f"run its own process "
            f"(hydra/launcher=submitit_local or submitit_slurm)"
        )


def main() -> None:
    """Train from the command line; what a user can mend is told in one sentence, without a traceback."""
    _refuse_unknown_settings(sys.argv[1:])
    _run()


def _refuse_unknown_settings(words: list[str]) -> None:
    """Compose once ahead of Hydra, which would say of a wrong key only that it is not there."""
    if any(word.startswith("--config") for word in words):
        return
    try:
        with initialize_config_dir(str(config_folder()), version_base=None):
            compose("train", [word for word in words if "=" in word and not word.startswith("-")])
    except (HydraException, OmegaConfBaseException) as error:
        if isinstance(error.__cause__, OmegaConfBaseException):
            sys.exit(f"error: {why_not_composed(error)}")


@hydra.main(version_base=None, config_path=str(config_folder()), config_name="train")
def _run(cfg: DictConfig) -> dict[str, float]:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for noisy in ("pytorch_lightning", "sentence_transformers", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # the trainer's own use of a deprecated name
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")  # none is the fastest here
    try:
        return train(cfg)
    except InputError as error:
        log.error("%s", error)
        sys.exit(1)
    except KeyboardInterrupt:
        log.error(
            "interrupted; `ckpt_path=last` with the same settings continues where the last checkpoint was written"
        )
        sys.exit(130)


if __name__ == "__main__":
    main()
