"""Nearest neighbours of all videos, a few queries at a time."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int32, Int64
from torch import Tensor

BYTES_AT_ONCE = 64 * 2**20


def queries_at_once(videos: int, at_once: int = BYTES_AT_ONCE) -> int:
    """Return how many queries keep the similarities to all `videos`, float32, within `at_once` bytes (one at least)."""
    return max(1, at_once // (4 * max(1, videos)))


def nearest_videos(
    embeddings: Float[Tensor, "videos dim"],
    group: Int64[Tensor, " videos"],
    near: int,
    queries: range,
    at_once: int = BYTES_AT_ONCE,
) -> Iterator[tuple[slice, Int32[Tensor, "chunk near"]]]:
    """Yield, chunk by chunk of `queries`, the `near` most similar videos of each, itself first.

    Runs where `embeddings` lie and needs, beside them, some twice `at_once` bytes: the similarities of a chunk, and
    the mask of other groups where there are several.

    Args:
        embeddings: compared by dot product.
        group: neighbours are of the query's own group, its source; -1 stands for those that are lacking.
        near: how many.
        queries: which videos to look for, a range without step.
    """
    several = bool((group != group[0]).any())
    size = queries_at_once(len(embeddings), at_once)
    for first in range(queries.start, queries.stop, size):
        chunk = slice(first, min(first + size, queries.stop))
        similarity = embeddings[chunk] @ embeddings.T
        own = torch.arange(chunk.start, chunk.stop, device=similarity.device)
        similarity[own - chunk.start, own] = torch.inf
        if several:
            similarity.masked_fill_(group[chunk][:, None] != group[None, :], -torch.inf)
        best = similarity.topk(min(near, len(embeddings)), dim=1)
        found = best.indices.masked_fill(best.values == -torch.inf, -1).to(torch.int32)
        yield chunk, torch.nn.functional.pad(found, (0, near - found.shape[1]), value=-1)
