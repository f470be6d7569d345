"""AdamW with per-group weight decay and learning rates, and learning-rate schedules."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import nn

from clep.config.check import did_you_mean
from clep.errors import InputError
from clep.video.encoder import VideoEncoder

Schedule = Callable[[int, int], float]


def constant(step: int, total_steps: int) -> float:
    """Schedule that keeps the peak learning rate."""
    return 1.0


def warmup_cosine(warmup: float = 0.05, floor: float = 0.0) -> Schedule:
    """Linear warm-up over a fraction of the steps, then cosine decay to `floor` at the last step.

    Args:
        warmup: fraction of the run's steps, in [0, 1).
        floor: factor of the learning rate at the end.

    Raises:
        InputError: `warmup` is outside [0, 1).
    """
    if not 0 <= warmup < 1:
        raise InputError(f"schedule.warmup={warmup} is a fraction of the run's steps: at least 0 and below 1")

    def factor(step: int, total_steps: int) -> float:
        rising = max(1, round(warmup * total_steps)) if warmup else 0
        if step < rising:
            return (step + 1) / rising
        progress = min(1.0, (step - rising) / max(1, total_steps - 1 - rising))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))

    return factor


def steady() -> Schedule:
    """Return the schedule that keeps the peak learning rate."""
    return constant


def layer_factors(
    model: nn.Module, decay: float | int, lr_factors: Mapping[str, float | int] | None = None
) -> dict[str, float]:
    """Layer-wise learning-rate decay: `decay` for the last stage of a video encoder, its square for the one before, …

    As in BEiT's fine-tuning (Bao et al. 2021, arXiv 2106.08254, appendix). Parts after the encoder keep the full rate,
    frozen stages get none.

    Args:
        model: contains a `VideoEncoder` that defines `stages`.
        decay: in (0, 1].
        lr_factors: by prefix of parameter names; the factor of a part multiplies those of its stages.

    Raises:
        InputError: `decay` is out of range, or no encoder in the model defines stages.
    """
    if not 0 < decay <= 1:
        raise InputError(f"optim.optimizer.layer_decay={decay} must be above 0 and at most 1")
    factors = {prefix: float(factor) for prefix, factor in (lr_factors or {}).items()}
    found = False
    for name_of_encoder, encoder in model.named_modules():
        if not isinstance(encoder, VideoEncoder) or not encoder.stages():
            continue
        found = True
        trained = [name for name, parameter in encoder.named_parameters() if parameter.requires_grad]
        for left, stage in enumerate(reversed(encoder.stages()), start=1):
            for part in stage:
                prefix = f"{name_of_encoder}.{part}" if name_of_encoder else part
                if any(f"{name}.".startswith(f"{part}.") for name in trained):
                    around = [given for given in (lr_factors or {}) if f"{prefix}.".startswith(f"{given}.")]
                    base = float((lr_factors or {})[max(around, key=len)]) if around else 1.0
                    factors.setdefault(prefix, base * float(decay) ** left)
    if not found:
        raise InputError(
            f"optim.optimizer.layer_decay={decay} needs a model with a video encoder that defines its stages, and "
            f"this {type(model).__name__} has none; leave it out"
        )
    # A part whose stages all have their own factor has no parameter left for its own.
    return {prefix: factor for prefix, factor in factors.items() if not _is_covered(model, prefix, factors)}


def _is_covered(model: nn.Module, prefix: str, factors: Mapping[str, float]) -> bool:
    inner = [other for other in factors if other != prefix and other.startswith(f"{prefix}.")]
    names = [name for name, value in model.named_parameters() if value.requires_grad]
    own = [name for name in names if f"{name}.".startswith(f"{prefix}.")]
    return bool(own) and all(any(f"{name}.".startswith(f"{other}.") for other in inner) for name in own)


def adamw(
    model: nn.Module,
    lr: float = 1e-3,
    betas: Sequence[float] = (0.9, 0.98),
    eps: float = 1e-6,
    weight_decay: float = 0.2,
    decay: Literal["matrices", "all"] = "matrices",
    lr_factors: Mapping[str, float | int] | None = None,
    layer_decay: float | None = None,
) -> torch.optim.AdamW:
    """Return fused AdamW over the trainable parameters of `model`.

    The fused kernel can skip a step on the device when the loss is not finite, without a GPU sync.

    Args:
        model: its trainable parameters are optimised.
        lr: peak learning rate.
        betas: decay rates of the two moment estimates.
        eps: added to the denominator.
        weight_decay: decoupled, multiplied by the learning rate.
        decay: "matrices" exempts biases, norms and the logit scale from weight decay, as CLIP does (Radford et al.,
            2021); "all" is PyTorch's default.
        lr_factors: factors of the learning rate by prefix of parameter names, as `{"text.encoder": 0.05}`; the longest
            matching prefix counts. Frozen parameters are left out.
        layer_decay: factor of the learning rate from one stage of a video encoder to the stage before, e.g. 0.75; None
            for one rate. See `layer_factors`.

    Raises:
        InputError: `betas` are not two, a factor is not positive, or a prefix matches no trained parameter or only
            ones that longer prefixes match.
    """
    if len(betas) != 2:
        raise InputError(f"optim.optimizer.betas={list(betas)} must be two decay rates")
    first, second = betas
    if layer_decay is not None:
        lr_factors = layer_factors(model, layer_decay, lr_factors)
    groups = _groups(model, weight_decay if decay == "all" else 0.0, weight_decay, lr, lr_factors or {})
    return torch.optim.AdamW(groups, lr=lr, betas=(first, second), eps=eps, fused=True)


def _groups(
    model: nn.Module, decay_of_vectors: float, decay: float, lr: float, lr_factors: Mapping[str, float | int]
) -> list[dict[str, Any]]:
    """Return parameter groups; those with the full learning rate come first, since the rate of the first is logged."""
    for prefix, factor in lr_factors.items():
        if factor <= 0:
            raise InputError(
                f"optim.optimizer.lr_factors.{prefix}={factor} must be positive; options of the towers freeze parts"
            )
    found: dict[tuple[str, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            fitting = [prefix for prefix in lr_factors if f"{name}.".startswith(f"{prefix}.")]
            wanted = decay if parameter.ndim >= 2 else decay_of_vectors
            found.setdefault((max(fitting, key=len, default=""), wanted), []).append(parameter)
    _refuse_unused(model, lr_factors, {prefix for prefix, _ in found})
    return [
        {"params": found[prefix, wanted], "weight_decay": wanted, "lr": lr * lr_factors.get(prefix, 1.0)}
        for prefix, wanted in sorted(found, key=lambda key: (key[0] != "", key[0], -key[1]))
    ]


def _refuse_unused(model: nn.Module, lr_factors: Mapping[str, float | int], used: set[str]) -> None:
    """Refuse a prefix that matches no parameter; one whose parameters are all frozen is ignored."""
    parameters = dict(model.named_parameters())
    for prefix in (prefix for prefix in lr_factors if prefix not in used):
        trained = [value.requires_grad for name, value in parameters.items() if f"{name}.".startswith(f"{prefix}.")]
        if any(trained):
            raise InputError(
                f"optim.optimizer.lr_factors.{prefix}: longer prefixes match all its trained parameters; leave it out"
            )
        if not trained:
            known = _prefixes({name.rpartition(".")[0] for name in parameters})
            raise InputError(
                f"optim.optimizer.lr_factors.{prefix}: no parameter has this prefix. {did_you_mean(prefix, known)} "
                f"optim.optimizer.lr_factors=null gives all parts one rate"
            )


def _prefixes(names: set[str]) -> list[str]:
    """Return the first one and two parts of dotted names."""
    starts = {".".join(name.split(".")[:length]) for name in names if name for length in (1, 2)}
    return sorted(starts)
