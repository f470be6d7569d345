"""Details of an evaluation beside its metrics: ranks and values of queries, classes, examples and embeddings.

The report of a run (`clep.view.report`) is made of them. `write_details` stores them in one file of the run folder.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import torch
import xxhash
from jaxtyping import Bool, Float, Float32, Float64, Int, Int32, Int64, UInt8, UInt64
from safetensors import SafetensorError
from safetensors.numpy import save
from torch import Tensor

from clep.checksums import check_digest, digest
from clep.errors import InputError
from clep.files import atomic_path, check_input
from clep.metrics.accuracy import target_ranks

FORMAT, VERSION = "clep-details", 1
DETAILS = "details.safetensors"
MAX_QUERIES = 100_000
"""Ranks are kept of at most this many queries, a random sample."""
MAX_PAIRS = 2_000
"""Embeddings are kept of at most this many pairs."""
SHOWN = 3
"""Queries shown of each group: best, typical, worst."""
ANSWERS = 5
CONFUSIONS = 40
BINS = 10


@dataclass(frozen=True)
class Ranks:
    """Rank of each query's most similar correct answer.

    Attributes:
        name: first part of the metrics that they are summed up in, as "val/retrieval/t2v".
        queries: number of all queries, of which these are a sample.
        key: digest of each query, by which runs are compared.
        rank: from 1; ties count against the model.
        answers: number of answers that a query is compared with.
        right: number of correct ones among them.
    """

    name: str
    queries: int
    key: UInt64[np.ndarray, " sample"]
    rank: Int32[np.ndarray, " sample"]
    answers: Int32[np.ndarray, " sample"]
    right: Int32[np.ndarray, " sample"]


@dataclass(frozen=True)
class QueryValues:
    """Values of queries whose mean is a metric, such as the average precision of each query.

    Attributes:
        name: first part of the metrics, as "ek100_mir/t2v".
        queries: number of all queries, of which these are a sample.
        metrics: last part of each metric's name.
        key: digest of each query, by which runs are compared.
        value: percent.
    """

    name: str
    queries: int
    metrics: list[str]
    key: UInt64[np.ndarray, " sample"]
    value: Float32[np.ndarray, "sample metrics"]


@dataclass(frozen=True)
class Classes:
    """Accuracy or average precision of each class.

    Attributes:
        name: first part of the metrics.
        measure: "accuracy" or "AP".
        clips: number of all clips.
        names: of the classes.
        count: clips of each class.
        value: percent, NaN for a class without clips.
        confused: (class, predicted class, clips), the most frequent confusions first.
        calibration: (clips, mean confidence, accuracy) in equal bins of the confidence, a softmax of the scaled
            similarities; empty where there is none.
    """

    name: str
    measure: str
    clips: int
    names: list[str]
    count: Int64[np.ndarray, " classes"]
    value: Float64[np.ndarray, " classes"]
    confused: Int64[np.ndarray, "pairs 3"]
    calibration: Float64[np.ndarray, "bins 3"]


@dataclass(frozen=True)
class Hits:
    """Queries of one direction and their most similar answers; indices are those of `Pairs`.

    Attributes:
        name: first part of the metrics.
        query: the moment whose text (t2v) or video (v2t) asks.
        group: 0 best, 1 typical, 2 worst.
        rank: of the best right answer.
        own: similarity of the query to the best right answer.
        answer, similarity, right: of the most similar answers.
    """

    name: str
    query: Int64[np.ndarray, " shown"]
    group: UInt8[np.ndarray, " shown"]
    rank: Int32[np.ndarray, " shown"]
    own: Float32[np.ndarray, " shown"]
    answer: Int64[np.ndarray, "shown answers"]
    similarity: Float32[np.ndarray, "shown answers"]
    right: Bool[np.ndarray, "shown answers"]


@dataclass(frozen=True)
class Pairs:
    """Moments of a gallery: a random sample with embeddings, then those that `Hits` refer to.

    Attributes:
        name: first part of the metrics.
        gallery: number of all moments.
        video, text: of each moment.
        start_s, end_s: its span.
        text_id: equal for equal texts.
        video_rows, text_rows: embeddings of the first moments, as the model compares them.
        scale: the model's multiplier of similarities.
    """

    name: str
    gallery: int
    video: list[str]
    text: list[str]
    start_s: Float64[np.ndarray, " moments"]
    end_s: Float64[np.ndarray, " moments"]
    text_id: Int64[np.ndarray, " moments"]
    video_rows: Float[np.ndarray, "sample dim"]
    text_rows: Float[np.ndarray, "sample dim"]
    scale: float


Detail = Ranks | QueryValues | Classes | Hits | Pairs
_KINDS: dict[str, type[Detail]] = {kind.__name__: kind for kind in (Ranks, QueryValues, Classes, Hits, Pairs)}


def query_keys(queries: Sequence[str]) -> UInt64[np.ndarray, " queries"]:
    """Return a 64-bit digest of each query."""
    digests = [xxhash.xxh3_64_intdigest(query.encode("utf-8", "surrogatepass")) for query in queries]
    return np.array(digests, np.uint64)


def rank_details(
    name: str,
    rank: Int[Tensor, " queries"],
    queries: Sequence[str],
    answers: int | Int[np.ndarray, " queries"],
    right: int | Int[np.ndarray, " queries"] = 1,
) -> Ranks:
    """Return the ranks of a random sample of at most `MAX_QUERIES` queries, the same one for equal numbers of queries.

    Args:
        name: first part of the metrics.
        rank: of each query.
        queries: what is different about each query, for comparisons between runs.
        answers, right: number of answers and of right answers, of all queries or of each.
    """
    chosen = _sample(len(rank), MAX_QUERIES)
    of_each = [np.broadcast_to(np.asarray(values), len(rank))[chosen].astype(np.int32) for values in (answers, right)]
    keys = query_keys([queries[index] for index in chosen.tolist()])
    return Ranks(name, len(rank), keys, rank.cpu().numpy()[chosen].astype(np.int32), *of_each)


def value_details(
    name: str, metrics: Sequence[str], value: Float[np.ndarray, "queries metrics"], queries: Sequence[str]
) -> QueryValues:
    """Return the values of the queries that `rank_details` samples.

    Args:
        name: first part of the metrics.
        metrics: last part of each metric's name.
        value: percent; the mean of each column is the metric.
        queries: what is different about each query, for comparisons between runs.
    """
    chosen = _sample(len(value), MAX_QUERIES)
    keys = query_keys([queries[index] for index in chosen.tolist()])
    return QueryValues(name, len(value), list(metrics), keys, value[chosen].astype(np.float32))


def classification_details(
    name: str,
    scores: Float[Tensor, "clips classes"],
    label: Int[Tensor, " clips"],
    clips: Sequence[str],
    names: Sequence[str],
    scale: float | None = None,
) -> list[Detail]:
    """Return ranks, accuracy of the classes and confusions of a classification.

    Args:
        name: first part of the metrics.
        scores: higher is better.
        label: class of each clip.
        clips: their ids.
        names: of the classes.
        scale: multiplier of the scores before a softmax; None: there are no probabilities.
    """
    scores, label = scores.cpu(), label.cpu()
    rank = target_ranks(scores, label)
    classes = scores.shape[1]
    count = torch.bincount(label, minlength=classes).numpy()
    correct = torch.bincount(label[rank == 1], minlength=classes).numpy()
    value = np.full(classes, np.nan)
    np.divide(100.0 * correct, count, out=value, where=count > 0)
    wrong = rank > 1
    # An equal score counts as wrong: the best of the other classes is the one that was mistaken for it.
    others = scores[wrong].scatter(1, label[wrong, None], -torch.inf)
    pairs, frequency = torch.unique(label[wrong] * classes + others.argmax(1), return_counts=True)
    order = torch.argsort(frequency, descending=True, stable=True)[:CONFUSIONS]
    confused = torch.stack([pairs[order] // classes, pairs[order] % classes, frequency[order]], 1).numpy()
    calibration = np.zeros((0, 3))
    if scale is not None:
        confidence = _confidence(scores, scale)
        calibration = reliability(confidence, (rank == 1).numpy())
    return [
        rank_details(name, rank, clips, classes),
        Classes(name, "accuracy", len(scores), list(names), count, value, confused.astype(np.int64), calibration),
    ]


def precision_details(
    name: str,
    clips: int,
    names: Sequence[str],
    count: Int[np.ndarray, " classes"],
    value: Float[np.ndarray, " classes"],
) -> Classes:
    """Return the average precision of classes.

    Args:
        name: first part of the metrics.
        clips: number of examples that are ranked.
        names: of the classes.
        count: positive examples of each.
        value: percent, NaN for classes without any.
    """
    nothing = np.zeros((0, 3))
    count, value = np.asarray(count).astype(np.int64), np.asarray(value, np.float64)
    return Classes(name, "AP", clips, list(names), count, value, nothing.astype(np.int64), nothing)


def retrieval_details(
    name: str,
    video: Float[Tensor, "gallery dim"],
    text: Float[Tensor, "gallery dim"],
    text_id: Int[Tensor, " gallery"],
    ranks: Mapping[str, Int[Tensor, " gallery"]],
    moments: tuple[Sequence[str], Float64[np.ndarray, " gallery"], Float64[np.ndarray, " gallery"]],
    sentences: Sequence[str],
    scale: float,
) -> list[Detail]:
    """Return ranks, examples and a sample of the embeddings of a retrieval in both directions.

    Args:
        name: first part of the metrics.
        video, text: embeddings of the gallery, compared by dot product.
        text_id: index of each text into `sentences`; equal ones are right answers of each other.
        ranks: of all queries, by "t2v" and "v2t".
        moments: video id, start and end in seconds of each moment.
        sentences: the distinct texts.
        scale: the model's multiplier of similarities.
    """
    count, ids = len(video), text_id.cpu()
    videos, start_s, end_s = moments
    sample = _sample(count, MAX_PAIRS)
    per_text = torch.unique(ids, return_inverse=True, return_counts=True)
    right = per_text[2][per_text[1]].numpy()
    listed = list(sample.tolist())
    position = {index: at for at, index in enumerate(listed)}

    def at(index: Int[Tensor, "..."]) -> Int64[np.ndarray, "..."]:
        for one in index.flatten().tolist():
            if one not in position:
                position[one] = len(listed)
                listed.append(one)
        return np.array([position[one] for one in index.flatten().tolist()], np.int64).reshape(index.shape)

    keys = _Formatted(videos, start_s, sentences, ids.numpy())
    details: list[Detail] = []
    for direction, query, gallery in (("t2v", text, video), ("v2t", video, text)):
        rank = ranks[direction].cpu()
        chosen, group = _shown_queries(rank, ids)
        scores = (query[chosen.to(query.device)].float() @ gallery.T.float()).cpu()
        is_right = ids[chosen][:, None] == ids[None, :]
        top = _distinct_answers(scores, ids, direction == "v2t")
        hits = Hits(
            f"{name}/{direction}",
            at(chosen),
            group.numpy(),
            rank[chosen].numpy().astype(np.int32),
            scores.masked_fill(~is_right, -torch.inf).amax(1).numpy(),
            at(top),
            scores.gather(1, top).numpy(),
            is_right.gather(1, top).numpy(),
        )
        details += [rank_details(f"{name}/{direction}", rank, keys, count, right), hits]
    which = torch.from_numpy(sample)
    listed_ids = ids[torch.tensor(listed)].numpy()
    starts, ends = (side[np.array(listed)].astype(np.float64) for side in (start_s, end_s))
    video_rows, text_rows = (rows[which.to(rows.device)].half().cpu().numpy() for rows in (video, text))
    pairs = Pairs(
        name,
        count,
        [str(videos[index]) for index in listed],
        [sentences[index] for index in listed_ids.tolist()],
        starts,
        ends,
        listed_ids.astype(np.int64),
        video_rows,
        text_rows,
        float(scale),
    )
    return [*details, pairs]


def reliability(
    confidence: Float[np.ndarray, " items"], correct: Bool[np.ndarray, " items"]
) -> Float64[np.ndarray, "bins 3"]:
    """Return count, mean confidence and accuracy of the items in each of `BINS` equal bins that holds any.

    Guo et al. 2017, "On calibration of modern neural networks".
    """
    index = np.clip((confidence * BINS).astype(int), 0, BINS - 1)
    rows = [
        (int(own.sum()), confidence[own].mean(), correct[own].mean()) for b in range(BINS) if (own := index == b).any()
    ]
    return np.array(rows, np.float64).reshape(-1, 3)


def write_details(path: str | Path, details: Sequence[Detail], run: Mapping[str, Any]) -> None:
    """Write details and facts about the run (JSON values) into one file with a checksum.

    Raises:
        InputError: the disk is full, or the folder cannot be written to.
    """
    arrays: dict[str, np.ndarray] = {}
    listing = []
    for index, detail in enumerate(details):
        values = {field.name: getattr(detail, field.name) for field in fields(detail)}
        arrays |= {f"{index}/{key}": np.ascontiguousarray(v) for key, v in values.items() if isinstance(v, np.ndarray)}
        plain = {key: value for key, value in values.items() if not isinstance(value, np.ndarray)}
        listing.append({"kind": type(detail).__name__, **plain})
    content = json.dumps({"details": listing, "run": dict(run)})
    header = {"format": FORMAT, "version": str(VERSION), "content": content, "digest": _digest(content, arrays)}
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(arrays or {"nothing": np.zeros(0)}, header))


def read_details(path: str | Path) -> tuple[list[Detail], dict[str, Any]]:
    """Return the details and the facts about the run that `write_details` wrote.

    Raises:
        InputError: the file is missing, damaged or of another format.
    """
    from safetensors import safe_open

    path = check_input(path)
    remedy = "train again, or evaluate the run with `python -m clep.evaluate ckpt=RUN`"
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys() if name != "nothing"}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read: {error}; {remedy}") from error
    if (header.get("format"), header.get("version")) != (FORMAT, str(VERSION)) or "content" not in header:
        raise InputError(f"{path} is not a file of details (format {FORMAT!r}, version {VERSION}); {remedy}")
    check_digest(path, "its content", header.get("digest"), _digest(header["content"], arrays), remedy)
    try:
        content = json.loads(header["content"])
        found = [_restored(index, dict(entry), arrays) for index, entry in enumerate(content["details"])]
        return found, dict(content["run"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a file of details: {error!r}; {remedy}") from error


def _restored(index: int, entry: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> Detail:
    kind = _KINDS[entry.pop("kind")]
    names = [name for name in get_type_hints(kind) if name not in entry]
    columns: dict[str, Any] = {name: arrays[f"{index}/{name}"] for name in names}
    return kind(**entry, **columns)


def _digest(content: str, arrays: Mapping[str, np.ndarray]) -> str:
    return digest(content, *(part for name in sorted(arrays) for part in (name, arrays[name])))


def _sample(count: int, most: int) -> Int64[np.ndarray, " sample"]:
    """Return indices in ascending order; the same ones for equal arguments."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, most, replace=False))


