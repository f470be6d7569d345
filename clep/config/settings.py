"""What a training run can be told, and what is refused before anything starts."""

import inspect
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from clep.config.build import build_typed
from clep.config.check import check_call, check_config
from clep.config.compose import describe_compose_error
from clep.config.folder import config_folder
from clep.config.targets import ANYTHING
from clep.errors import InputError
from clep.losses import PositivesRule, SigmoidLoss, check_objective
from clep.training.contrastive import check_chunk_size
from clep.training.ema import check_decay


def run_settings(
    name: str,
    seed: int,
    tag_style: Literal["clean", "tutorial", "raw", "none"],
    text_encoder: str,
    video_encoder: str,
    precision: str | int,
    positives: dict[str, Any],
    form: str,
    chunk_size: int | None,
    ema: float | None,
    final_weights: Literal["best", "last"],
    ckpt_path: str | None,
    init_from: str | None,
    synthetic: dict[str, Any] | None,
    paths: dict[str, Any],
    prepare: dict[str, Any],
    task: dict[str, Any],
    data: dict[str, Any],
    model: dict[str, Any],
    loss: dict[str, Any],
    optim: dict[str, Any],
    evaluator: dict[str, Any],
    callbacks: dict[str, Any],
    trainer: dict[str, Any],
    logger: dict[str, Any],
    operator: dict[str, Any] | None = None,
    encoder: dict[str, Any] | None = None,
) -> None:
    """Be the signature that a composed config is compared with."""


def checked(cfg: DictConfig) -> dict[str, Any]:
    """Return the composed config as plain values, all of them checked against what they are meant for.

    Raises:
        InputError: a key or a value does not fit, or several devices were asked for in a sweep of this process.
    """
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    values = {str(key): value for key, value in plain.items()}
    check_call(run_settings, values, "")
    check_config(
        values | {"model": fill_in_dims(values["model"], 1, 1), "operator": None}, targets=ANYTHING
    )  # the model holds it
    _refuse_a_tower_without_its_data(values["model"], values["data"])
    _refuse_several_devices_in_a_sweep(values["trainer"])
    _refuse_half_precision_weights(values["trainer"])
    check_decay(values["ema"])
    _check_chunks(values["chunk_size"], values["task"])
    loss = build_typed(values["loss"])
    check_objective(loss, values["form"], values["model"].get("init_bias") is not None)
    _refuse_a_loss_of_another_task(loss, values["task"])
    _refuse_a_raw_scale(loss, values["model"])
    _refuse_positives_without_keys(build_typed(values["positives"]), values["data"])
    return values


def fill_in_dims(model: dict[str, Any], video_dim: int, text_dim: int) -> dict[str, Any]:
    """Return a model's config whose parts take rows of these sizes wherever they leave an `in_dim` open (null).

    The part that is called `text` takes text embeddings, every other one takes rows of the video bank.
    """
    filled = _with_in_dim({key: value for key, value in model.items() if key != "text"}, video_dim)
    return {**filled, "text": _with_in_dim(model["text"], text_dim)} if "text" in model else filled


def needed_jobs(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the jobs of `prepare` whose output the data or an evaluator of this run reads."""
    read = [*_strings(settings["data"]), *_strings(settings["evaluator"])]
    jobs = [job for job in settings["prepare"].values() if job]
    return [
        job for job in jobs if any(path.startswith(str(job.get("output_folder", job.get("output")))) for path in read)
    ]


def quiet_libraries() -> None:
    """Silence what libraries tell about themselves at every run."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for noisy in ("pytorch_lightning", "sentence_transformers", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*srun.*")  # a hint for clusters, given wherever Slurm is installed
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # the trainer's own use of a deprecated name
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")  # evaluators give every rank the same figures
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")  # none is the fastest here


def refuse_unknown_settings(words: Sequence[str]) -> None:
    """Compose once ahead of Hydra, which would say of a wrong key only that it is not there; exit with status 1."""
    if any(word.startswith("--config") for word in words):
        return
    try:
        with initialize_config_dir(str(config_folder()), version_base=None):
            compose("train", [word for word in words if "=" in word and not word.startswith("-")])
    except (HydraException, OmegaConfBaseException) as error:
        if isinstance(error.__cause__, OmegaConfBaseException):
            sys.exit(f"error: {describe_compose_error(error)}")


