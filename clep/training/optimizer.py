"""AdamW with weight decay where it belongs."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import nn

from clep.config_check import did_you_mean
from clep.errors import InputError
from clep.training.layer_decay import layer_factors


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

    The fused form skips a step on the device itself when told that the loss was not finite, which costs no
    synchronisation.

    Args:
        model: whose parameters are trained.
        lr: peak learning rate.
        betas: decay rates of the two moments.
        eps: added to the denominator.
        weight_decay: decoupled, multiplied by the learning rate.
        decay: "matrices" spares biases, norms and the logit scale, as CLIP does (Radford et al., 2021); "all" is
            PyTorch's default.
        lr_factors: by the start of parameters' names, as `{"text.encoder": 0.05}`, what their learning rate is
            multiplied by; of several that fit a name the longest counts. Parts that are frozen have no rate.
        layer_decay: what the learning rate falls by from a stage of a video encoder to the one before it, e.g. 0.75;
            None for one rate. See `layer_factors`.

    Raises:
        InputError: `betas` are not two, a factor is not positive, a name fits no parameter, or longer ones fit all
            of its trained ones.
    """
    if len(betas) != 2:
        raise InputError(f"optim.optimizer.betas={list(betas)}: AdamW has two decay rates")
    first, second = betas
    if layer_decay is not None:
        lr_factors = layer_factors(model, layer_decay, lr_factors)
    groups = _groups(model, weight_decay if decay == "all" else 0.0, weight_decay, lr, lr_factors or {})
    return torch.optim.AdamW(groups, lr=lr, betas=(first, second), eps=eps, fused=True)


def _groups(
    model: nn.Module, decay_of_vectors: float, decay: float, lr: float, lr_factors: Mapping[str, float | int]
) -> list[dict[str, Any]]:
    """Return parameter groups; those with the full learning rate come first, since the first one's rate is logged."""
    for prefix, factor in lr_factors.items():
        if factor <= 0:
            raise InputError(
                f"optim.optimizer.lr_factors.{prefix}={factor} must be positive; a tower's own options freeze its parts"
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
    """Refuse a prefix that is a typing error; one of parts that are all frozen waits for a run that trains them."""
    parameters = dict(model.named_parameters())
    for prefix in (prefix for prefix in lr_factors if prefix not in used):
        trained = [value.requires_grad for name, value in parameters.items() if f"{name}.".startswith(f"{prefix}.")]
        if any(trained):
            raise InputError(
                f"optim.optimizer.lr_factors.{prefix}: longer prefixes take all of its trained parameters; leave it out"
            )
        if not trained:
            known = _prefixes({name.rpartition(".")[0] for name in parameters})
            raise InputError(
                f"optim.optimizer.lr_factors.{prefix}: no parameter's name starts so. {did_you_mean(prefix, known)} "
                f"optim.optimizer.lr_factors=null gives all parts one rate"
            )


def _prefixes(names: set[str]) -> list[str]:
    """Return the first one and two parts of dotted names."""
    starts = {".".join(name.split(".")[:length]) for name in names if name for length in (1, 2)}
    return sorted(starts)
