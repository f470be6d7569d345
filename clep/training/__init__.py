"""Training: the LightningModule, its optimizer and schedules, and what watches over a run."""

from clep.training.checkpoint import Checkpoint, checked_monitors, find_checkpoint
from clep.training.classifier_module import ClassifierModule
from clep.training.hard_negative_search import HardNegativeSearch
from clep.training.module import ContrastiveModule
from clep.training.nonfinite_guard import NonFiniteGuard, NonFiniteLossError
from clep.training.optimizer import adamw
from clep.training.progress import ProgressBar
from clep.training.results import finish_loggers, print_results
from clep.training.schedule import steady, warmup_cosine
from clep.training.stepped import SteppedModule

__all__ = [
    "Checkpoint",
    "ClassifierModule",
    "ContrastiveModule",
    "HardNegativeSearch",
    "NonFiniteGuard",
    "NonFiniteLossError",
    "ProgressBar",
    "SteppedModule",
    "adamw",
    "checked_monitors",
    "find_checkpoint",
    "finish_loggers",
    "print_results",
    "steady",
    "warmup_cosine",
]
