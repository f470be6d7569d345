"""The LightningModule: one contrastive step of a DualEncoder."""

import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from jaxtyping import Float
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from clep.cpu_products import fast_float32_products
from clep.errors import InputError
from clep.losses import across_ranks, same_text
from clep.models import DualEncoder
from clep.training.nonfinite_guard import NonFiniteGuard
from clep.training.run_length import total_steps
from clep.training.schedule import Schedule, constant


class ContrastiveModule(pl.LightningModule):
    """Train a `DualEncoder` to tell which texts belong to which moments.

    Args:
        model: the two towers and the scale.
        loss: an objective of `clep.losses`, called as `loss(video, text, scale, positives, bias)`.
        optimizer: from the model to its optimizer.
        schedule: factor of the learning rate as a function of the step and the number of steps.
        positives: "text_id" counts equal texts as right for each other's videos, "diagonal" only a moment's own text.
        form: of the loss across ranks, "global" or "local"; both have the gradient of one process with the joined
            batch.
        patience: so many non-finite losses in a row stop the run.
    """

    def __init__(
        self,
        model: DualEncoder,
        loss: nn.Module,
        optimizer: Callable[[nn.Module], torch.optim.Optimizer],
        schedule: Schedule = constant,
        positives: Literal["text_id", "diagonal"] = "text_id",
        form: Literal["global", "local"] = "global",
        patience: int = 10,
    ) -> None:
        super().__init__()
        self.model, self.make_optimizer, self.schedule = model, optimizer, schedule
        # The sampler gives every rank batches of one size, so comparing sizes, which waits for the GPU, is left out.
        self.loss = across_ranks(loss, form, same_text if positives == "text_id" else None, check_sizes=False)
        self.guard = NonFiniteGuard(patience)
        self._while_fitting = ExitStack()

    def contrast(self, batch: dict[str, Tensor]) -> Float[Tensor, ""]:
        """Return the loss of one batch (of all ranks' batches together)."""
        video, text = self.model.encode_video(batch), self.model.encode_text(batch)
        return self.loss(video, text, self.model.logit_scale, {"text_id": batch["text_id"]})

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Float[Tensor, ""]:
        """Return the loss; a non-finite one marks the step to be skipped on all ranks."""
        loss = self.contrast(batch)
        first_of_step = batch_idx % self.trainer.accumulate_grad_batches == 0
        self.guard.skip(self._optimizer(), self.guard.check(loss), first_of_step)
        if self._logs_now():
            self.guard.raise_if_stuck()
            # In the local form a rank's value is its share; their mean is the loss of the joined batch.
            self.log("train/loss", loss.detach(), prog_bar=True, sync_dist=self.loss.form == "local")
            self.log("train/logit_scale", self.model.logit_scale.detach())
            self.log("train/lr", self._optimizer().param_groups[0]["lr"])
            self.log("train/skipped_steps", self.guard.skipped.float())
        return loss

    def on_fit_start(self) -> None:
        """Use the CPU's fastest float32 products until the fit ends."""
        self._while_fitting.close()
        self._while_fitting.enter_context(fast_float32_products())

    def on_fit_end(self) -> None:
        """Put the products back to what they were."""
        self._while_fitting.close()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed dropout and its like by the batch, so that a resumed run draws what an uninterrupted one draws."""
        run_seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
        place = (self.trainer.current_epoch * 1_000_003 + batch_idx) * 4_099 + self.global_rank
        torch.manual_seed((run_seed * 1_000_033 + place) % 2**63)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Keep the scale within its bounds."""
        self.model.clamp_scale()

    def on_train_epoch_end(self) -> None:
        """Stop a run that only skips."""
        self.guard.raise_if_stuck()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log the loss of held-out moments; an empty batch means that none are held out."""
        if "video" in batch:
            self.log("val/loss", self.contrast(batch), sync_dist=True, batch_size=len(batch["moment"]), prog_bar=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put into the checkpoint what builds its model again: plain data only."""
        checkpoint["clep"] = {"model": self.model.config, "metadata": self.model.metadata}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimizer and its schedule over the steps that this run will really take."""
        optimizer, total = self.make_optimizer(self.model), self.total_steps()
        if not getattr(optimizer, "_step_supports_amp_scaling", False):
            raise InputError(
                f"optim.optimizer: {type(optimizer).__name__} cannot skip a step on the device when the loss is not "
                f"finite; use a fused optimizer (fused=True)"
            )
        if self.trainer.gradient_clip_val and getattr(self.trainer.precision_plugin, "scaler", None) is not None:
            raise InputError(
                "trainer.gradient_clip_val would clip gradients that float16 training has scaled up; use "
                "trainer.precision=bf16-mixed or 32-true with clipping"
            )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.schedule(step, total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def total_steps(self) -> int:
        """Count the optimizer steps of the whole run."""
        return total_steps(self.trainer)

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip by norm or by value here: Lightning refuses fused optimizers under mixed precision, bf16 too."""
        parameters: Iterable[nn.Parameter] = self.model.parameters()
        if gradient_clip_val and gradient_clip_algorithm == "value":
            nn.utils.clip_grad_value_(parameters, gradient_clip_val)
        elif gradient_clip_val:
            nn.utils.clip_grad_norm_(parameters, gradient_clip_val)

    def _optimizer(self) -> torch.optim.Optimizer:
        return self.trainer.optimizers[0]

    def _logs_now(self) -> bool:
        # The trainer writes to its loggers after every n-th step, and this is asked before the step is counted.
        trainer: Any = self.trainer
        return (trainer.global_step + 1) % trainer.log_every_n_steps == 0 or trainer.is_last_batch
