"""The LightningModule of supervised classification: one step of a classifier, whatever its loss."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clep.models import SavedModel
from clep.training.schedule import Schedule, constant
from clep.training.stepped import SteppedModule


class ClassifierModule(SteppedModule):
    """Train a model to tell which classes an example shows.

    Args:
        model: called with a batch, returns logits `[batch, classes]`.
        loss: called as `loss(logits, target)` with the batch's `target`, e.g. `torch.nn.BCEWithLogitsLoss` for any
            number of labels each (float `[batch, classes]`), `torch.nn.CrossEntropyLoss` for one each (int64
            `[batch]`). Across ranks gradients are averaged, which is exact where it is a mean over the batch.
        optimizer: from the model to its optimizer.
        schedule: factor of the learning rate as a function of the step and the number of steps.
        patience: so many non-finite losses in a row stop the run.
        ema: decay of an average of the weights, see `SteppedModule`.
    """

    loss_is_a_share = True

    def __init__(
        self,
        model: SavedModel,
        loss: nn.Module,
        optimizer: Callable[[nn.Module], torch.optim.Optimizer],
        schedule: Schedule = constant,
        patience: int = 10,
        ema: float | int | None = None,
    ) -> None:
        super().__init__(model, optimizer, schedule, patience, ema)
        self.loss = loss

    def compute_loss(self, batch: dict[str, Tensor]) -> Float[Tensor, ""]:
        """Return the loss of one batch, in float32 under autocast too."""
        logits, target = self.model(batch), batch["target"]
        with torch.autocast(device_type=logits.device.type, enabled=False):
            return self.loss(logits.float(), target)
