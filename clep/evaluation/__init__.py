"""Evaluators, which need no Lightning, and the callback that runs them during training.

The callback is imported on first use, because Lightning takes seconds to import.
"""

from typing import TYPE_CHECKING, Any

from clep.evaluation.ava import AvaRegions
from clep.evaluation.classification import EGTEAZeroShot, EpicZeroShot, ZeroShotClassification
from clep.evaluation.egomcq import EgoMCQ
from clep.evaluation.epic_mir import EpicMIR
from clep.evaluation.evaluator import Evaluator
from clep.evaluation.multiple_choice import MultipleChoice
from clep.evaluation.probes import LinearProbe, NearestNeighbours
from clep.evaluation.retrieval import NarrationRetrieval
from clep.evaluation.table_retrieval import TableRetrieval
from clep.evaluation.video_accuracy import VideoAccuracy
from clep.evaluation.zero_shot import EgoCharadesZeroShot, KineticsZeroShot

if TYPE_CHECKING:
    from clep.evaluation.callback import EvaluatorCallback

__all__ = [
    "AvaRegions",
    "EGTEAZeroShot",
    "EgoCharadesZeroShot",
    "EgoMCQ",
    "EpicMIR",
    "EpicZeroShot",
    "Evaluator",
    "EvaluatorCallback",
    "KineticsZeroShot",
    "LinearProbe",
    "MultipleChoice",
    "NarrationRetrieval",
    "NearestNeighbours",
    "TableRetrieval",
    "VideoAccuracy",
    "ZeroShotClassification",
]


def __getattr__(name: str) -> Any:
    if name == "EvaluatorCallback":
        from clep.evaluation.callback import EvaluatorCallback

        return EvaluatorCallback
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
