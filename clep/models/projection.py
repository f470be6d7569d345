"""Projection head: a multi-layer perceptron from frozen features to the joint space."""

from itertools import pairwise
from typing import Annotated

from jaxtyping import Float
from torch import Tensor, nn

from clep.config.check import OneOf
from clep.errors import InputError

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}
ActivationName = Annotated[str, OneOf(*ACTIVATIONS)]
InitName = Annotated[str, OneOf("default", "tutorial")]


class ProjectionHead(nn.Sequential):
    """Linear layers with an activation and dropout between them.

    Args:
        in_dim: input dimension.
        out_dim: output dimension.
        hidden_dim: dimension between layers; None for `out_dim`.
        layers: number of linear layers; 1 is a linear projection.
        activation: relu, gelu, silu or tanh.
        dropout: probability, after each activation.
        init: "tutorial" is Xavier uniform with the gain of ReLU and zero biases (Ego4D's CLEP tutorial); "default"
            is PyTorch's initialisation.

    Raises:
        InputError: an option is out of range; or, when called, rows of another dimension.

    Examples:
        >>> import torch
        >>> from clep.models import ProjectionHead
        >>> head = ProjectionHead(in_dim=1536, out_dim=256, hidden_dim=512, dropout=0.1)
        >>> head(torch.randn(4, 1536)).shape
        torch.Size([4, 256])
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        hidden_dim: int | None = None,
        layers: int = 2,
        activation: ActivationName = "relu",
        dropout: float | int = 0.0,
        init: InitName = "default",
    ) -> None:
        widths = [in_dim, *[hidden_dim or out_dim] * (layers - 1), out_dim]
        if layers < 1 or min(widths) < 1:
            raise InputError(f"layers and dims must be at least 1, got layers={layers}, dims={widths}")
        if activation not in ACTIVATIONS:
            raise InputError(f"activation={activation!r}; choose one of {', '.join(ACTIVATIONS)}")
        if init not in ("default", "tutorial"):
            raise InputError(f"init={init!r}; choose default or tutorial")
        steps: list[nn.Module] = []
        for index, (before, after) in enumerate(pairwise(widths)):
            if index > 0:
                steps.append(ACTIVATIONS[activation]())
                if dropout > 0:
                    steps.append(nn.Dropout(dropout))
            steps.append(nn.Linear(before, after))
        super().__init__(*steps)
        self.in_dim = in_dim
        self.out_dim = out_dim
        if init == "tutorial":
            for step in steps:
                if isinstance(step, nn.Linear):
                    nn.init.xavier_uniform_(step.weight, gain=nn.init.calculate_gain("relu"))
                    nn.init.zeros_(step.bias)

    def forward(self, rows: Float[Tensor, "*batch in_dim"]) -> Float[Tensor, "*batch out_dim"]:
        """Project each row."""
        if rows.shape[-1] != self.in_dim:
            raise InputError(
                f"this ProjectionHead has in_dim={self.in_dim}, but got rows of dimension {rows.shape[-1]}; set in_dim "
                f"of the tower to the bank's feature dimension (model.video) or the sentence encoder's (model.text)"
            )
        return super().forward(rows)
