"""Banks of clips, videos and sentences for benchmarks, and their scores by hand."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from clep.bank import BankWriter, Clock
from clep.models import DualEncoder
from clep.text import Texts
from tests.evaluation.tiny_clips import ENCODER, WORDS, by_hand, unit
from tests.tiny_source import TEXT_DIM, VIDEO_DIM


def write_rows(
    path: Path, ids: Iterable[str], random: np.random.Generator, rows: int | None = None
) -> dict[str, np.ndarray]:
    """Write a bank with rows of one second each; return them by id."""
    found = {}
    with BankWriter(path, VIDEO_DIM, Clock(1.0, 1.0), "float32", encoder=ENCODER) as writer:
        for name in ids:
            count = int(random.integers(1, 5)) if rows is None else rows
            found[name] = random.standard_normal((count, VIDEO_DIM)).astype(np.float32)
            writer.add(name, found[name])
    return found


def write_sentences(path: Path, sentences: Sequence[str], random: np.random.Generator) -> dict[str, np.ndarray]:
    """Write the text bank of a benchmark as its job does; return the embedding of each sentence."""
    vectors = random.standard_normal((len(sentences), TEXT_DIM)).astype(np.float32)
    source = Texts.of(sentences).digest()
    with BankWriter(path, TEXT_DIM, None, "float32", encoder=WORDS, source=source) as writer:
        writer.add("sentences", vectors)
    return dict(zip(sentences, vectors, strict=True))


def similarity(model: DualEncoder, rows: np.ndarray, text: np.ndarray, cosine: bool = True) -> float:
    """Compare the mean of some rows with a sentence, in float64."""
    video, sentence = by_hand(model.video, rows.astype(np.float64).mean(0)), by_hand(model.text, text)
    return float(unit(video) @ unit(sentence)) if cosine else float(video @ sentence)
