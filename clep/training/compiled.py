"""The loss of a step, compiled by `torch.compile` where that works."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clep.compute.compiled import compile_or_keep

ComputeLoss = Callable[[dict[str, Any]], Float[Tensor, ""]]


class CompiledLoss:
    """A function from a batch to its loss, compiled; without a working compiler the function itself, logged once.

    Small steps on a large GPU wait for the launch of hundreds of kernels; compiled ones launch a few fused kernels.
    Dropout draws the same masks as without compiling. The first call compiles the forward and the backward pass on a
    trial, which changes neither the weights nor the random state.

    Args:
        compute_loss: the function.
        parameters: of the model, whose gradients are needed.
    """

    def __init__(self, compute_loss: ComputeLoss, parameters: Iterable[nn.Parameter]) -> None:
        self._compute_loss, self._parameters = compute_loss, list(parameters)
        self._chosen: ComputeLoss | None = None

    def __call__(self, batch: dict[str, Any]) -> Float[Tensor, ""]:
        """Return the loss of a batch."""
        if self._chosen is None:
            self._chosen = self._compiled(batch)
        return self._chosen(batch)

    def _compiled(self, batch: dict[str, Any]) -> ComputeLoss:
        def trial(compiled: ComputeLoss) -> None:
            with torch.random.fork_rng():
                trained = [parameter for parameter in self._parameters if parameter.requires_grad]
                torch.autograd.grad(compiled(batch), trained, allow_unused=True)

        effect = "the steps run without it"
        return compile_or_keep(self._compute_loss, trial, effect, options={"fallback_random": True})
