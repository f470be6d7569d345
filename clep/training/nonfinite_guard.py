"""Skip steps whose loss is not finite, on all ranks alike, and stop a run that cannot recover."""

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn


class NonFiniteLossError(RuntimeError):
    """Too many losses in a row were NaN or infinite."""


class NonFiniteGuard(nn.Module):
    """Count non-finite losses on the device, and tell a fused optimizer to skip the step.

    Nothing here waits for the GPU but `raise_if_stuck`, which is called now and then. The counts are buffers, so a
    checkpoint keeps them.

    Args:
        patience: so many non-finite losses in a row stop the run.
    """

    skipped: Tensor
    in_a_row: Tensor
    longest: Tensor

    def __init__(self, patience: int = 10) -> None:
        super().__init__()
        self.patience = patience
        for name in ("skipped", "in_a_row", "longest"):
            # A run that continues one which stopped counts anew how many come in a row.
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
        accumulated, one bad batch among those of a step skips the step; `first_of_step` starts anew.
        """
        before = None if first_of_step else getattr(optimizer, "found_inf", None)
        optimizer.found_inf = bad if before is None else torch.maximum(before, bad)  # type: ignore[attr-defined]

    def raise_if_stuck(self) -> None:
        """Stop the run after `patience` non-finite losses in a row. Waits for the GPU.

        Raises:
            NonFiniteLossError: with the count and what to try.
        """
        if int(self.longest) >= self.patience:
            raise NonFiniteLossError(
                f"the loss was not finite in {int(self.longest)} steps in a row ({int(self.skipped)} in all), so the "
                f"run stops. "
                f"Lower optim.optimizer.lr, set trainer.gradient_clip_val=1, train in float32 "
                f"(trainer.precision=32-true), "
                f"or look for NaN rows in the feature bank (python -m clep.preprocess ego4d_features lists them)"
            )
