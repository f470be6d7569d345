"""Training: LightningModules, optimizer and schedules, checkpoints, run folders."""

from clep.training.base import BaseModule, NonFiniteGuard, NonFiniteLossError
from clep.training.checkpoint import AtomicCheckpointIO, Checkpoint, checked_monitors, find_checkpoint
from clep.training.classifier import ClassifierModule
from clep.training.contrastive import ContrastiveModule
from clep.training.display import CurveLogger, ProgressBar, finish_loggers, print_results
from clep.training.hard_negative_search import HardNegativeSearch
from clep.training.history import Chosen, History
from clep.training.optimizer import adamw, steady, warmup_cosine
from clep.training.run_folder import ClaimRunFolder
from clep.training.tasks import ActionDetection, Contrastive, FinetuneVideo, Task

__all__ = [
    "ActionDetection",
    "AtomicCheckpointIO",
    "BaseModule",
    "Checkpoint",
    "Chosen",
    "ClaimRunFolder",
    "ClassifierModule",
    "Contrastive",
    "ContrastiveModule",
    "CurveLogger",
    "FinetuneVideo",
    "HardNegativeSearch",
    "History",
    "NonFiniteGuard",
    "NonFiniteLossError",
    "ProgressBar",
    "Task",
    "adamw",
    "checked_monitors",
    "find_checkpoint",
    "finish_loggers",
    "print_results",
    "steady",
    "warmup_cosine",
]
