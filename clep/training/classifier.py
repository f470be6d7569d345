"""LightningModule of supervised classification."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, distributed, nn

from clep.data.video_clips import UNREADABLE
from clep.models import SavedModel
from clep.training.base import BaseModule
from clep.training.optimizer import Schedule, constant


class ClassifierModule(BaseModule):
    """Trains a model to classify examples.

    Args:
        model: called with a batch, returns logits `[batch, classes]`.
        loss: called as `loss(logits, target)` with the batch's `target`; a mean over examples. E.g.
            `torch.nn.BCEWithLogitsLoss` for several labels per example (float `[batch, classes]`), or
            `torch.nn.CrossEntropyLoss(ignore_index=-1)` for one label (int64 `[batch]`), a mean over the examples that
            could be read: the target of the others is `UNREADABLE`.
        optimizer: builds the optimizer of a model.
        schedule: factor of the learning rate as a function of the step and the number of steps.
        patience: this many non-finite losses in a row stop the run.
        ema: decay of an average of the weights, see `BaseModule`.

    Examples:
        >>> import torch
        >>> from clep.models import VideoClassifier
        >>> from clep.training import ClassifierModule, adamw
        >>> from clep.video.encoders import Pixels
        >>> model = VideoClassifier(Pixels(side_px=8), ["opens", "closes", "cuts"])
        >>> module = ClassifierModule(model, torch.nn.CrossEntropyLoss(ignore_index=-1), adamw)
        >>> batch = {"pixels": torch.zeros(2, 1, 3, 8, 8, dtype=torch.uint8), "target": torch.tensor([0, 2])}
        >>> module.compute_loss(batch).shape
        torch.Size([])
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
        """Return the loss of one batch, in float32 under autocast too; its mean over ranks is the joined batch's."""
        logits, target = self.model(batch), batch["target"]
        with torch.autocast(device_type=logits.device.type, enabled=False):
            if target.is_floating_point():
                return self.loss(logits.float(), target)
            return self._share(logits.float(), target)

    def _share(self, logits: Float[Tensor, "batch classes"], target: Int64[Tensor, " batch"]) -> Float[Tensor, ""]:
        """Return ranks * (sum over this rank's readable examples) / (their count on all ranks), 0 without any.

        DDP averages gradients over ranks, so each readable example has the same weight on whichever rank it is.
        """
        own = (target != UNREADABLE).sum()
        # The mean over no example would be NaN; any other mean is finite, and is multiplied by 0.
        mean = self.loss(logits, torch.where(own > 0, target, 0))
        total, ranks = own.clone(), 1
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(total)
            ranks = distributed.get_world_size()
        return mean * (ranks * own / total.clamp(min=1))
