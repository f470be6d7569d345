"""Training: the LightningModule, its optimizer and schedules, and what watches over a run."""

from clep.training.checkpoint import Checkpoint
from clep.training.module import ContrastiveModule
from clep.training.nonfinite_guard import NonFiniteGuard, NonFiniteLossError
from clep.training.optimizer import adamw
from clep.training.progress import ProgressBar
from clep.training.schedule import steady, warmup_cosine

__all__ = [
    "Checkpoint",
    "ContrastiveModule",
    "NonFiniteGuard",
    "NonFiniteLossError",
    "ProgressBar",
    "adamw",
    "steady",
    "warmup_cosine",
]
