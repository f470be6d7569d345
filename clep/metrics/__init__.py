"""Metrics: pure functions from scores to values in percent. Ties count against the model."""

from clep.metrics.accuracy import classification_metrics, egomcq_accuracy, mean_class_accuracy, topk_accuracy
from clep.metrics.ava import ava_frame_map
from clep.metrics.average_precision import average_precision, charades_map
from clep.metrics.multi_instance import mir_metrics, mir_relevancy
from clep.metrics.retrieval import retrieval_from_embeddings, retrieval_from_pairs, retrieval_metrics

__all__ = [
    "ava_frame_map",
    "average_precision",
    "charades_map",
    "classification_metrics",
    "egomcq_accuracy",
    "mean_class_accuracy",
    "mir_metrics",
    "mir_relevancy",
    "retrieval_from_embeddings",
    "retrieval_from_pairs",
    "retrieval_metrics",
    "topk_accuracy",
]
