"""Evaluators that measure a model without Lightning, and the callback that runs them during training.

The callback is loaded on first use, so that measuring needs no Lightning.
"""

from typing import TYPE_CHECKING, Any

from clep.evaluation.ava_regions import AvaRegions
from clep.evaluation.ego_charades import EgoCharadesZeroShot
from clep.evaluation.evaluator import Evaluator
from clep.evaluation.kinetics import KineticsZeroShot
from clep.evaluation.multiple_choice import MultipleChoice
from clep.evaluation.retrieval import NarrationRetrieval
from clep.evaluation.video_accuracy import VideoAccuracy

if TYPE_CHECKING:
    from clep.evaluation.callback import EvaluatorCallback

__all__ = [
    "AvaRegions",
    "EgoCharadesZeroShot",
    "Evaluator",
    "EvaluatorCallback",
    "KineticsZeroShot",
    "MultipleChoice",
    "NarrationRetrieval",
    "VideoAccuracy",
]


def __getattr__(name: str) -> Any:
    if name == "EvaluatorCallback":
        from clep.evaluation.callback import EvaluatorCallback

        return EvaluatorCallback
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
