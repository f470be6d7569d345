"""Retrieval of clips by sentences, and of sentences by clips, on a user's table."""

from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from clep.datasets.clip_table import QueryTable, read_query_table
from clep.evaluation.clip_text import ClipTextBenchmark, Similarity
from clep.evaluation.details import Detail, rank_details, value_details
from clep.metrics.retrieval import pair_ranks, summarize_ranks


class TableRetrieval(ClipTextBenchmark):
    """`retrieval/<name>/<t2v|v2t>/<mAP|r1|r5|r10|median_rank|mean_rank>` on pairs of a sentence and a clip.

    A sentence may have several clips and a clip several sentences: recall and rank count the best of them, mAP all. The
    gallery is all clips, or all sentences, of the table; metrics depend on its size, which `coverage` states. Sentences
    none of whose clips have features are left out and counted.

    Args:
        table: csv, tsv, parquet or jsonl with `query` and `clip`, or `video`, `start` and `end` for clips that are
            spans of videos in the bank; see `read_query_table`.
        bank, texts, similarity, batch_size: see `ClipTextBenchmark`.
        columns: names of the table's columns where they differ, e.g. `{"query": "caption"}`.
        name: of the metrics.

    Examples:
        >>> from clep.evaluation import TableRetrieval
        >>> from clep.models import DualEncoder
        >>> evaluator = TableRetrieval("queries.csv", "features.h5")
        >>> metrics = evaluator.run(DualEncoder.from_pretrained("model"))
        >>> "retrieval/table/t2v/r1" in metrics, "retrieval/table/v2t/mAP" in metrics
        (True, True)
    """

    reads = ("table", "bank", "texts")
    job = "table_retrieval"

    def __init__(
        self,
        table: str | Path,
        bank: str | Path,
        texts: str | Path | None = None,
        columns: Mapping[str, str | None] | None = None,
        name: str = "table",
        similarity: Similarity = "model",
        batch_size: int = 4096,
    ) -> None:
        super().__init__(bank, texts, similarity, batch_size)
        self.table_path, self.columns, self.name = table, columns, name

    @property
    def title(self) -> str:
        """Name of the table in messages."""
        return str(self.table_path)

    @cached_property
    def table(self) -> QueryTable:
        """The table, read once."""
        return read_query_table(self.table_path, self.columns, f"evaluator.{self.job}.columns")

    def measure(self, model: Any) -> dict[str, float]:
        """Return the metrics of both directions.

        Raises:
            InputError: as `ClipTextBenchmark`.
        """
        table = self.table
        with self.compared(model) as dual:
            clips = self.encode_clips(dual, table.spans)
            text = self.encode_sentences(dual, table.sentences)
        row = np.full(len(table.spans), -1)
        row[clips.kept] = np.arange(len(clips.kept))
        pairs = np.stack([table.pairs[:, 0], row[table.pairs[:, 1]]], axis=1)
        pairs = pairs[pairs[:, 1] >= 0]
        asked, sentence = np.unique(pairs[:, 0], return_inverse=True)
        pairs = np.stack([sentence, pairs[:, 1]], axis=1)
        self.coverage |= {
            "sentences": len(table.sentences),
            "sentences with a clip": len(asked),
            "pairs": len(pairs),
            "repeated pairs": table.repeated,
        }
        text = text[torch.from_numpy(asked).to(text.device)]
        sides = {
            "t2v": (text, clips.rows, pairs, [table.sentences[i] for i in asked.tolist()]),
            "v2t": (clips.rows, text, pairs[:, ::-1].copy(), [table.spans.ids[i] for i in clips.kept.tolist()]),
        }
        metrics: dict[str, float] = {}
        for side, (query, gallery, of_side, queries) in sides.items():
            name = f"retrieval/{self.name}/{side}"
            ranks, precision = pair_ranks(query, gallery, of_side)
            found = summarize_ranks(ranks) | {"mAP": 100 * float(precision.mean())}
            metrics |= {f"{name}/{metric}": value for metric, value in found.items()}
            right = np.bincount(of_side[:, 0], minlength=len(query))
            self.record(partial(_details, name, ranks, precision, queries, len(gallery), right))
        return metrics


def _details(
    name: str,
    ranks: Int[Tensor, " queries"],
    precision: Float[np.ndarray, " queries"],
    queries: list[str],
    answers: int,
    right: Int64[np.ndarray, " queries"],
) -> list[Detail]:
    of_queries = value_details(name, ("mAP",), 100 * precision[:, None], queries)
    return [rank_details(name, ranks, queries, answers, right), of_queries]
