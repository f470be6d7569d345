"""Evaluators that measure a model without Lightning, and the callback that runs them during training."""

from clep.evaluation.callback import EvaluatorCallback
from clep.evaluation.ego_charades import EgoCharadesZeroShot
from clep.evaluation.evaluator import Evaluator
from clep.evaluation.kinetics import KineticsZeroShot
from clep.evaluation.retrieval import NarrationRetrieval

__all__ = ["EgoCharadesZeroShot", "Evaluator", "EvaluatorCallback", "KineticsZeroShot", "NarrationRetrieval"]
