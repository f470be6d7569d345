"""The control that a model learns from pairs: the same narrations with their texts dealt out at random."""

from pathlib import Path
from typing import Any

from clep.demo.ego4d_files import write_narration_json
from clep.demo.frozen_encoder import random_of
from clep.files import read_json


def shuffled_narrations(source: str | Path, target: str | Path, seed: int = 0) -> int:
    """Copy a narration.json with its texts permuted across all narrations of all videos; times and ids stay.

    A model trained on the copy has nothing to learn from the pairing and must stay at chance. Gives the number of
    texts.

    Raises:
        InputError: `source` is missing or is not JSON.
    """
    narrated: dict[str, Any] = read_json(source)
    slots = [
        narration
        for entry in narrated.values()
        for name in ("narration_pass_1", "narration_pass_2")
        for narration in (entry.get(name) or {}).get("narrations", [])
    ]
    texts = [narration["narration_text"] for narration in slots]
    for narration, which in zip(slots, random_of(seed, "shuffled").permutation(len(texts)), strict=True):
        narration["narration_text"] = texts[which]
    write_narration_json(target, narrated.items())
    return len(texts)
