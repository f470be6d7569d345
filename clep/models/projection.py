"""Multi-layer perceptron from the features of a frozen encoder to the joint space."""

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from clep.errors import InputError

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


class ProjectionHead(nn.Sequential):
    """Project rows of `in_dim` numbers to `out_dim`: linear layers with an activation and dropout between them.

    Args:
        in_dim: numbers in a row.
        out_dim: numbers in an embedding.
        hidden_dim: width between layers; None for `out_dim`.
        layers: linear layers, at least 1 (which has no activation).
        activation: relu, gelu, silu or tanh.
        dropout: probability, after each activation.
        init: "tutorial" is Xavier uniform with the gain of ReLU and zero biases (Ego4D's CLEP tutorial); "default"
            is PyTorch's own.

    Raises:
        InputError: an option has no meaning; or, when called, rows of another length.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        hidden_dim: int | None = None,
        layers: int = 2,
        activation: str = "relu",
        dropout: float | int = 0.0,
        init: str = "default",
    ) -> None:
        widths = [in_dim, *[hidden_dim or out_dim] * (layers - 1), out_dim]
        if layers < 1 or min(widths) < 1:
            raise InputError(f"layers and dims must be at least 1, got layers={layers}, dims={widths}")
        if activation not in ACTIVATIONS:
            raise InputError(f"activation={activation!r}; choose one of {', '.join(ACTIVATIONS)}")
        if init not in ("default", "tutorial"):
            raise InputError(f"init={init!r}; choose default or tutorial")
        steps: list[nn.Module] = []
        for place, (before, after) in enumerate(pairwise(widths)):
            if place > 0:
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
                f"this ProjectionHead takes rows of {self.in_dim} numbers and got {rows.shape[-1]}: in_dim of the "
                f"model's tower must be the dim of the bank (features for video, sentence embeddings for text)"
            )
        return super().forward(rows)
