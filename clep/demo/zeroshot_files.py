"""The zero-shot sets of the demo world in their official forms: a Kinetics csv, and the files of Charades-Ego."""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from clep.demo.frozen_encoder import random_of
from clep.demo.grammar import NOUNS, PLACES, VERBS, charades_class, kinetics_label
from clep.files import atomic_path

KINETICS_COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split", "is_cc")
CHARADES_COLUMNS = (
    *("id", "subject", "scene", "quality", "relevance", "verified", "script", "objects", "descriptions"),
    *("actions", "length", "egocentric", "charades_video"),
)
_YOUTUBE = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"))
_CHARADES = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"))
_CLIP_S = 10


def write_kinetics(path: str | Path, pairs: list[tuple[int, int]], clips: int, seed: int, clip_s: int = _CLIP_S) -> int:
    """Write val.csv: `clips` clips of `clip_s` seconds of each pair, in random order; gives the number of clips."""
    rng = random_of(seed, "kinetics")
    lines = []
    for verb, noun in pairs:
        for _ in range(clips):
            start = int(rng.integers(0, 600))
            youtube_id = "".join(rng.choice(_YOUTUBE, 11))
            lines.append(
                (kinetics_label(verb, noun), youtube_id, start, start + clip_s, "val", int(rng.random() < 0.1))
            )
    _write_csv(path, KINETICS_COLUMNS, [lines[i] for i in rng.permutation(len(lines))])
    return len(lines)


def charades_pairs(unseen: list[tuple[int, int]], classes: int, seed: int) -> list[tuple[int, int]]:
    """Choose the pairs of the Charades-like classes: two thirds of them never narrated, the others narrated, mixed."""
    rng = random_of(seed, "charades classes")
    absent = set(unseen)
    seen = [(v, n) for v in range(len(VERBS)) for n in range(len(NOUNS)) if (v, n) not in absent]
    new = -(-2 * classes // 3)
    chosen = [unseen[i] for i in rng.choice(len(unseen), new, replace=False)]
    chosen += [seen[i] for i in rng.choice(len(seen), classes - new, replace=False)]
    return [chosen[i] for i in rng.permutation(classes)]


def write_charades_classes(path: str | Path, pairs: list[tuple[int, int]]) -> None:
    """Write Charades_v1_classes.txt, lines like "c008 Opening a bottle"; the last tenth begin with "Someone is"."""
    spoken = len(pairs) - len(pairs) // 10
    lines = [f"c{i:03d} {charades_class(verb, noun, i >= spoken)}" for i, (verb, noun) in enumerate(pairs)]
    _write_text(path, "\n".join(lines) + "\n")


def write_charades_csv(path: str | Path, pairs: list[tuple[int, int]], scripts: int, seed: int) -> int:
    """Write CharadesEgo_v1_test.csv: each script filmed in third person (`AB3CD`) and in first (`AB3CDEGO`).

    A script has 4 to 8 actions that may overlap; the two films follow it a little differently in time. Every fiftieth
    film has no labels, as happens in the official file. Gives the number of videos.
    """
    rng = random_of(seed, "charades", Path(path).name)
    lines: list[tuple[Any, ...]] = []
    for _ in range(scripts):
        name, subject = "".join(rng.choice(_CHARADES, 5)), "".join(rng.choice(_CHARADES, 4))
        scene = PLACES[rng.integers(len(PLACES))].name
        shown = rng.choice(len(pairs), min(int(rng.integers(4, 9)), len(pairs)), replace=False)
        length_s = rng.uniform(20, 35)
        start_s = np.sort(rng.uniform(0, length_s - 6, len(shown)))
        end_s = np.minimum(start_s + rng.uniform(4, 9, len(shown)), length_s)
        phrases = [charades_class(*pairs[i]).lower() for i in shown]
        for egocentric in ("No", "Yes"):
            shift_s = rng.uniform(-0.5, 0.5, len(shown))
            spans = zip(np.clip(start_s + shift_s, 0, None), np.minimum(end_s + shift_s, length_s), strict=True)
            actions = [f"c{i:03d} {a:.2f} {b:.2f}" for i, (a, b) in zip(shown, spans, strict=True)]
            lines.append(
                (
                    name + ("EGO" if egocentric == "Yes" else ""),
                    subject,
                    scene.capitalize(),
                    int(rng.integers(3, 8)),
                    int(rng.integers(3, 8)),
                    "Yes",
                    f"A person is {' and then '.join(phrases)}.",
                    ";".join(sorted({NOUNS[pairs[i][1]] for i in shown})),
                    f"A person in the {scene} is {', '.join(phrases)}.",
                    "" if len(lines) % 50 == 49 else ";".join(actions),
                    f"{length_s:.2f}",
                    egocentric,
                    "No",
                )
            )
    _write_csv(path, CHARADES_COLUMNS, lines)
    return len(lines)


def _write_csv(path: str | Path, columns: tuple[str, ...], lines: list[tuple[Any, ...]]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(lines)


def _write_text(path: str | Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
