"""Small evaluation sets in the files that the jobs write, and models taken apart into plain numpy."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from clep.bank import BankWriter, Clock
from clep.checksums import write_checked_json
from clep.data import LabelledClips
from clep.models import DualEncoder
from tests.tiny_source import TEXT_DIM, VIDEO_DIM
from tests.training.tiny_run import tiny_model

ENCODER, WORDS = "tiny", "all-tiny-v1"


@dataclass
class TinySet:
    """What an evaluation folder holds, as arrays."""

    folder: Path
    clips: LabelledClips
    rows: dict[str, np.ndarray]
    """Features of the clips that have any."""
    prompts: dict[str, np.ndarray]
    """Sentence embeddings by set, [classes, templates, dim]."""


def write_kinetics(folder: Path, clips: int = 40, classes: int = 7, templates: int = 2, seed: int = 0) -> TinySet:
    """Write single-label clips; every seventh has no features."""
    random = np.random.default_rng(seed)
    ids, names = [f"clip{i:02d}" for i in range(clips)], [f"class {i}" for i in range(classes)]
    label = random.integers(classes, size=clips)
    lacking = set(ids[::7])
    return _write(folder, LabelledClips("kinetics", ids, names, label=label), lacking, {"prompt": templates}, random)


def write_ego_charades(folder: Path, clips: int = 30, classes: int = 5, seed: int = 0) -> TinySet:
    """Write multi-label clips of both views; one clip is without labels, one class is never seen in first person."""
    random = np.random.default_rng(seed)
    ids, names = [f"{i:04d}{'EGO' * (i % 2)}" for i in range(clips)], [f"class {i}" for i in range(classes)]
    first_person = np.array([name.endswith("EGO") for name in ids])
    labels = (random.random((clips, classes)) < 0.4).astype(np.uint8)
    labels[3] = 0
    labels[first_person, 2] = 0
    found = LabelledClips("ego_charades", ids, names, labels=labels, first_person=first_person)
    return _write(folder, found, {ids[0], ids[5]}, {"label": 1, "ego_prompt": 1, "exo_prompt": 1}, random)


def _write(
    folder: Path, clips: LabelledClips, lacking: set[str], sets: dict[str, int], random: np.random.Generator
) -> TinySet:
    clips.write(folder / "clips.h5")
    rows = {
        name: random.standard_normal((int(random.integers(1, 9)), VIDEO_DIM)).astype(np.float32)
        for name in clips.ids
        if name not in lacking
    }
    with BankWriter(folder / "features.h5", VIDEO_DIM, Clock(), "float32", encoder=ENCODER) as writer:
        for name in sorted(rows, reverse=True):  # the bank's order is not that of the clips
            writer.add(name, rows[name])
    classes = len(clips.classes)
    prompts = {
        name: random.standard_normal((classes, templates, TEXT_DIM)).astype(np.float32)
        for name, templates in sets.items()
    }
    write_prompts(folder, prompts)
    sentences = {
        name: [[f"{name} {template} {label}" for template in range(templates)] for label in clips.classes]
        for name, templates in sets.items()
    }
    write_checked_json(
        folder / "prompts.json", {"classes": clips.classes, "sets": sentences, "encoder": WORDS, "dim": TEXT_DIM}
    )
    return TinySet(folder, clips, rows, prompts)


def write_prompts(folder: Path, prompts: dict[str, np.ndarray]) -> None:
    """Write the bank of the prompts' embeddings, class-major."""
    with BankWriter(folder / f"prompts.{WORDS}.h5", TEXT_DIM, None, "float32", encoder=WORDS) as writer:
        for name, vectors in prompts.items():
            writer.add(name, vectors.reshape(-1, TEXT_DIM))


def model_for(**changes: object) -> DualEncoder:
    """Return a random model that knows what it was trained on; `changes` are attributes to set."""
    model = tiny_model()
    model.metadata = {"bank_encoder": ENCODER, "sentence_encoder": WORDS}
    for name, value in changes.items():
        setattr(model, name, value)
    return model


def by_hand(tower: nn.Module, row: np.ndarray) -> np.ndarray:
    """Apply linear - ReLU - linear to one vector in float64, with no dropout and no normalisation."""
    first, second = (layer for layer in tower if isinstance(layer, nn.Linear))
    hidden = np.maximum(_array(first.weight) @ row.astype(np.float64) + _array(first.bias), 0)
    return _array(second.weight) @ hidden + _array(second.bias)


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.sqrt((vector**2).sum())


def score_by_hand(model: DualEncoder, rows: np.ndarray, templates: np.ndarray) -> float:
    """Compare one clip with one class: cosine to the averaged templates, or the plain dot product of a raw model."""
    video = by_hand(model.video, rows.astype(np.float64).mean(0))
    texts = [by_hand(model.text, template) for template in templates]
    if not model.normalize:
        return float(video @ np.mean(texts, axis=0))
    return float(unit(video) @ unit(np.mean([unit(text) for text in texts], axis=0)))


def _array(parameter: nn.Parameter) -> np.ndarray:
    return parameter.detach().numpy().astype(np.float64)
