"""EPIC-KITCHENS-100 multi-instance retrieval: relevancy of clips and sentences, mAP and nDCG in both directions.

Damen et al., "Rescaling Egocentric Vision" (IJCV 2022), section 4.6, as computed by the code of the challenge.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float, Int, UInt32, UInt64
from torch import Tensor

MIR_METRICS = ("mAP", "mAP_binary", "nDCG")
_COPIED_AT_ONCE = 256
"""Queries whose columns are made rows together: few at a time would read every cache line of a matrix many times."""
_MEASURED_AT_ONCE = 16
"""Queries whose answers fit into the cache together."""
_INDEX_BITS = 24


def mir_relevancy(
    clips: Sequence[tuple[int, Collection[int]]], sentences: Sequence[tuple[int, Collection[int]]]
) -> Float[np.ndarray, "clips sentences"]:
    """Return the relevancy of each sentence for each clip, from 0 to 1.

    It is the mean of the equality of the verb classes (0 or 1) and the intersection over union of the sets of noun
    classes (0 for two empty sets).

    Args:
        clips: (verb class, noun classes) of each clip.
        sentences: (verb class, noun classes) of each sentence.

    Examples:
        >>> from clep.metrics import mir_relevancy
        >>> clips = [(0, [5, 6]), (1, [5])]  # verb class, noun classes
        >>> mir_relevancy(clips, clips).tolist()
        [[1.0, 0.25], [0.25, 1.0]]
    """
    sets = {frozenset(nouns): 0 for _, nouns in (*clips, *sentences)}
    sets = {nouns: index for index, nouns in enumerate(sets)}
    ids = sorted({noun for nouns in sets for noun in nouns})
    column = {noun: index for index, noun in enumerate(ids)}
    member = np.zeros((len(sets), len(ids)))
    for nouns, row in sets.items():
        member[row, [column[noun] for noun in nouns]] = 1
    common = member @ member.T
    size = member.sum(1)
    union = size[:, None] + size[None] - common
    agreement = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    clip_verb, clip_set = _split(clips, sets)
    sentence_verb, sentence_set = _split(sentences, sets)
    relevancy = agreement[np.ix_(clip_set, sentence_set)]
    relevancy += clip_verb[:, None] == sentence_verb[None]
    relevancy /= 2
    return relevancy


def _split(
    items: Iterable[tuple[int, Collection[int]]], sets: dict[frozenset[int], int]
) -> tuple[Int[np.ndarray, " items"], Int[np.ndarray, " items"]]:
    pairs = [(verb, sets[frozenset(nouns)]) for verb, nouns in items]
    verb, which = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return verb, which


def mir_metrics(
    similarity: Float[Tensor, "clips sentences"] | Float[np.ndarray, "clips sentences"],
    relevancy: Float[Tensor, "rows columns"] | Float[np.ndarray, "rows columns"],
) -> dict[str, float]:
    """Compute the metrics of multi-instance retrieval from a similarity matrix.

    mAP counts an answer of relevancy 1 as a hit. Its precision is the sum of *all* relevancies up to the hit, divided
    by the hit's rank: partly relevant answers increase it. `mAP_binary` is the textbook form, in which only hits count.
    nDCG sums relevancies, discounted by log2(rank + 1), over as many ranks as the query has answers of relevancy above
    0, and divides by the best possible sum. Ties count against the model: of equally similar answers the least relevant
    ranks first.

    Args:
        similarity: higher is better; float32 or float64.
        relevancy: relevancy of each sentence for each clip, from 0 to 1, see `mir_relevancy`.

    Returns:
        Percent: `v2t/mAP`, `v2t/mAP_binary`, `v2t/nDCG` (clips are the queries), the same for `t2v`, and `mean/…`.

    Raises:
        ValueError: as for `mir_values`.
    """
    return summarize_mir(mir_values(similarity, relevancy))


def mir_values(
    similarity: Float[Tensor, "clips sentences"] | Float[np.ndarray, "clips sentences"],
    relevancy: Float[Tensor, "rows columns"] | Float[np.ndarray, "rows columns"],
) -> dict[str, Float[np.ndarray, "queries three"]]:
    """Return the `MIR_METRICS` of each query, from 0 to 1, of `v2t` (clips are the queries) and of `t2v`.

    Args:
        similarity, relevancy: see `mir_metrics`.

    Raises:
        ValueError: shapes differ or are too large, a similarity is not finite, a relevancy is outside 0 … 1, or a query
            has no answer of relevancy 1.
    """
    scores, relevant = (_as_numpy(values) for values in (similarity, relevancy))
    if scores.shape != relevant.shape or scores.ndim != 2 or not scores.size:
        raise ValueError(f"similarity is {scores.shape}, relevancy {relevant.shape}; both must be clips x sentences")
    if max(scores.shape) > 1 << _INDEX_BITS:
        raise ValueError(f"similarity is {scores.shape}; there may be {1 << _INDEX_BITS} clips and sentences at most")
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} similarities are NaN or infinite")
    if not (relevant.min() >= 0 and relevant.max() <= 1):
        raise ValueError("relevancies must lie between 0 and 1")
    measured: dict[str, Float[np.ndarray, "queries three"]] = {}
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for name, one, other in (("v2t", scores, relevant), ("t2v", scores.T, relevant.T)):
            pieces = [slice(start, start + _COPIED_AT_ONCE) for start in range(0, len(one), _COPIED_AT_ONCE)]
            values = np.concatenate(list(pool.map(_measure, (one[i] for i in pieces), (other[i] for i in pieces))))
            if np.isnan(values).any():
                query = int(np.flatnonzero(np.isnan(values).any(1))[0])
                raise ValueError(f"{name}: query {query} has no answer of relevancy 1")
            measured[name] = values
    return measured


def summarize_mir(values: Mapping[str, Float[np.ndarray, "queries three"]]) -> dict[str, float]:
    """Return the means over queries of what `mir_values` returns, and the means of both directions, in percent."""
    measured = {
        f"{name}/{metric}": 100 * float(value)
        for name, of_queries in values.items()
        for metric, value in zip(MIR_METRICS, of_queries.mean(0), strict=True)
    }
    for metric in MIR_METRICS:
        measured[f"mean/{metric}"] = (measured[f"v2t/{metric}"] + measured[f"t2v/{metric}"]) / 2
    return measured


def _as_numpy(values: Tensor | np.ndarray) -> np.ndarray:
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def _measure(
    similarity: Float[np.ndarray, "queries answers"], relevancy: Float[np.ndarray, "queries answers"]
) -> Float[np.ndarray, "queries three"]:
    """Return average precision, its binary form and nDCG of each query; NaN without an answer of relevancy 1."""
    similarity, relevancy = np.ascontiguousarray(similarity), np.ascontiguousarray(relevancy)
    at_once = max(1, min(_MEASURED_AT_ONCE, (1 << _INDEX_BITS) // similarity.shape[1]))
    pieces = [slice(start, start + at_once) for start in range(0, len(similarity), at_once)]
    return np.concatenate([_measure_few(similarity[i], relevancy[i]) for i in pieces])


def _measure_few(
    similarity: Float[np.ndarray, "queries answers"], relevancy: Float[np.ndarray, "queries answers"]
) -> Float[np.ndarray, "queries three"]:
    """Measure queries, see `_measure`.

    Answers of relevancy 0 matter only for the ranks of the others. So their similarities are sorted without their
    indices, and only the other answers are ranked, those of all queries in one array.
    """
    queries, answers = relevancy.shape
    keys = _descending_keys(similarity)
    above_zero = relevancy > 0
    cells = np.flatnonzero(above_zero)
    count = np.count_nonzero(above_zero, axis=1)
    query = np.repeat(np.arange(queries), count)
    first = np.cumsum(count) - count
    own = _with_query(query, keys.ravel()[cells])
    keys.sort(axis=1)
    every = _with_query(np.arange(queries)[:, None], keys).ravel()

    # One sort of 64-bit numbers, the index in the last bits, takes a third of the time of an argsort.
    packed = (own << np.uint64(_INDEX_BITS)) | np.arange(len(own), dtype=np.uint64)
    packed.sort()
    own = packed >> np.uint64(_INDEX_BITS)
    relevant = relevancy.ravel()[cells[(packed & np.uint64((1 << _INDEX_BITS) - 1)).view(np.int64)]]
    same = np.concatenate([[False], own[1:] == own[:-1], [False]])
    tied = np.flatnonzero(same[1:] | same[:-1])
    relevant[tied] = relevant[tied[np.lexsort((relevant[tied], own[tied]))]]

    # Ranks are needed of hits, and of answers that are among the first `count` of their query.
    hit = relevant == 1
    last_counted = every[np.arange(queries) * answers + np.maximum(count - 1, 0)]
    needed = np.flatnonzero(hit | (own <= last_counted[query]))
    equal_after = np.searchsorted(own, own[needed], side="right") - 1 - needed
    rank = np.zeros(len(own), np.int64)
    rank[needed] = np.searchsorted(every, own[needed], side="right") - equal_after - query[needed] * answers

    hits = np.flatnonzero(hit)
    hit_count = np.bincount(query[hits], minlength=queries)
    total = np.concatenate([[0.0], np.cumsum(relevant, dtype=np.float64)])
    cumulated = total[hits + 1] - total[first][query[hits]]
    number = np.arange(1, len(hits) + 1) - (np.cumsum(hit_count) - hit_count)[query[hits]]
    counted = needed[rank[needed] <= count[query[needed]]]
    discount = 1 / np.log2(np.arange(2, answers + 2))
    best = 2.0 * query - np.sort(2.0 * query - relevant)  # relevancies of each query, the highest first
    with np.errstate(invalid="ignore"):
        return np.stack(
            [
                np.bincount(query[hits], cumulated / rank[hits], queries) / hit_count,
                np.bincount(query[hits], number / rank[hits], queries) / hit_count,
                np.bincount(query[counted], relevant[counted] * discount[rank[counted] - 1], queries)
                / np.bincount(query, best * discount[np.arange(len(query)) - first[query]], queries),
            ],
            axis=1,
        )


def _descending_keys(similarity: Float[np.ndarray, "queries answers"]) -> UInt32[np.ndarray, "queries answers"]:
    """Return integers in the order of descending similarity of each query; equal ones for equal similarities."""
    if similarity.dtype == np.float64:
        order = np.argsort(-similarity, axis=1)
        step = np.diff(np.take_along_axis(similarity, order, 1), axis=1, prepend=np.inf) != 0
        keys = np.empty(similarity.shape, np.uint32)
        np.put_along_axis(keys, order, step.cumsum(axis=1, dtype=np.uint32), 1)
        return keys
    bits = (0.0 - similarity).view(np.uint32)
    bits ^= (bits.view(np.int32) >> 31).view(np.uint32) | np.uint32(1 << 31)
    return bits


def _with_query(query: Int[np.ndarray, "#*shape"], key: UInt32[np.ndarray, "*shape"]) -> UInt64[np.ndarray, "*shape"]:
    """Return sort keys: by query, then by key."""
    return (query.astype(np.uint64) << np.uint64(32)) | key
