"""Exact nearest neighbours among the mapped float16 rows of a bank, block by block.

One query is compared in half precision first, which PyTorch does at the speed of reading (it accumulates in float32),
and the few rows that can be among the nearest are compared again in float32.
"""

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from clep.bank import FeatureBank

BLOCK_BYTES = 16 << 20
MARGIN = 1e-3
"""Bound of the error of a half-precision cosine: 2**-11 for the query's rounding and 2**-12 for that of the result."""

Found = tuple[Int64[np.ndarray, " found"], Float32[np.ndarray, " found"]]


def nearest(rows: FeatureBank, query: Float32[Tensor, " dim"], count: int) -> Found:
    """Return the rows with the highest dot products with a query, best first, and these; rows with NaN never.

    The result is that of float32 arithmetic on the stored values; of equal ones the earlier row comes first.

    Args:
        rows: float16, of at most unit length.
        query: of at most unit length.
        count: how many rows to return at the most.
    """
    half, n_rows = query.half(), rows.n_rows
    coarse = torch.empty(n_rows, dtype=torch.float16)
    step = max(1, BLOCK_BYTES // (2 * len(query)))
    for begin in range(0, n_rows, step):
        block = rows.block(begin, min(begin + step, n_rows))
        torch.mv(block, half, out=coarse[begin : begin + len(block)])
    scores = coarse.float().nan_to_num_(-torch.inf)
    if count >= n_rows:
        return best_of(rows, np.arange(n_rows), query, count)
    lowest = scores.topk(count, sorted=False).values.min() - 2 * MARGIN
    return best_of(rows, (scores >= lowest).nonzero().squeeze(1).numpy(), query, count)


def best_of(
    rows: FeatureBank, candidates: Int64[np.ndarray, " candidates"], query: Float32[Tensor, " dim"], count: int
) -> Found:
    """Return the best `count` of some rows by float32 dot products, best first; see `nearest`.

    Args:
        rows, query, count: see `nearest`.
        candidates: indices of rows, ascending.
    """
    scores = dot_products(rows, candidates, query[None])[:, 0]
    usable = np.isfinite(scores)
    candidates, scores = candidates[usable], scores[usable]
    order = np.argsort(-scores, kind="stable")[:count]
    return candidates[order], scores[order]


def dot_products(
    rows: FeatureBank, chosen: Int64[np.ndarray, " chosen"], queries: Float32[Tensor, "queries dim"]
) -> Float32[np.ndarray, "chosen queries"]:
    """Return the float32 dot products of some rows with each query."""
    scores = np.empty((len(chosen), len(queries)), np.float32)
    step = max(1, BLOCK_BYTES // (4 * queries.shape[1]))
    for begin in range(0, len(chosen), step):
        some = chosen[begin : begin + step]
        scores[begin : begin + len(some)] = (rows.take(some) @ queries.T).numpy()
    return scores


def nearest_of_many(
    rows: FeatureBank, queries: Float32[Tensor, "queries dim"], count: int
) -> Int64[np.ndarray, "queries count"]:
    """Return the `count` nearest rows of each of many queries, best first, by float32 matrix products of blocks."""
    best = torch.full((len(queries), 0), -torch.inf)
    index = torch.empty(len(queries), 0, dtype=torch.int64)
    step = max(count, (BLOCK_BYTES // 4) // max(queries.shape[1], len(queries)))
    for begin in range(0, rows.n_rows, step):
        block = rows.block(begin, min(begin + step, rows.n_rows)).float()
        scores: Float[Tensor, "queries block"] = (queries @ block.T).nan_to_num_(-torch.inf)
        here = scores.topk(min(count, scores.shape[1]), dim=1)
        merged = torch.cat([best, here.values], 1)
        kept = merged.topk(min(count, merged.shape[1]), dim=1)
        best, index = kept.values, torch.cat([index, here.indices + begin], 1).gather(1, kept.indices)
    return index.numpy()