def _confidence(scores: Float[Tensor, "clips classes"], scale: float) -> Float[np.ndarray, " clips"]:
    return torch.cat([(part.float() * scale).softmax(1).amax(1) for part in scores.split(4096)]).numpy()


def _shown_queries(rank: Int[Tensor, " queries"], ids: Int[Tensor, " queries"]) -> tuple[Tensor, Tensor]:
    """Return `SHOWN` queries of each group, of distinct texts, and their groups."""
    order = torch.argsort(rank, stable=True).tolist()
    middle = len(order) // 2
    around = [order[i] for step in range(middle) for i in (middle - step - 1, middle + step)]
    chosen: list[int] = []
    groups: list[int] = []
    texts: set[int] = set()
    for group, candidates in ((2, order[::-1]), (0, order), (1, around)):
        taken = 0
        for index in candidates:
            if taken < SHOWN and int(ids[index]) not in texts:
                texts.add(int(ids[index]))
                chosen.append(index)
                groups.append(group)
                taken += 1
            if taken == SHOWN:
                break
    by_group = sorted(range(len(chosen)), key=lambda at: (groups[at], int(rank[chosen[at]])))
    return (
        torch.tensor([chosen[at] for at in by_group], dtype=torch.int64),
        torch.tensor([groups[at] for at in by_group], dtype=torch.uint8),
    )


