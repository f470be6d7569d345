"""Retrieval metrics: recall at k, median and mean rank, mean average precision."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from clep.metrics.average_precision import average_precision

RECALL_AT = (1, 5, 10)


@torch.no_grad()
def retrieval_metrics(
    similarity: Float[Tensor, "queries gallery"] | Float[np.ndarray, "queries gallery"],
    positives: Bool[Tensor, "queries gallery"] | Bool[np.ndarray, "queries gallery"] | None = None,
) -> dict[str, float]:
    """Compute retrieval metrics from a similarity matrix.

    The rank of a query is that of its most similar correct answer, from 1. Ties count against the model: equally
    similar wrong answers rank first. Other correct answers do not increase the rank.

    Args:
        similarity: higher is better; rows are queries.
        positives: mask of correct answers; None for the diagonal.

    Returns:
        `r1`, `r5`, `r10`: percentage of queries with a rank of at most 1, 5, 10; `median_rank` (the mean of the middle
        two for an even number of queries) and `mean_rank`.

    Raises:
        ValueError: no queries, a similarity is NaN, the matrix is not square and `positives` is None, or a query
            has no correct answer.

    Examples:
        >>> import torch
        >>> from clep.metrics import retrieval_metrics
        >>> similarity = torch.tensor([[0.9, 0.1, 0.2], [0.8, 0.5, 0.1], [0.1, 0.2, 0.3]])
        >>> metrics = retrieval_metrics(similarity)  # answer i belongs to query i
        >>> round(metrics["r1"], 1), metrics["median_rank"]
        (66.7, 1.0)
    """
    similarity = torch.as_tensor(similarity)
    n, m = similarity.shape
    if positives is None:
        if n != m:
            raise ValueError(f"{n} queries and {m} answers: without positives, answer i belongs to query i")
        positives = torch.eye(n, dtype=torch.bool, device=similarity.device)
    return summarize_ranks(_ranks(similarity, torch.as_tensor(positives, device=similarity.device)))


@torch.no_grad()
def retrieval_from_embeddings(
    query: Float[Tensor, "queries dim"],
    gallery: Float[Tensor, "gallery dim"],
    query_id: Int[Tensor, "queries"] | Int[np.ndarray, "queries"],
    gallery_id: Int[Tensor, "gallery"] | Int[np.ndarray, "gallery"],
    chunk: int = 4096,
) -> dict[str, float]:
    """Compute retrieval metrics from embeddings, in chunks, on the device of `query`.

    An answer is correct if its id equals the query's; with text ids, all copies of a sentence are correct. Computed in
    float32 under autocast too; float64 stays float64.

    Args:
        query: embeddings, compared by dot product.
        gallery: embeddings on the same device.
        query_id: id of each query.
        gallery_id: id of each answer.
        chunk: at most `chunk * chunk` similarities are computed at once (4096: 64 MiB).

    Returns:
        As for `retrieval_metrics`.

    Raises:
        ValueError: as for `retrieval_metrics`; or `chunk` is below 1.
    """
    return summarize_ranks(retrieval_ranks(query, gallery, query_id, gallery_id, chunk))


@torch.no_grad()
def retrieval_ranks(
    query: Float[Tensor, "queries dim"],
    gallery: Float[Tensor, "gallery dim"],
    query_id: Int[Tensor, "queries"] | Int[np.ndarray, "queries"],
    gallery_id: Int[Tensor, "gallery"] | Int[np.ndarray, "gallery"],
    chunk: int = 4096,
) -> Int[Tensor, "queries"]:
    """Rank of each query's most similar correct answer, from 1; arguments and errors of `retrieval_from_embeddings`."""
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")
    query_ids, gallery_ids = _small_ids(*(torch.as_tensor(ids, device=query.device) for ids in (query_id, gallery_id)))
    dtype = torch.promote_types(query.dtype, torch.float32)
    rows = max(1, min(len(query), chunk * chunk // max(1, len(gallery))))
    with torch.autocast(device_type=query.device.type, enabled=False):
        answers = gallery.to(dtype).T
        ranks = [
            _ranks(part.to(dtype) @ answers, ids[:, None] == gallery_ids[None, :])
            for part, ids in zip(query.split(rows), query_ids.split(rows), strict=True)
        ]
    return torch.cat(ranks)


@torch.no_grad()
def retrieval_from_pairs(
    query: Float[Tensor, "queries dim"],
    gallery: Float[Tensor, "gallery dim"],
    pairs: Int[Tensor, "pairs 2"] | Int[np.ndarray, "pairs 2"],
    chunk: int = 4096,
) -> dict[str, float]:
    """Compute retrieval metrics and mAP from embeddings and the pairs of queries and correct answers.

    Args:
        query, gallery, pairs, chunk: see `pair_ranks`.

    Returns:
        As for `retrieval_metrics`, and `mAP`: the mean over queries of their `average_precision`, in percent.

    Raises:
        ValueError: as for `retrieval_metrics`.
    """
    ranks, precision = pair_ranks(query, gallery, pairs, chunk)
    return summarize_ranks(ranks) | {"mAP": 100 * float(precision.mean())}


@torch.no_grad()
def pair_ranks(
    query: Float[Tensor, "queries dim"],
    gallery: Float[Tensor, "gallery dim"],
    pairs: Int[Tensor, "pairs 2"] | Int[np.ndarray, "pairs 2"],
    chunk: int = 4096,
) -> tuple[Int[Tensor, "queries"], Float[np.ndarray, "queries"]]:
    """Return the rank of each query's most similar correct answer, from 1, and its average precision.

    Args:
        query, gallery: embeddings on one device, compared by dot product in float32.
        pairs: indices of a query and a correct answer; a query may have several, in any order.
        chunk: at most `chunk * chunk` similarities are computed at once.

    Raises:
        ValueError: as for `retrieval_metrics`.
    """
    if not len(query):
        raise ValueError("retrieval of no queries is undefined")
    pairs = torch.as_tensor(pairs).cpu()
    pairs = pairs[pairs[:, 0].argsort(stable=True)]
    rows = max(1, min(len(query), chunk * chunk // max(1, len(gallery))))
    answers = gallery.float().T
    ranks, precisions = [], []
    for start in range(0, len(query), rows):
        similarity = query[start : start + rows].float() @ answers
        first, last = torch.searchsorted(pairs[:, 0].contiguous(), torch.tensor([start, start + len(similarity)]))
        positives = torch.zeros(similarity.shape, dtype=torch.bool)
        positives[pairs[first:last, 0] - start, pairs[first:last, 1]] = True
        ranks.append(_ranks(similarity, positives.to(similarity.device)))
        precisions.append(average_precision(similarity.cpu().numpy(), positives.numpy()))
    return torch.cat(ranks), np.concatenate(precisions)


def _ranks(
    similarity: Float[Tensor, "queries gallery"], positives: Bool[Tensor, "queries gallery"]
) -> Int[Tensor, "queries"]:
    """Return the rank, from 1, of each query's most similar correct answer."""
    if len(similarity) == 0:
        raise ValueError("retrieval of no queries is undefined")
    without = int((positives.sum(1, dtype=torch.int32) == 0).sum())
    if without:
        raise ValueError(f"{without} of {len(positives)} queries have no correct answer; remove them")
    undefined = int(similarity.amax(1).isnan().sum())
    if undefined:
        raise ValueError(f"{undefined} queries have similarities that are NaN")
    best = torch.where(positives, similarity, -torch.inf).amax(1, keepdim=True)
    # For booleans, a > b is "a and not b" in one pass; int32 sums are several times faster than int64 sums.
    return 1 + ((similarity >= best) > positives).sum(1, dtype=torch.int32)


def _small_ids(one: Int[Tensor, "n"], other: Int[Tensor, "m"]) -> tuple[Int[Tensor, "n"], Int[Tensor, "m"]]:
    """Map ids to int32, which is faster to compare."""
    renumbered = torch.unique(torch.cat([one, other]), return_inverse=True)[1].int()
    return renumbered[: len(one)], renumbered[len(one) :]


def summarize_ranks(ranks: Int[Tensor, "queries"]) -> dict[str, float]:
    """Return `r1`, `r5`, `r10` in percent, `median_rank` and `mean_rank` of ranks from 1."""
    rank = ranks.double().cpu().numpy()
    recall = {f"r{k}": 100 * float((rank <= k).mean()) for k in RECALL_AT}
    return recall | {"median_rank": float(np.median(rank)), "mean_rank": float(rank.mean())}