def _refuse_a_tower_without_its_data(model: dict[str, Any], data: dict[str, Any]) -> None:
    video, text = (str(model.get(side, {}).get("_target_")) for side in ("video", "text"))
    pool = data.get("window", {}).get("pool")
    ordered = video.endswith((".TemporalTower", ".PixelTower")) or model.get("video", {}).get("attention")
    if pool != "rows" and ordered:
        raise InputError(
            f"model.video is a {video.rpartition('.')[2]} with attention to the rows of a window in their order, but "
            f"data.window.pool is {pool}; set data.window.pool=rows"
        )
    if text.endswith(".SentenceTower") and not data.get("tokens"):
        raise InputError(
            "model.text is a SentenceTower, which reads tokens, but data.tokens is null; leave data.tokens to "
            "model=trainable_text, or add 'data.tokens={_target_: clep.data.TextTokens, encoder: ${text_encoder}}'"
        )
    for option, common in (("encoder", "text_encoder"), ("max_tokens", "data.tokens.max_tokens")):
        if text.endswith(".SentenceTower") and (own := model["text"].get(option)) != data["tokens"].get(option):
            raise InputError(
                f"model.text.{option}={own} is trained on tokens made for data.tokens.{option}="
                f"{data['tokens'].get(option)}; set {common} alone, which both follow"
            )
    if video.endswith(".LongTermTower") and not data.get("context"):
        raise InputError(
            "model.video is a LongTermTower, which reads the minute around a moment, but data.context is null; use "
            "experiment=ego4d_long_term, or add 'data.context={_target_: clep.data.LongTerm}'"
        )


def _refuse_positives_without_keys(positives: PositivesRule, data: dict[str, Any]) -> None:
    of_moments = str(data.get("_target_")).endswith(".MomentDataModule")
    tags = [key for key in positives.keys if key in ("verb", "noun")]
    if of_moments and tags and not data.get("verb_noun"):
        raise InputError(
            f"positives: {type(positives).__name__} compares {' and '.join(tags)}, but data.verb_noun is null: "
            f"{positives.source}"
        )


def _check_chunks(chunk_size: int | None, task: dict[str, Any]) -> None:
    check_chunk_size(chunk_size)
    if chunk_size is not None and not _contrasts(task):
        raise InputError(
            f"chunk_size={chunk_size} encodes the batch of a contrastive loss by chunks, and this run has none; "
            f"lower data.batch_size and raise trainer.accumulate_grad_batches, which other losses allow"
        )


def _refuse_a_loss_of_another_task(loss: nn.Module, task: dict[str, Any]) -> None:
    contrasts = _contrasts(task)
    given = ("video", "text", "scale", "positives", "bias") if contrasts else ("logits", "target")
    try:
        inspect.signature(loss.forward).bind(*given)
    except TypeError:
        name, call = str(task.get("_target_")).rpartition(".")[2], f"loss({', '.join(given)})"
        example = (
            "an objective of clep.losses, e.g. loss=clip" if contrasts else "loss=cross_entropy or loss=multi_label"
        )
        raise InputError(
            f"loss: {type(loss).__name__} cannot be called as {call}, which task={name} does; choose {example}"
        ) from None


def _refuse_a_raw_scale(loss: nn.Module, model: dict[str, Any]) -> None:
    if isinstance(loss, SigmoidLoss) and model.get("scale_form") == "raw":
        raise InputError(
            "loss=siglip starts from a multiplier of 10 (model.init_scale, its logarithm) and a bias of -10, but with "
            "model.scale_form=raw (model=tutorial) the multiplier stays below ln 100; set model.scale_form=exp"
        )


def _contrasts(task: dict[str, Any]) -> bool:
    return str(task.get("_target_")).endswith(".contrastive")


def _refuse_half_precision_weights(trainer: dict[str, Any]) -> None:
    if str(trainer["precision"]) in ("bf16-true", "16-true", "transformer-engine", "transformer-engine-float16"):
        raise InputError(
            f"precision={trainer['precision']} keeps the weights in half precision, while banks give float32 rows and "
            "embeddings and losses are float32; use precision=bf16-mixed, 16-mixed or 32-true"
        )


def _refuse_several_devices_in_a_sweep(trainer: dict[str, Any]) -> None:
    sweeping = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    local = sweeping and "basic" in HydraConfig.get().runtime.choices.get("hydra/launcher", "basic")
    devices = trainer["devices"]
    if devices in ("auto", -1, "-1"):
        devices = torch.cuda.device_count() if trainer["accelerator"] in ("auto", "gpu", "cuda") else 1
    if local and devices not in (0, 1, "1", [0]):
        raise InputError(
            f"a sweep in this process cannot train on trainer.devices={trainer['devices']}: the trainer starts the "
            "command again for each device, and that would start the whole sweep. Use trainer.devices=1, or "
            "hydra/launcher=submitit_slurm with one task a device (hydra.launcher.tasks_per_node)"
        )


def _with_in_dim(config: Any, dim: int) -> Any:
    if isinstance(config, dict):
        return {k: dim if k == "in_dim" and value is None else _with_in_dim(value, dim) for k, value in config.items()}
    return [_with_in_dim(item, dim) for item in config] if isinstance(config, list) else config


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in _strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in _strings(item)]
    return [value] if isinstance(value, str) else []
