"""Batches of videos that are close to each other in the learned embedding space (VideoCLIP)."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int32, Int64
from torch import Tensor

from clep.config.requirements import Need
from clep.data.sampler import MomentKeys, SamplingStrategy, seeded
from clep.errors import InputError

log = logging.getLogger(__name__)

BYTES_AT_ONCE = 64 * 2**20


def queries_at_once(videos: int, at_once: int = BYTES_AT_ONCE) -> int:
    """Return the number of queries whose float32 similarities to all `videos` fit into `at_once` bytes (at least 1)."""
    return max(1, at_once // (4 * max(1, videos)))


def nearest_videos(
    embeddings: Float[Tensor, "videos dim"],
    group: Int64[Tensor, " videos"],
    near: int,
    queries: range,
    at_once: int = BYTES_AT_ONCE,
) -> Iterator[tuple[slice, Int32[Tensor, "chunk near"]]]:
    """Yield the `near` most similar videos of each query, the query itself first, in chunks of queries.

    Runs on the device of `embeddings` and needs about `2 * at_once` bytes: the similarities of a chunk, and the mask of
    other groups if there are several.

    Args:
        embeddings: video embeddings, compared by dot product.
        group: source of each video; neighbours are of the same source. -1 fills missing neighbours.
        near: number of neighbours.
        queries: indices of the videos to search for, a range without step.
        at_once: bytes of similarities computed at once.
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


