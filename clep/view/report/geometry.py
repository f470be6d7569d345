"""Geometry of a gallery of embeddings: similarities, alignment and uniformity, calibration, a map of two dimensions."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64

from clep.evaluation.details import Pairs, reliability
from clep.text.tags import substitute_tags

MAP_POINTS = 800
MAP_GROUPS = 8
_SUBJECTS = {
    "camera",
    "wearer",
    "person",
    "other",
    "the",
    "a",
    "c",
    "o",
    "#c",
    "#o",
    "he",
    "she",
    "man",
    "woman",
    "someone",
}


@dataclass(frozen=True)
class Geometry:
    """Statistics of the embeddings of pairs.

    Attributes:
        pairs: cosine similarity of each moment to its own text.
        others: of moments to other texts.
        alignment: mean squared distance of pairs on the unit sphere (Wang and Isola 2020); 0 is best.
        video_uniformity, text_uniformity: log of the mean of exp(-2 d²) over pairs of embeddings of one side (same
            paper); the lower, the more evenly they are spread.
        gap: distance between the centres of the two sides (the modality gap).
        calibration: of text-to-video retrieval within the sample with the model's scale, see `reliability`.
    """

    pairs: Float[np.ndarray, " pairs"]
    others: Float[np.ndarray, " others"]
    alignment: float
    video_uniformity: float
    text_uniformity: float
    gap: float
    calibration: Float64[np.ndarray, "bins 3"]


def geometry(pairs: Pairs) -> Geometry:
    """Compute the statistics of a sample of at most `MAX_PAIRS` pairs."""
    raw_video, raw_text = pairs.video_rows.astype(np.float32), pairs.text_rows.astype(np.float32)
    video, text = unit(raw_video), unit(raw_text)
    ids = pairs.text_id[: len(video)]
    right = ids[:, None] == ids[None, :]
    similarity = text @ video.T
    logits = pairs.scale * (raw_text @ raw_video.T)
    logits -= logits.max(1, keepdims=True)
    probability = np.exp(logits)
    probability /= probability.sum(1, keepdims=True)
    best = probability.argmax(1)
    # Copies of a sentence share its probability: a guess is the sentence of the most probable moment.
    confidence = np.take_along_axis(probability @ right.astype(np.float32), best[:, None], 1)[:, 0]
    return Geometry(
        np.diagonal(similarity).copy(),
        similarity[~right],
        float(np.square(video - text).sum(1).mean()),
        _uniformity(video),
        _uniformity(text),
        float(np.linalg.norm(video.mean(0) - text.mean(0))),
        reliability(np.minimum(confidence, 1.0), right[np.arange(len(best)), best]),
    )


def flat_map(rows: Float[np.ndarray, "points dim"]) -> tuple[Float64[np.ndarray, "points 2"], str]:
    """Return a map of embeddings in two dimensions, and the name of the method: t-SNE, else principal components."""
    centred = unit(rows.astype(np.float32))
    centred = centred - centred.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    components = centred @ axes[:50].T
    if len(rows) < 50:
        return components[:, :2].astype(np.float64), "principal components"
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        return components[:, :2].astype(np.float64), "principal components"
    found = TSNE(perplexity=min(30, len(rows) // 4), init="pca", random_state=0, max_iter=500).fit_transform(components)
    return np.asarray(found, np.float64), "t-SNE"


def verb_groups(texts: list[str]) -> tuple[list[int], list[str]]:
    """Return the group of each text, and the groups' names: the most frequent verbs, then "other"."""
    verbs = [verb_of(text) for text in texts]
    frequent = [verb for verb, _ in Counter(verbs).most_common(MAP_GROUPS)]
    position = {verb: index for index, verb in enumerate(frequent)}
    return [position.get(verb, len(frequent)) for verb in verbs], [*frequent, "other"]


def verb_of(text: str) -> str:
    """Return the first word after the subject, which is the verb in narrations ("C opens the jar": "opens")."""
    words = substitute_tags(text, "none").lower().split()
    rest = [word for word in words if word not in _SUBJECTS]
    return (rest or words or [""])[0]


def unit(rows: Float[np.ndarray, "n dim"]) -> Float[np.ndarray, "n dim"]:
    """Scale rows to unit length; rows of zeros stay."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _uniformity(rows: Float[np.ndarray, "n dim"]) -> float:
    if len(rows) < 2:
        return 0.0
    squared = 2 - 2 * (rows @ rows.T)
    upper = squared[np.triu_indices(len(rows), 1)]
    return float(np.log(np.exp(-2 * upper).mean()))
