"""How many steps a run will really take."""

import math
from typing import Any


def total_steps(trainer: Any) -> int:
    """Count the optimizer steps of a whole run, from its epochs and the length of this rank's sampler.

    Not by `trainer.estimated_stepping_batches`, which builds the loader before a checkpoint is restored; that is taken
    only where the trainer has no `MomentDataModule`.
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
