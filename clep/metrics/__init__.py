"""Metrics: pure functions from scores to values in percent. Ties count against the model."""

from clep.metrics.accuracy import topk_accuracy
from clep.metrics.ava import ava_frame_map
from clep.metrics.average_precision import charades_map
from clep.metrics.retrieval import retrieval_from_embeddings, retrieval_metrics

__all__ = ["ava_frame_map", "charades_map", "retrieval_from_embeddings", "retrieval_metrics", "topk_accuracy"]
