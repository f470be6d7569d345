"""The settings of a training run: their schema, and what is refused before anything starts."""

import inspect
from collections.abc import Sequence
from typing import Any, Literal

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from clep.config.build import build_typed
from clep.config.check import check_call, check_config
from clep.config.mistakes import explained
from clep.config.requirements import check_requirements
from clep.config.targets import ANYTHING, TARGET, find_target
from clep.errors import InputError
from clep.losses import check_objective
from clep.training.contrastive import check_chunk_size
from clep.training.ema import check_decay


def run_settings(
    name: str,
    seed: int,
    tag_style: Literal["clean", "tutorial", "raw", "none"],
    text_encoder: str,
    video_encoder: str | None,
    precision: str | int,
    positives: dict[str, Any],
    form: str,
    chunk_size: int | None,
    ema: float | None,
    compile: bool,
    final_weights: Literal["best", "last"],
    missing_evaluators: Literal["error", "skip"],
    optimized_metric: str | None,
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
    report: dict[str, Any] | None,
    operator: dict[str, Any] | None = None,
    encoder: dict[str, Any] | None = None,
) -> None:
    """Schema of the top-level settings of a run; never called."""


def checked_settings(cfg: DictConfig, words: Sequence[str] | None = None) -> dict[str, Any]:
    """Return the composed config as plain values, after all checks that need no data.

    Args:
        cfg: of `conf/train.yaml`.
        words: overrides as typed, for messages; None for those of Hydra's run.

    Raises:
        InputError: a key or a value does not fit, parts contradict each other, or a sweep asks for several devices.
    """
    try:
        plain = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        raise InputError(str(error).split("\n")[0]) from error
    assert isinstance(plain, dict)
    values = {str(key): value for key, value in plain.items()}
    # Without the operator, which the model holds too; its dimensions are filled in there.
    parts = values | {"model": fill_in_dims(values["model"], 1, 1), "operator": None}
    try:
        check_call(run_settings, values, "")
        check_config(parts, targets=ANYTHING)
    except InputError as error:
        raise explained(error, typed_overrides() if words is None else words, values) from error
    _refuse_missing_devices(values["trainer"])
    _refuse_several_devices_in_a_sweep(values["trainer"])
    _refuse_half_precision_weights(values["trainer"])
    check_decay(values["ema"])
    check_chunk_size(values["chunk_size"])
    loss, _ = build_typed(values["loss"]), build_typed(values["positives"])  # they check their own values
    check_objective(loss, values["form"], values["model"].get("init_bias") is not None)
    _refuse_a_loss_of_another_task(loss, values["task"])
    check_requirements(values)
    return values


def typed_overrides() -> list[str]:
    """Return the overrides of this run as they were typed; none where Hydra did not start it."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def fill_in_dims(model: dict[str, Any], video_dim: int, text_dim: int) -> dict[str, Any]:
    """Return a model's config whose parts take rows of these sizes wherever they leave `in_dim` open (null).

    The part named `text` takes text embeddings; every other one takes rows of the video bank.
    """
    filled = _with_in_dim({key: value for key, value in model.items() if key != "text"}, video_dim)
    return {**filled, "text": _with_in_dim(model["text"], text_dim)} if "text" in model else filled


def _with_in_dim(config: Any, dim: int) -> Any:
    if isinstance(config, dict):
        return {k: dim if k == "in_dim" and value is None else _with_in_dim(value, dim) for k, value in config.items()}
    return [_with_in_dim(item, dim) for item in config] if isinstance(config, list) else config


def _refuse_a_loss_of_another_task(loss: nn.Module, task: dict[str, Any]) -> None:
    """Refuse a loss that cannot be called with what the task passes to it, as its `loss_arguments` say."""
    kind = find_target(task[TARGET], "task", ANYTHING)
    arguments = getattr(kind, "loss_arguments", None)
    if arguments is None:
        return
    try:
        inspect.signature(loss.forward).bind(*arguments)
    except TypeError:
        raise InputError(
            f"loss: {type(loss).__name__} cannot be called as loss({', '.join(arguments)}), which "
            f"task={kind.__name__} does; choose {getattr(kind, 'loss_examples', 'another loss')}"
        ) from None


def _refuse_half_precision_weights(trainer: dict[str, Any]) -> None:
    if str(trainer["precision"]) in ("bf16-true", "16-true", "transformer-engine", "transformer-engine-float16"):
        raise InputError(
            f"precision={trainer['precision']} keeps the weights in half precision, while banks give float32 rows and "
            "embeddings and losses are float32; use precision=bf16-mixed, 16-mixed or 32-true"
        )


def _refuse_missing_devices(trainer: dict[str, Any]) -> None:
    """Refuse GPUs that this machine lacks, and several devices that would silently be processes on its CPU."""
    accelerator, devices = trainer["accelerator"], trainer["devices"]
    gpus = torch.cuda.device_count()
    if accelerator in ("gpu", "cuda") and not gpus and not torch.backends.mps.is_available():
        raise InputError(
            f"trainer.accelerator={accelerator}: PyTorch finds no GPU on this machine (torch.cuda.is_available() is "
            "false); use trainer.accelerator=cpu, or a machine with a GPU and a build of PyTorch for it"
        )
    count = len(devices) if isinstance(devices, list) else int(devices) if str(devices).isdecimal() else 1
    if accelerator in ("gpu", "cuda", "auto") and 0 < gpus < count:
        raise InputError(f"trainer.devices={devices}: this machine has {gpus} GPUs; use trainer.devices={gpus}")
    if accelerator == "auto" and not gpus and count > 1 and trainer["strategy"] == "auto":
        raise InputError(
            f"trainer.devices={devices}: PyTorch finds no GPU on this machine; use trainer.devices=1, which has all "
            f"cores, or train with {count} processes on the CPU: trainer.accelerator=cpu trainer.strategy=ddp"
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
