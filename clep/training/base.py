"""Base LightningModule: optimizer, schedule, EMA, non-finite guard. Subclasses define `compute_loss`."""

import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from jaxtyping import Float, Float32
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from clep.bank import check_open_banks
from clep.compute.float32_matmul import fast_float32_products
from clep.data.datamodule import warn_of_slow_loading
from clep.errors import InputError
from clep.models import SavedModel
from clep.training.compiled import CompiledLoss
from clep.training.ema import averaged_copy, check_decay, update_average
from clep.training.optimizer import Schedule, constant

REMEDY = (
    "lower optim.optimizer.lr, set trainer.gradient_clip_val=1, train in float32 (precision=32-true), or look for NaN "
    "and infinite values in the feature bank (python -m clep.preprocess ego4d_features lists them)"
)


class BaseModule(pl.LightningModule):
    """Trains a model, skips steps whose loss is not finite, and stops a run that diverged.

    Args:
        model: trained and saved.
        optimizer: builds the optimizer of a model; a fused one, which can skip a step on the device.
        schedule: factor of the learning rate as a function of the step and the number of steps.
        patience: this many non-finite losses in a row stop the run.
        ema: decay of an exponential moving average of the weights (`self.ema`), which is evaluated and saved beside
            them; None for no average.

    Examples:
        >>> from torch.nn import functional as F
        >>> from clep.models import DualEncoder
        >>> from clep.training import BaseModule, adamw
        >>> class MeanSquares(BaseModule):
        ...     def compute_loss(self, batch):
        ...         return F.mse_loss(self.model.encode_video(batch), self.model.encode_text(batch))
        >>> module = MeanSquares(DualEncoder.from_pretrained("model"), adamw, ema=0.999)
        >>> module.ema is not None
        True
    """

    loss_is_a_share = False
    """Whether a rank's loss is its share of the joined batch's loss, so that the mean over ranks is logged."""

    def __init__(
        self,
        model: SavedModel,
        optimizer: Callable[[nn.Module], torch.optim.Optimizer],
        schedule: Schedule = constant,
        patience: int = 10,
        ema: float | int | None = None,
    ) -> None:
        super().__init__()
        check_decay(ema)
        self.model, self.make_optimizer, self.schedule = model, optimizer, schedule
        self.guard = NonFiniteGuard(patience)
        # A submodule, so that checkpoints hold it and a resumed run continues it.
        self.ema_decay, self.ema = ema, None if ema is None else averaged_copy(model)
        self._compiled_loss: CompiledLoss | None = None
        self.metrics_before: dict[str, float] = {}  # from before training; a continued run has them from its checkpoint
        self._train_metrics: dict[str, float] = {}

    # What a subclass defines.

    def compute_loss(self, batch: dict[str, Tensor]) -> Float[Tensor, ""]:
        """Return the loss of one batch."""
        raise NotImplementedError(f"{type(self).__name__} must define compute_loss(batch)")

    def after_step(self) -> None:
        """Constrain the weights; called after each optimizer step."""

    def log_more(self) -> None:
        """Log further values; called at the steps that are logged."""

    # Steps.

    def compile_steps(self) -> None:
        """Compile the loss of training steps from now on, see `CompiledLoss`; validation is not compiled."""
        self._compiled_loss = CompiledLoss(self.compute_loss, self.model.parameters())

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Float[Tensor, ""]:
        """Return the loss; a non-finite one marks the step to be skipped on all ranks."""
        loss = (self._compiled_loss or self.compute_loss)(batch)
        first_of_step = batch_idx % self.trainer.accumulate_grad_batches == 0
        self.guard.skip(self._optimizer(), self.guard.check(loss), first_of_step)
        if self._logs_now():
            self.guard.raise_if_stuck()
            self.log("train/loss", loss.detach(), prog_bar=True, sync_dist=self.loss_is_a_share)
            self.log("train/lr", self._optimizer().param_groups[0]["lr"])
            self.log("train/skipped_steps", self.guard.skipped.float())
            self.log_more()
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log the loss of held-out examples; an empty batch means that none are held out."""
        if batch:
            size = len(batch["moment"])
            self.log("val/loss", self.compute_loss(batch), sync_dist=True, batch_size=size, prog_bar=True)
            if self.ema is not None:
                with self._averaged():
                    self.log("ema/val/loss", self.compute_loss(batch), sync_dist=True, batch_size=size)

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """Take a step and update the average: before any callback of the batch writes a checkpoint."""
        super().optimizer_step(*arguments, **options)
        self.after_step()
        if self.ema is not None and self.ema_decay is not None:
            update_average(self.ema, self.model, self.ema_decay, self.trainer.global_step)

    def configure_callbacks(self) -> list[pl.Callback]:
        """Add a callback that uses the CPU's fastest float32 products until the fit ends."""
        return [_FastProducts()]

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed dropout by run, epoch, batch and rank, so that a resumed run draws what an uninterrupted one draws."""
        run_seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
        position = (self.trainer.current_epoch * 1_000_003 + batch_idx) * 4_099 + self.global_rank
        torch.manual_seed((run_seed * 1_000_033 + position) % 2**63)

    def on_train_epoch_start(self) -> None:
        """Refuse banks that were truncated since they were opened: reading a missing page would kill the process."""
        check_open_banks()

    def on_validation_epoch_start(self) -> None:
        """Stop a run whose weights diverged, before evaluators or ModelCheckpoint see them."""
        self.guard.raise_if_stuck()
        check_finite_weights(self.model, self.trainer.global_step)

    def on_train_epoch_end(self) -> None:
        """Stop a run that skips all of its steps; warn if it waits for the disk more than it computes."""
        self.guard.raise_if_stuck()
        if self.trainer.local_rank == 0:
            warn_of_slow_loading(self.trainer.train_dataloader, self.current_epoch)

    # Optimizer.

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimizer, and its schedule over the steps that this run will take."""
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
        """Clip by norm or by value. Lightning itself refuses fused optimizers under mixed precision, bf16 too."""
        parameters: Iterable[nn.Parameter] = self.model.parameters()
        if gradient_clip_val and gradient_clip_algorithm == "value":
            nn.utils.clip_grad_value_(parameters, gradient_clip_val)
        elif gradient_clip_val:
            nn.utils.clip_grad_norm_(parameters, gradient_clip_val)

    # Checkpoints and the trained model.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the model's config and metadata and the metrics of training to the checkpoint: plain data only.

        One that is written between a step and the validation due after it resumes with that validation.
        """
        _resume_with_due_validation(self.trainer, checkpoint)
        checkpoint["clep"] = {
            "model": self.model.config,
            "metadata": self.model.metadata,
            "metrics_before": self.metrics_before,
            "train_metrics": self.train_metrics(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over earlier metrics; refuse a checkpoint with an average where the run has none, or without one."""
        kept = checkpoint.get("clep", {})
        self.metrics_before, self._train_metrics = kept.get("metrics_before", {}), kept.get("train_metrics", {})
        averaged = any(name.startswith("ema.") for name in checkpoint["state_dict"])
        if averaged != (self.ema is not None):
            raise InputError(
                f"the checkpoint was written {'with' if averaged else 'without'} EMA weights; continue "
                f"it {'with its ema=…' if averaged else 'without ema'}, or start from its weights alone "
                f"with init_from=PATH instead of ckpt_path"
            )

    def train_metrics(self) -> dict[str, float]:
        """Return the last logged `train/` metrics; those of the checkpoint where a resumed run had no step left."""
        logged = self.trainer.callback_metrics
        now = {name: float(value) for name, value in logged.items() if name.startswith("train/")}
        return self._train_metrics | now

    def save(self, folder: Path) -> None:
        """Write the model to `folder/model`, and its average, if any, to `folder/model_ema`."""
        self.model.save_pretrained(folder / "model")
        if self.ema is not None:
            self.ema.metadata = self.model.metadata
            self.ema.save_pretrained(folder / "model_ema")

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Replace the model by its average for the block."""
        trained, self.model = self.model, cast(SavedModel, self.ema)
        try:
            yield
        finally:
            self.model = trained

    def _optimizer(self) -> torch.optim.Optimizer:
        return self.trainer.optimizers[0]

    def _logs_now(self) -> bool:
        # The trainer writes to its loggers after every n-th step, and this runs before the step is counted.
        trainer: Any = self.trainer
        return (trainer.global_step + 1) % trainer.log_every_n_steps == 0 or trainer.is_last_batch


class _FastProducts(pl.Callback):
    """Uses the CPU's fastest float32 products while a trainer fits; a module is not told when a fit fails."""

    def __init__(self) -> None:
        self._while_fitting = ExitStack()

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._while_fitting.enter_context(fast_float32_products())

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._while_fitting.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._while_fitting.close()


