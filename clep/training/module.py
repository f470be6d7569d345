"""The LightningModule: one contrastive step of a DualEncoder."""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clep.losses import PositivesRule, TextIdPositives, across_ranks, check_objective
from clep.models import DualEncoder
from clep.training.chunked import check_chunk_size, encode_in_chunks, refuse_batch_norm
from clep.training.schedule import Schedule, constant
from clep.training.stepped import SteppedModule

SAME_TEXT = TextIdPositives()


class ContrastiveModule(SteppedModule):
    """Train a `DualEncoder` to tell which texts belong to which moments.

    Args:
        model: the two towers and the scale.
        loss: an objective of `clep.losses`, called as `loss(video, text, scale, positives, bias)`.
        optimizer: from the model to its optimizer.
        schedule: factor of the learning rate as a function of the step and the number of steps.
        positives: which texts of a batch are right for which moments.
        form: of the loss across ranks, "global" or "local"; both have the gradient of one process with the joined
            batch.
        patience: so many non-finite losses in a row stop the run.
        ema: decay of an average of the weights, see `SteppedModule`.
        chunk_size: moments that a tower encodes at once, see `encode_in_chunks`; None for the whole batch.
    """

    def __init__(
        self,
        model: DualEncoder,
        loss: nn.Module,
        optimizer: Callable[[nn.Module], torch.optim.Optimizer],
        schedule: Schedule = constant,
        positives: PositivesRule = SAME_TEXT,
        form: Literal["global", "local"] = "global",
        patience: int = 10,
        ema: float | int | None = None,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__(model, optimizer, schedule, patience, ema)
        check_chunk_size(chunk_size)
        self.chunk_size = chunk_size
        self.model: DualEncoder
        check_objective(loss, form, model.logit_bias is not None)
        # The sampler gives every rank batches of one size, so comparing sizes, which waits for the GPU, is left out.
        self.loss = across_ranks(loss, form, positives, check_sizes=False)
        self.positives = positives
        # In the local form a rank's value is its share; their mean is the loss of the joined batch.
        self.loss_is_a_share = self.loss.form == "local"

    def on_fit_start(self) -> None:
        """Refuse chunks of a batch that must be encoded as one."""
        super().on_fit_start()
        if self.chunk_size is not None:
            refuse_batch_norm(self.model)

    def compute_loss(self, batch: dict[str, Tensor]) -> Float[Tensor, ""]:
        """Return the loss of one batch (of all ranks' batches together)."""
        towers = (self.model.encode_video, self.model.encode_text)
        video, text = (
            encode(batch) if self.chunk_size is None else encode_in_chunks(encode, batch, self.chunk_size)
            for encode in towers
        )
        return self.loss(video, text, self.model.logit_scale, self.positives.of_batch(batch), self.model.logit_bias)

    def log_more(self) -> None:
        """Log the scale, and the bias where there is one."""
        self.log("train/logit_scale", self.model.logit_scale.detach())
        if self.model.logit_bias is not None:
            self.log("train/logit_bias", self.model.logit_bias.detach())

    def after_step(self) -> None:
        """Keep the scale within its bounds."""
        self.model.clamp_scale()
