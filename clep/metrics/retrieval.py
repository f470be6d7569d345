"""Retrieval: how far down its list a query finds the first right answer."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

RECALL_AT = (1, 5, 10)


@torch.no_grad()
def retrieval_metrics(
    similarity: Float[Tensor, "queries gallery"] | Float[np.ndarray, "queries gallery"],
    positives: Bool[Tensor, "queries gallery"] | Bool[np.ndarray, "queries gallery"] | None = None,
) -> dict[str, float]:
    """Measure retrieval from a matrix of similarities.

    A query's rank is the place of its best right answer, from 1. Ties count against the model: wrong answers that
    are as similar come first. Other right answers never push the best one down.

    Args:
        similarity: higher is better; rows are queries.
        positives: which answers are right; None for the diagonal.

    Returns:
        `r1`, `r5`, `r10`: percentage of queries whose rank is at most that; `median_rank` (the mean of the middle two
        where queries are even in number) and `mean_rank`.

    Raises:
        ValueError: no queries, a similarity is NaN, the matrix is not square and `positives` is None, or a query
            has no right answer.
    """
    similarity = torch.as_tensor(similarity)
    n, m = similarity.shape
    if positives is None:
        if n != m:
            raise ValueError(f"{n} queries and {m} answers: without positives, answer i belongs to query i")
        positives = torch.eye(n, dtype=torch.bool, device=similarity.device)
    return _summary(_ranks(similarity, torch.as_tensor(positives, device=similarity.device)))


@torch.no_grad()
def retrieval_from_embeddings(
    query: Float[Tensor, "queries dim"],
    gallery: Float[Tensor, "gallery dim"],
    query_id: Int[Tensor, "queries"] | Int[np.ndarray, "queries"],
    gallery_id: Int[Tensor, "gallery"] | Int[np.ndarray, "gallery"],
    chunk: int = 4096,
) -> dict[str, float]:
    """Measure retrieval by dot products without holding all similarities, on the device of `query`.

    An answer is right where its id equals the query's: with text ids, every copy of a sentence is. Computed in
    float32 (float64 where the embeddings are), under autocast too.

    Args:
        query: embeddings, normalised where the model does so.
        gallery: embeddings on the same device.
        query_id: an id for each query.
        gallery_id: an id for each answer.
        chunk: at most `chunk * chunk` similarities exist at a time (4096: 64 MiB).

    Returns:
        As `retrieval_metrics`.

    Raises:
        ValueError: as `retrieval_metrics`; or `chunk` is below 1.
    """
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")
    wanted, there = _small_ids(*(torch.as_tensor(ids, device=query.device) for ids in (query_id, gallery_id)))
    dtype = torch.promote_types(query.dtype, torch.float32)
    rows = max(1, min(len(query), chunk * chunk // max(1, len(gallery))))
    with torch.autocast(device_type=query.device.type, enabled=False):
        answers = gallery.to(dtype).T
        ranks = [
            _ranks(part.to(dtype) @ answers, ids[:, None] == there[None, :])
            for part, ids in zip(query.split(rows), wanted.split(rows), strict=True)
        ]
    return _summary(torch.cat(ranks))


def _ranks(
    similarity: Float[Tensor, "queries gallery"], positives: Bool[Tensor, "queries gallery"]
) -> Int[Tensor, "queries"]:
    """The place, from 1, of each query's best right answer."""
    if len(similarity) == 0:
        raise ValueError("retrieval of no queries is undefined")
    without = int((positives.sum(1, dtype=torch.int32) == 0).sum())
    if without:
        raise ValueError(f"{without} of {len(positives)} queries have no right answer; leave them out")
    undefined = int(similarity.amax(1).isnan().sum())
    if undefined:
        raise ValueError(f"{undefined} queries have similarities that are NaN")
    best = torch.where(positives, similarity, -torch.inf).amax(1, keepdim=True)
    # Of booleans, a > b is "a and not b" in one pass; int32 sums are several times faster than int64 ones.
    return 1 + ((similarity >= best) > positives).sum(1, dtype=torch.int32)


def _small_ids(one: Int[Tensor, "n"], other: Int[Tensor, "m"]) -> tuple[Int[Tensor, "n"], Int[Tensor, "m"]]:
    """Renumber ids, so that they are compared as int32."""
    renumbered = torch.unique(torch.cat([one, other]), return_inverse=True)[1].int()
    return renumbered[: len(one)], renumbered[len(one) :]


def _summary(ranks: Int[Tensor, "queries"]) -> dict[str, float]:
    rank = ranks.double().cpu().numpy()
    recall = {f"r{k}": 100 * float((rank <= k).mean()) for k in RECALL_AT}
    return recall | {"median_rank": float(np.median(rank)), "mean_rank": float(rank.mean())}