def _resume_with_due_validation(trainer: pl.Trainer, checkpoint: dict[str, Any]) -> None:
    """Describe a checkpoint between a step and its validation as one at the first batch of that validation.

    Lightning resumes from the hook after a step (`every_n_train_steps`) with the next step and skips the validation,
    but from the middle of a validation it runs it again from its first batch.
    """
    epoch_loop: Any = trainer.fit_loop.epoch_loop
    batches = epoch_loop.batch_progress.current
    between = batches.ready == batches.processed == batches.completed + 1
    if not between or trainer.validating or not epoch_loop._should_check_val_fx(trainer.fit_loop._data_fetcher):
        return
    progress = checkpoint["loops"]["fit_loop"]
    for counts in (progress["epoch_loop.batch_progress"][kind] for kind in ("total", "current")):
        counts["completed"] += 1
    validation = progress["epoch_loop.val_loop.batch_progress"]
    for name in validation["current"]:
        validation["current"][name] = int(name in ("ready", "started"))
        validation["total"][name] = validation["total"]["completed"] + validation["current"][name]


class NonFiniteLossError(InputError):
    """The run diverged: losses or weights are NaN or infinite."""


class NonFiniteGuard(nn.Module):
    """Counts non-finite losses on the device, and makes a fused optimizer skip the step.

    Only `raise_if_stuck`, which is called now and then, waits for the GPU. The counts are buffers, so that checkpoints
    keep them.

    Args:
        patience: this many non-finite losses in a row stop the run.
    """

    skipped: Tensor
    in_a_row: Tensor
    longest: Tensor

    def __init__(self, patience: int = 10) -> None:
        super().__init__()
        self.patience = patience
        for name in ("skipped", "in_a_row", "longest"):
            # A resumed run counts anew how many come in a row.
            self.register_buffer(name, torch.zeros((), dtype=torch.int64), persistent=name == "skipped")

    def check(self, loss: Float[Tensor, ""]) -> Float32[Tensor, ""]:
        """Return 1 where the loss of any rank is not finite, else 0, and count it."""
        bad = (~torch.isfinite(loss.detach())).float()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(bad, op=torch.distributed.ReduceOp.MAX)
        count = bad.long()
        self.skipped += count
        self.in_a_row.add_(1).mul_(count)
        torch.maximum(self.longest, self.in_a_row, out=self.longest)
        return bad

    def skip(self, optimizer: torch.optim.Optimizer, bad: Float32[Tensor, ""], first_of_step: bool = True) -> None:
        """Make the next step of a fused optimizer change nothing where `bad` is 1.

        Fused optimizers read `found_inf`, the flag that a gradient scaler sets, on the device. Where gradients are
        accumulated, one bad batch among those of a step skips the step; `first_of_step` resets the flag.
        """
        before = None if first_of_step else getattr(optimizer, "found_inf", None)
        optimizer.found_inf = bad if before is None else torch.maximum(before, bad)  # type: ignore[attr-defined]

    def raise_if_stuck(self) -> None:
        """Stop the run after `patience` non-finite losses in a row. Waits for the GPU.

        Raises:
            NonFiniteLossError: with the count and the remedy.
        """
        if int(self.longest) >= self.patience:
            raise NonFiniteLossError(
                f"the loss was not finite in {int(self.longest)} steps in a row ({int(self.skipped)} in all), so the "
                f"run stops: {REMEDY}"
            )


