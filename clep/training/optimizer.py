"""AdamW with weight decay where it belongs."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from clep.errors import InputError


def adamw(
    model: nn.Module,
    lr: float = 1e-3,
    betas: Sequence[float] = (0.9, 0.98),
    eps: float = 1e-6,
    weight_decay: float = 0.2,
    decay: Literal["matrices", "all"] = "matrices",
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

    Raises:
        InputError: `betas` are not two.
    """
    if len(betas) != 2:
        raise InputError(f"optim.optimizer.betas={list(betas)}: AdamW has two decay rates")
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if decay == "all":
        groups = [{"params": trained, "weight_decay": weight_decay}]
    else:
        groups = [
            {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ]
    first, second = betas
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, betas=(first, second), eps=eps, fused=True)
