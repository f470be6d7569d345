"""Approximate search among millions of moments: an IVF of 8-bit codes by faiss, refined by exact scores.

Jégou et al., Product quantization for nearest neighbor search, 2011; https://github.com/facebookresearch/faiss/wiki.
"""

import logging
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from torch import Tensor

from clep.bank import FeatureBank
from clep.checksums import check_digest, file_digest, read_checked_json, write_checked_json
from clep.errors import InputError
from clep.files import atomic_path
from clep.index.exact import Found, best_of, nearest_of_many

TRAINING_ROWS = 200_000
MOST_LISTS = 4096
ROWS_AT_ONCE = 16_384
ITERATIONS = 10
CHOSEN_RECALL, LEAST_RECALL = 0.99, 0.98
"""The recall on which the lists to read are chosen, and below which a warning is logged."""
MOST_PROBES = 2048
REFINED, FEWEST_CANDIDATES = 4, 1_000
"""Candidates of the codes for each moment wanted, and at least: overlapping moments differ by less than codes do."""

_log = logging.getLogger(__name__)


def import_faiss() -> Any:
    """Import faiss.

    Raises:
        InputError: it is not installed.
    """
    try:
        return import_module("faiss")
    except ModuleNotFoundError as error:
        raise InputError(
            "an approximate index needs the package faiss-cpu: pip install 'clep[search]', or search exactly with "
            "approximate_above=null"
        ) from error


class InvertedFile:
    """An IVF of 8-bit codes, mapped from its file.

    Args:
        index: the opened faiss index.
        probes: lists that a search reads.
        recall: share of the ten nearest moments of the probe queries that it found.
    """

    def __init__(self, index: Any, probes: int, recall: float) -> None:
        self._faiss, self._index = import_faiss(), index
        self.probes, self.recall = probes, recall

    @classmethod
    def build(
        cls,
        path: Path,
        of: str,
        rows: FeatureBank,
        queries: Float32[Tensor, "queries dim"],
        progress: Callable[[int], None] = lambda rows: None,
    ) -> "InvertedFile":
        """Build, measure and write the file, and the JSON beside it; both are whole or absent.

        K-means sees at most `TRAINING_ROWS` rows, and rows are added in blocks, so that the memory needed is that of
        the codes. The fewest lists are read with which a search finds `CHOSEN_RECALL` of the ten nearest moments of
        `queries`.

        Args:
            path: the file to write.
            of: digest of the rows, stored.
            rows: float16, of unit length.
            queries: of unit length, of the kind that will be searched.
            progress: called with the count of rows added.
        """
        faiss = import_faiss()
        n_rows, dim = rows.n_rows, rows.dim
        lists = max(1, min(MOST_LISTS, 2 ** round(np.log2(4 * np.sqrt(n_rows))), min(n_rows, TRAINING_ROWS) // 40))
        index = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(dim), dim, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT, False
        )
        index.cp.niter, index.cp.spherical, index.cp.seed = ITERATIONS, True, 0
        index.cp.max_points_per_centroid = TRAINING_ROWS
        index.cp.min_points_per_centroid = 1
        index.train(_sample(rows))
        for begin in range(0, n_rows, ROWS_AT_ONCE):
            block = rows.block(begin, min(begin + ROWS_AT_ONCE, n_rows))
            index.add(block.float().nan_to_num_().numpy())
            progress(len(block))
        with atomic_path(path) as temporary:
            faiss.write_index(index, str(temporary))
        del index
        inverted = cls(_map(faiss, path), 1, 0.0)
        inverted._choose_probes(rows, queries, lists)
        about = {"of": of, "digest": file_digest(path), "probes": inverted.probes, "recall": inverted.recall}
        write_checked_json(_about(path), about | {"lists": lists, "queries": len(queries)})
        return inverted

    @classmethod
    def open(cls, path: Path, of: str) -> "InvertedFile | None":
        """Open the file, compared with its checksum; None where there is none for these rows.

        Raises:
            InputError: the file is damaged, or faiss is not installed.
        """
        if not (path.is_file() and _about(path).is_file()):
            return None
        about = read_checked_json(_about(path), f"delete it: {path.name} is then built again")
        if about.get("of") != of:
            return None
        check_digest(path, "the index", about["digest"], file_digest(path), "delete it: it is then built again")
        return cls(_map(import_faiss(), path), int(about["probes"]), float(about["recall"]))

    def search(self, rows: FeatureBank, query: Float32[Tensor, " dim"], count: int) -> Found:
        """Return about the `count` nearest rows, best first, with exact scores; fewer if the lists hold fewer."""
        parameters = self._faiss.SearchParametersIVF(nprobe=self.probes)
        candidates = min(rows.n_rows, max(FEWEST_CANDIDATES, REFINED * count))
        found = self._index.search(query[None].numpy(), candidates, params=parameters)[1][0]
        return best_of(rows, np.sort(found[found >= 0]), query, count)

    def _choose_probes(self, rows: FeatureBank, queries: Float32[Tensor, "queries dim"], lists: int) -> None:
        count = min(10, rows.n_rows)
        exact = nearest_of_many(rows, queries, count)
        self.probes = min(4, lists)
        while True:
            found = [self.search(rows, query, count)[0] for query in queries]
            shares = [len(np.intersect1d(one, other)) / count for one, other in zip(found, exact, strict=True)]
            self.recall = float(np.mean(shares))
            if self.recall >= CHOSEN_RECALL or self.probes >= min(MOST_PROBES, lists):
                break
            self.probes = min(2 * self.probes, MOST_PROBES, lists)
        message = "index of %s moments in %s lists: recall@10 %.3f of exact search on %s queries, reading %s lists"
        level = logging.INFO if self.recall >= LEAST_RECALL else logging.WARNING
        _log.log(level, message, f"{rows.n_rows:,}", f"{lists:,}", self.recall, f"{len(queries):,}", self.probes)


def _map(faiss: Any, path: Path) -> Any:
    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
    except RuntimeError as error:
        raise InputError(f"{path} is not an index that this faiss reads; delete it, and it is built again") from error


def _about(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _sample(rows: FeatureBank) -> Float32[np.ndarray, "rows dim"]:
    """Return up to `TRAINING_ROWS` random rows, the same ones each time."""
    chosen = np.arange(rows.n_rows)
    if len(chosen) > TRAINING_ROWS:
        chosen = np.sort(np.random.default_rng(0).choice(rows.n_rows, TRAINING_ROWS, replace=False))
    return rows.take(chosen).nan_to_num_().numpy()
