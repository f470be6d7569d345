"""Queries of the search page: moments of sentences, similarity over time, narrations, scores of other words."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn.functional import normalize

from clep.bank import FeatureBank
from clep.datasets.narrations_near import NarrationsNear
from clep.errors import InputError
from clep.index import MomentIndex
from clep.pretrained import PretrainedModel
from clep.view.search.videos import VideoFiles

MOST_SENTENCES, MOST_VARIANTS, MOST_LETTERS, MOST_HITS = 12, 64, 2_000, 100
_TYPICAL_MOMENTS = 2_048
_KEPT_TEXTS = 4_096
_CURVE_POINTS = 4_000
_NEARBY_S = 6.0

Moment = tuple[str, float, float]
"""Video id, first and last second."""


class SearchEngine:
    """Answers of the search page as plain values; safe to call from several threads.

    Args:
        model: embeds sentences and moments.
        bank: of the videos.
        index: of the bank's moments.
        videos: their files.
        narrations: None for none.
        template: sentences are written into its `{}` before they are embedded, e.g. "#C C {}".

    Raises:
        InputError: the template has no `{}`.
    """

    def __init__(
        self,
        model: PretrainedModel,
        bank: FeatureBank,
        index: MomentIndex,
        videos: VideoFiles,
        narrations: NarrationsNear | None = None,
        template: str = "{}",
    ) -> None:
        if "{}" not in template:
            raise InputError(f"template={template!r} lacks {{}}, where the sentence is written")
        self.model, self.bank, self.index, self.videos = model, bank, index, videos
        self.narrations, self.template = narrations, template
        self._position = {uid: number for number, uid in enumerate(bank.videos)}
        self._texts: OrderedDict[str, Tensor] = OrderedDict()
        self._lock = threading.Lock()
        some = np.unique(np.linspace(0, len(index) - 1, min(_TYPICAL_MOMENTS, len(index))).astype(np.int64))
        self._typical = index.rows.take(some).nan_to_num_()

    def about(self) -> dict[str, Any]:
        """Describe the bank: counts, videos and their splits, and sentences to begin with."""
        splits = {} if self.narrations is None else self.narrations.splits
        return {
            "bank": self.bank.path.name,
            "encoder": self.bank.encoder,
            "moments": len(self.index),
            "window_s": self.index.grid.window_s,
            "hours": float(self.bank.end_s.sum()) / 3600,
            "recall": None if self.index.approximate is None else self.index.recall,
            "files": sum(uid in self.videos for uid in self.bank.videos),
            "videos": [{"id": uid, "split": splits.get(uid, "")} for uid in self.bank.videos],
            "examples": [] if self.narrations is None else self.narrations.frequent(4),
            "narrated": self.narrations is not None,
        }

    def search(
        self,
        texts: Sequence[str],
        moments: Sequence[Moment] = (),
        videos: Sequence[str] = (),
        split: str = "",
        top: int = 24,
    ) -> dict[str, Any]:
        """Return the moments whose mean similarity to sentences and other moments is highest.

        Args:
            texts: sentences.
            moments: moments to find more of; they are not found themselves.
            videos: ids of the videos to search; empty for all.
            split: search the videos of this split only; "" for all.
            top: how many moments at the most.

        Raises:
            InputError: nothing is looked for, something is too long, or a video or split is unknown.
        """
        queries = self._queries(texts, moments)
        if not 1 <= top <= MOST_HITS:
            raise InputError(f"top={top} must be from 1 to {MOST_HITS}")
        chosen = self._chosen(videos, split)
        given = {self._moment(*one) for one in moments}
        found, scores = self.index.search(queries.mean(0), top + 2 * len(given), chosen)
        spans = list(zip(*(column.tolist() for column in self.index.grid.spans(found)), strict=True))
        each = self.index.scores(found, queries)
        hits = []
        for (number, start_s, end_s), score, parts in zip(spans, scores.tolist(), each.tolist(), strict=True):
            uid = self.bank.videos[number]
            if any(uid == other and start_s < e and s < end_s for other, s, e in moments):
                continue
            near = self._narrations(uid, start_s - 1.0, end_s + 1.0)
            middle_s = (start_s + end_s) / 2
            near.sort(key=lambda one: abs(one["second"] - middle_s))
            hits.append(
                {
                    "video": uid,
                    "start_s": start_s,
                    "end_s": end_s,
                    "score": score,
                    "scores": parts,
                    "narration": near[0]["text"] if near else "",
                    "missing": self.videos.missing(uid),
                }
            )
        return {"hits": hits[:top], "typical": self._typical_scores(queries)}

    def curve(self, texts: Sequence[str], moments: Sequence[Moment], video: str) -> dict[str, Any]:
        """Return the similarity of a video's moments to each sentence and moment over time, with its narrations.

        A long video has every n-th moment, the maximum of n.

        Raises:
            InputError: as `search`.
        """
        queries, number = self._queries(texts, moments), self._number(video)
        all_of_it = self.index.grid.moments_of([number])
        _, start_s, end_s = self.index.grid.spans(all_of_it)
        scores = np.nan_to_num(self.index.scores(all_of_it, queries))
        every = -(-len(all_of_it) // _CURVE_POINTS)
        starts = np.arange(0, len(all_of_it), every)
        return {
            "end_s": float(self.bank.end_s[number]),
            "seconds": ((start_s + end_s) / 2)[starts].tolist(),
            "scores": np.maximum.reduceat(scores, starts, axis=0).T.tolist(),
            "typical": self._typical_scores(queries),
        }

    def moment(self, video: str, start_s: float, end_s: float) -> dict[str, Any]:
        """Return what is shown beside a moment: narrations near it, and how its video can be played.

        Raises:
            InputError: the video is unknown.
        """
        self._number(video)
        answer: dict[str, Any] = {"narrations": self._narrations(video, start_s - _NEARBY_S, end_s + _NEARBY_S)}
        try:
            playable = self.videos.playable(video)
            answer |= {"direct": playable.direct, "reason": playable.reason, "missing": ""}
        except InputError as error:
            answer |= {"direct": False, "reason": "", "missing": str(error)}
        return answer

    def scores(self, texts: Sequence[str], video: str, start_s: float, end_s: float) -> list[float]:
        """Return the similarity of one moment to each of several sentences.

        Raises:
            InputError: as `search`.
        """
        moment = np.array([self._moment(video, start_s, end_s)])
        return self.index.scores(moment, self._queries(texts, (), MOST_VARIANTS))[0].tolist()

    def _queries(
        self, texts: Sequence[str], moments: Sequence[Moment], most: int = MOST_SENTENCES
    ) -> Float32[Tensor, "queries embed"]:
        texts = [" ".join(text.split()) for text in texts]
        if not 1 <= len(texts) + len(moments) <= most:
            raise InputError(f"a search takes 1 to {most} sentences and moments, not {len(texts) + len(moments)}")
        if any(not text for text in texts):
            raise InputError("a sentence is empty; type what you look for")
        longest = max(map(len, texts), default=0)
        if longest > MOST_LETTERS:
            raise InputError(f"a sentence has {longest} characters; the longest that is searched has {MOST_LETTERS}")
        rows = [self._embedded(text) for text in texts]
        rows += [self.index.embedding(self._moment(*one)).nan_to_num_() for one in moments]
        return torch.stack(rows)

    def _embedded(self, text: str) -> Float32[Tensor, " embed"]:
        with self._lock:
            if text not in self._texts:
                embedding = self.model.embed_text([self.template.replace("{}", text)])[0]
                self._texts[text] = normalize(embedding, dim=-1)
                while len(self._texts) > _KEPT_TEXTS:
                    self._texts.popitem(last=False)
            return self._texts[text]

    def _typical_scores(self, queries: Float32[Tensor, "queries embed"]) -> list[float]:
        """Return the median similarity of moments to each query."""
        return (self._typical @ queries.T).median(0).values.tolist()

    def _chosen(self, videos: Sequence[str], split: str) -> list[int] | None:
        chosen = None if not videos else [self._number(video) for video in videos]
        if not split:
            return chosen
        splits = {} if self.narrations is None else self.narrations.splits
        if split not in splits.values():
            raise InputError(f"no video is of the split {split!r}")
        inside = [number for number, uid in enumerate(self.bank.videos) if splits.get(uid) == split]
        return inside if chosen is None else sorted(set(chosen) & set(inside))

    def _number(self, video: str) -> int:
        if video not in self._position:
            raise InputError(f"the bank has no video {video[:200]!r}")
        return self._position[video]

    def _moment(self, video: str, start_s: float, end_s: float) -> int:
        return self.index.grid.nearest(self._number(video), start_s, end_s)

    def _narrations(self, video: str, start_s: float, end_s: float) -> list[dict[str, Any]]:
        found = [] if self.narrations is None else self.narrations.near(video, start_s, end_s)
        return [{"second": second, "text": text} for second, text in found]