def check_finite_weights(model: nn.Module, step: int) -> None:
    """Stop a run whose weights are NaN or infinite. Waits for the GPU once.

    Args:
        model: whose parameters are checked.
        step: optimizer steps so far, for the message.

    Raises:
        NonFiniteLossError: names the first parameter.
    """
    parameters = dict(model.named_parameters())
    finite = torch.stack([parameter.detach().isfinite().all() for parameter in parameters.values()])
    if not bool(finite.all()):
        name = next(name for name, good in zip(parameters, finite.tolist(), strict=True) if not good)
        raise NonFiniteLossError(
            f"the weights model.{name} are not finite after {step} steps, so the run stops: {REMEDY}"
        )


def total_steps(trainer: Any) -> int:
    """Count the optimizer steps of a whole run from its epochs and the length of this rank's sampler.

    `trainer.estimated_stepping_batches` would build the loader before a checkpoint is restored; it is used only where
    the trainer's DataModule has no `training_sampler`.
    """
    if not hasattr(trainer.datamodule, "training_sampler"):
        return int(trainer.estimated_stepping_batches)
    batches, limit = len(trainer.datamodule.training_sampler()), trainer.limit_train_batches
    if trainer.overfit_batches:
        limit = trainer.overfit_batches
    batches = min(batches, limit) if isinstance(limit, int) else max(1, int(batches * limit))
    per_epoch = math.ceil(batches / trainer.accumulate_grad_batches)
    by_epochs = per_epoch * trainer.max_epochs if (trainer.max_epochs or -1) > 0 else math.inf
    return int(min(trainer.max_steps if trainer.max_steps > 0 else math.inf, by_epochs, 2**62))
