"""EPIC-KITCHENS-100 multi-instance retrieval: relevancy of clips and sentences, mAP and nDCG in both directions.

Damen et al., "Rescaling Egocentric Vision" (IJCV 2022), section 4.6, as computed by the code of the challenge.
"""

from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_ROWS_AT_ONCE = 64
_MOST_SWAPS = 64


def mir_relevancy(
    clips: Sequence[tuple[int, Collection[int]]], sentences: Sequence[tuple[int, Collection[int]]]
) -> Float[np.ndarray, "clips sentences"]:
    """Return the relevancy of each sentence for each clip, from 0 to 1.

    It is the mean of the equality of the verb classes (0 or 1) and the intersection over union of the sets of noun
    classes (0 for two empty sets).

    Args:
        clips: (verb class, noun classes) of each clip.
        sentences: (verb class, noun classes) of each sentence.
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
        ValueError: shapes differ, a similarity is not finite, a relevancy is outside 0 … 1, or a query has no answer of
            relevancy 1.
    """
    scores, relevant = (_as_numpy(values) for values in (similarity, relevancy))
    if scores.shape != relevant.shape or scores.ndim != 2 or not scores.size:
        raise ValueError(f"similarity is {scores.shape}, relevancy {relevant.shape}; both must be clips x sentences")
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} similarities are NaN or infinite")
    if not (relevant.min() >= 0 and relevant.max() <= 1):
        raise ValueError("relevancies must lie between 0 and 1")
    measured: dict[str, float] = {}
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for name, one, other in (("v2t", scores, relevant), ("t2v", scores.T, relevant.T)):
            pieces = [slice(start, start + _ROWS_AT_ONCE) for start in range(0, len(one), _ROWS_AT_ONCE)]
            values = np.concatenate(list(pool.map(_measure, (one[i] for i in pieces), (other[i] for i in pieces))))
            if np.isnan(values).any():
                query = int(np.flatnonzero(np.isnan(values).any(1))[0])
                raise ValueError(f"{name}: query {query} has no answer of relevancy 1")
            measured |= {
                f"{name}/{metric}": 100 * float(value)
                for metric, value in zip(("mAP", "mAP_binary", "nDCG"), values.mean(0), strict=True)
            }
    for metric in ("mAP", "mAP_binary", "nDCG"):
        measured[f"mean/{metric}"] = (measured[f"v2t/{metric}"] + measured[f"t2v/{metric}"]) / 2
    return measured


def _as_numpy(values: Tensor | np.ndarray) -> np.ndarray:
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def _measure(
    similarity: Float[np.ndarray, "queries answers"], relevancy: Float[np.ndarray, "queries answers"]
) -> Float[np.ndarray, "queries three"]:
    """Return average precision, its binary form and nDCG of each query; NaN without an answer of relevancy 1."""
    relevancy = np.ascontiguousarray(relevancy)
    ranked = _ranked(np.ascontiguousarray(similarity), relevancy)
    answers = ranked.shape[1]
    rank = np.arange(1, answers + 1)
    discount = 1 / np.log2(rank + 1)
    hits = ranked == 1
    out = np.empty((len(ranked), 3))
    for query in range(len(ranked)):  # a loop, since each query has only a few relevant answers
        hit_ranks = np.flatnonzero(hits[query])
        relevant = np.flatnonzero(relevancy[query])
        if not len(hit_ranks):
            out[query] = np.nan
            continue
        cumulated = np.cumsum(ranked[query, : hit_ranks[-1] + 1], dtype=np.float64)[hit_ranks]
        out[query, 0] = (cumulated / rank[hit_ranks]).mean()
        out[query, 1] = (np.arange(1, len(hit_ranks) + 1) / rank[hit_ranks]).mean()
        k = len(relevant)
        best = np.sort(relevancy[query, relevant])[::-1]
        out[query, 2] = (ranked[query, :k] @ discount[:k]) / (best @ discount[:k])
    return out


def _ranked(
    similarity: Float[np.ndarray, "queries answers"], relevancy: Float[np.ndarray, "queries answers"]
) -> Float[np.ndarray, "queries answers"]:
    """Return each query's relevancies, sorted by descending similarity."""
    if similarity.dtype == np.float64:
        order = np.argsort(-similarity, axis=1)
        equal = np.diff(np.take_along_axis(similarity, order, 1), axis=1) == 0
    else:
        # One sort of 64-bit keys, the bits of -similarity before the index, takes a third of the time of an argsort.
        bits = (0.0 - similarity).view(np.uint32)
        bits ^= (bits.view(np.int32) >> 31).view(np.uint32) | np.uint32(1 << 31)  # in the order of the floats
        keys = (bits.astype(np.uint64) << np.uint64(32)) | np.arange(similarity.shape[1], dtype=np.uint64)
        keys.sort(axis=1)
        halves = keys.astype("<u8", copy=False).view("<u4")
        order, sorted_bits = halves[:, ::2], halves[:, 1::2]
        equal = sorted_bits[:, 1:] == sorted_bits[:, :-1]
    ranked = relevancy.ravel().take(order + np.arange(len(relevancy))[:, None] * relevancy.shape[1])
    _sort_ties(ranked, equal)
    return ranked


def _sort_ties(ranked: Float[np.ndarray, "queries answers"], equal: Bool[np.ndarray, "queries pairs"]) -> None:
    """Sort the relevancies of equally similar answers, in place, the lowest first.

    Random float32 similarities have a few equal pairs in every query, so these are swapped all at once; queries with
    long runs of equal similarities are sorted one by one.

    Args:
        ranked: relevancies from the most to the least similar answer.
        equal: whether an answer is as similar as the next one.
    """
    many = equal.sum(axis=1) > _MOST_SWAPS
    for query in np.flatnonzero(many):
        run = np.concatenate([[0], np.cumsum(~equal[query])])
        ranked[query] = ranked[query, np.lexsort((ranked[query], run))]
    row, column = np.nonzero(equal & ~many[:, None])
    changed = len(row) > 0
    while changed:
        changed = False
        for parity in (0, 1):  # pairs of one parity do not overlap
            some = column % 2 == parity
            one, left = row[some], column[some]
            first, second = ranked[one, left], ranked[one, left + 1]
            ranked[one, left], ranked[one, left + 1] = np.minimum(first, second), np.maximum(first, second)
            changed = changed or bool((first > second).any())