def _distinct_answers(
    scores: Float[Tensor, "queries gallery"], ids: Int[Tensor, " gallery"], distinct: bool
) -> Int64[Tensor, "queries answers"]:
    """Return the most similar answers; with `distinct`, one of each text."""
    answers = min(ANSWERS, scores.shape[1])
    if not distinct:
        return scores.topk(answers, dim=1).indices
    rows = []
    for row in scores.topk(min(200, scores.shape[1]), dim=1).indices:
        of_row = ids[row]
        seen: set[int] = set()
        picked = []
        for index, text in zip(row.tolist(), of_row.tolist(), strict=True):
            if text not in seen:
                seen.add(text)
                picked.append(index)
            if len(picked) == answers:
                break
        rows.append(picked + [row[0].item()] * (answers - len(picked)))
    return torch.tensor(rows, dtype=torch.int64)


class _Formatted(Sequence[str]):
    """The key of each moment of a gallery, made when it is read."""

    def __init__(self, videos: Sequence[str], start_s: np.ndarray, sentences: Sequence[str], ids: np.ndarray) -> None:
        self.videos, self.start_s, self.sentences, self.ids = videos, start_s, sentences, ids

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: Any) -> Any:
        return f"{self.videos[index]} {self.start_s[index]:.3f} {self.sentences[int(self.ids[index])]}"