class HardNegatives(SamplingStrategy):
    """Each batch consists of moments of a few videos that are nearest neighbours (VideoCLIP, Xu et al. 2021).

    A batch starts from a random moment. Of the `2 * videos` videos nearest to its video (including that video), it and
    `videos - 1` others chosen at random contribute equal numbers of moments, or all they have. If these are too few,
    the remaining near videos contribute, and then random moments. Mixed sources keep their shares of each batch, and
    neighbours are of one source. The moments of a video are used in turn, in a new random order in each epoch.

    The neighbours are computed by `clep.training.HardNegativeSearch`, a callback that `sampler=hard_negatives` adds.
    They are stored in checkpoints, so a run that stopped within an epoch continues with the same batches.

    Args:
        videos: videos per batch and source.

    Raises:
        InputError: fewer than two videos per batch.

    Examples:
        >>> import torch
        >>> from clep.data import HardNegatives, MomentKeys
        >>> video = torch.tensor([0, 0, 1, 1, 2, 2])
        >>> keys = MomentKeys(torch.arange(6), video, torch.arange(6).double(), sizes=[6])
        >>> strategy = HardNegatives(videos=2)
        >>> strategy.open(keys, rows=4, rank_rows=4)
        >>> strategy.sizes.tolist()  # moments of each video
        [2, 2, 2]
    """

    def __init__(self, videos: int = 32) -> None:
        super().__init__()
        if videos < 2:
            raise InputError(f"data.sampler.videos={videos}: a batch needs at least 2 videos")
        self.videos = videos
        self.sizes = self.video_source = self.video_of_moment = np.zeros(0, dtype=np.int64)
        self.neighbours: Int32[Tensor, "videos near"] | None = None
        self.found_for: int | None = None  # epoch

    @classmethod
    def requires(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a run that this strategy needs: the callback that computes the neighbours, too."""
        need = Need(..., "the callback that computes the neighbours", "choose sampler=hard_negatives, which adds both")
        return {**super().requires(config), "callbacks.hard_negatives": need}

    def open(self, keys: MomentKeys, rows: int, rank_rows: int) -> None:
        """Group the moments by video; sets `sizes` and `video_source` of each video, and `video_of_moment`.

        Raises:
            InputError: no source has two videos.
        """
        self._rows, self.video_of_moment = rows, keys.video.numpy()
        self._source_end = np.cumsum(keys.sizes)
        self.sizes = np.bincount(self.video_of_moment)
        self.video_source = np.zeros(len(self.sizes), dtype=np.int64)
        self.video_source[self.video_of_moment] = np.searchsorted(self._source_end, np.arange(len(keys)), side="right")
        self._first = np.cumsum(self.sizes) - self.sizes
        largest = int(np.bincount(self.video_source).max())
        if largest < 2:
            raise InputError(
                f"sampler=hard_negatives needs several videos per source, but the training moments come from "
                f"{len(self.sizes)} video(s), at most {largest} per source; use sampler=shuffled"
            )
        if largest < 2 * self.videos:
            remedy = f"data.sampler.videos={max(2, largest // 4)} or less" if largest > 4 else "sampler=shuffled"
            self.log_once(
                logging.WARNING,
                f"data.sampler.videos={self.videos}: the nearest {2 * self.videos} of {largest} training videos are "
                f"all of them, so batches are as good as random; choose {remedy}",
            )

    def by_video(self, seed: int, epoch: int) -> Int64[np.ndarray, " moments"]:
        """Return the moments grouped by video, in random order within each video."""
        shuffled = torch.randperm(len(self.video_of_moment), generator=seeded(seed, epoch, 5)).numpy()
        return shuffled[np.argsort(self.video_of_moment[shuffled], kind="stable")]

    def some_of_each(self, most: int, seed: int, epoch: int) -> Int64[Tensor, " chosen"]:
        """Return up to `most` random moments of every video, grouped by video."""
        nth = np.arange(len(self.video_of_moment)) - np.repeat(self._first, self.sizes)
        return torch.from_numpy(self.by_video(seed, epoch)[nth < most])

    def arrange(
        self, order: Int64[Tensor, " draws"], n_batches: int, epoch: int, seed: int
    ) -> Int64[Tensor, "batches rows"]:
        """Return batches of moments of near videos.

        Raises:
            InputError: the neighbours have not been computed.
        """
        if self.neighbours is None:
            raise InputError(
                "data.sampler is HardNegatives, but no callback searches for neighbours; choose it by "
                "sampler=hard_negatives, which adds callbacks.hard_negatives"
            )
        near, random = self.neighbours.numpy(), np.random.default_rng([seed, epoch, 4])
        drawn = order[: n_batches * self._rows].view(n_batches, self._rows).numpy()
        self._moments, self._used = self.by_video(seed, epoch), np.zeros(len(self.sizes), dtype=np.int64)
        table, filled = np.empty_like(drawn), 0
        for batch, row in enumerate(drawn):
            source = np.searchsorted(self._source_end, row, side="right")
            at = 0
            for one_source in np.unique(source):
                own = row[source == one_source]
                hard = self._of_near_videos(near[self.video_of_moment[own[0]]], len(own), random)
                rest = own[~np.isin(own, hard)][: len(own) - len(hard)] if len(hard) < len(own) else own[:0]
                missing = len(own) - len(hard) - len(rest)  # only where a weighted source repeats its moments
                table[batch, at : at + len(own)] = np.concatenate([hard, rest, own[:missing]])
                at, filled = at + len(own), filled + len(own) - len(hard)
            random.shuffle(table[batch])
        if filled:
            log.info(
                "sampler=hard_negatives, epoch %d: %d of %d moments are random, since the nearest videos had too few",
                *(epoch, filled, table.size),
            )
        return torch.from_numpy(table)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings."""
        return {"sampler": "hard_negatives", "videos": self.videos}

    def state_dict(self) -> dict[str, Any]:
        """Return the neighbours and the epoch that they were computed for."""
        return {"neighbours": self.neighbours, "found_for": self.found_for}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the neighbours of a checkpoint; a checkpoint of another sampler has none."""
        self.neighbours, self.found_for = state.get("neighbours"), state.get("found_for")

    def _of_near_videos(
        self, near: Int32[np.ndarray, " near"], rows: int, random: np.random.Generator
    ) -> Int64[np.ndarray, " moments"]:
        """Return `rows` moments of the first of `near` and of random others, or all moments of `near` if fewer."""
        near = near[near >= 0]
        videos = np.concatenate([near[:1], random.permutation(near[1:])])
        enough = int(np.searchsorted(np.cumsum(self.sizes[videos]), rows)) + 1
        videos = videos[: max(self.videos, enough)]
        share = _shares(self.sizes[videos], rows)
        # Continue through the moments of each video, cyclically.
        turn = np.arange(share.sum()) - np.repeat(np.cumsum(share) - share, share)
        size = np.repeat(self.sizes[videos], share)
        nth = (np.repeat(self._used[videos], share) + turn) % size
        self._used[videos] += share
        return self._moments[np.repeat(self._first[videos], share) + nth]


def _shares(sizes: Int64[np.ndarray, " videos"], rows: int) -> Int64[np.ndarray, " videos"]:
    """Split `rows` evenly among videos, at most its size for each; all sizes if their sum is too small."""
    if sizes.sum() <= rows:
        return sizes.copy()
    ascending = np.sort(sizes)
    # If the i smallest give all they have, the others share the rest equally; take the first i for which that share is
    # at most the size of the next.
    before = np.cumsum(ascending) - ascending
    equal = (rows - before) / np.arange(len(sizes), 0, -1)
    level = int(equal[np.argmax(equal <= ascending)])
    share = np.minimum(sizes, level)
    more = np.flatnonzero(sizes > level)[: rows - int(share.sum())]
    share[more] += 1
    return share
