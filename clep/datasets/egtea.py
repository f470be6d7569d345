"""EGTEA Gaze+ (Li et al., ECCV 2018): trimmed clips of 106 actions in a kitchen."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clep.datasets.clip_spans import ClipSpans
from clep.datasets.labelled_clips import LabelledClips
from clep.errors import InputError
from clep.files import open_input

_CLIP = re.compile(r"(?P<video>[^-]+-[^-]+-[^-]+)-(?P<start>\d+)-(?P<end>\d+)-F\d+-F\d+")


@dataclass(frozen=True)
class EgteaSplit:
    """Clips of a split with their action, and where they lie in their videos.

    Attributes:
        clips: ids, class names and labels.
        spans: the same ids, with the videos and the seconds that the ids name.
    """

    clips: LabelledClips
    spans: ClipSpans


def read_egtea_actions(path: str | Path) -> list[str]:
    """Read `action_idx.txt`, lines like "Open fridge 1", as class names in the order of their numbers from 1.

    Names are in lower case with blanks for underscores, as LaViLa writes them.

    Raises:
        InputError: the file is missing, a line has no name or no number, or the numbers are not 1, 2, 3, …
    """
    names: dict[int, str] = {}
    for line_number, line in _lines(path):
        name, _, number = line.rpartition(" ")
        if not name.strip() or not number.isdecimal():
            raise InputError(f"{path}, line {line_number}: {line!r} is not a name and a number like 'Open fridge 1'")
        if int(number) in names:
            raise InputError(f"{path}, line {line_number}: the number {number} is listed twice; fetch it again")
        names[int(number)] = " ".join(name.replace("_", " ").lower().split())
    if sorted(names) != list(range(1, len(names) + 1)):
        raise InputError(f"{path}: the actions are not numbered from 1 to {len(names)}; fetch it again")
    return [names[number] for number in sorted(names)]


def read_egtea_split(path: str | Path, actions: str | Path) -> EgteaSplit:
    """Read `test_split1.txt` or another split: lines of a clip, its action's number, and verb and nouns (not read).

    Args:
        path: of the split.
        actions: `action_idx.txt`.

    Raises:
        InputError: a file is missing, a line cannot be read, an action is not listed, or a clip is listed twice.
    """
    classes = read_egtea_actions(actions)
    ids, labels, videos, spans = [], [], [], []
    for line_number, line in _lines(path):
        cells = line.split()
        found = _CLIP.fullmatch(cells[0].removesuffix(".mp4"))
        if len(cells) < 2 or found is None or not cells[1].isdecimal():
            raise InputError(
                f"{path}, line {line_number}: {line!r} is not a clip and the number of its action, like "
                f"'OP01-R01-PastaSalad-1002316-1004005-F024051-F024101 1 2 3'"
            )
        if not 1 <= int(cells[1]) <= len(classes):
            raise InputError(
                f"{path}, line {line_number}: the action {cells[1]} is not among the {len(classes)} of {actions}"
            )
        ids.append(found[0])
        videos.append(found["video"])
        labels.append(int(cells[1]) - 1)
        spans.append((int(found["start"]) / 1000, int(found["end"]) / 1000))
    if not ids:
        raise InputError(f"{path} lists no clip; fetch it again")
    start_s, end_s = (np.array(side, np.float64) for side in zip(*spans, strict=True))
    try:
        clips = LabelledClips("egtea", ids, classes, label=np.array(labels, np.int64))
        return EgteaSplit(clips, ClipSpans(ids, videos, start_s, end_s))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _lines(path: str | Path) -> list[tuple[int, str]]:
    """Return the lines that are not empty, with their numbers from 1."""
    with open_input(path) as file:
        lines = file.read().decode("utf-8-sig", errors="replace").splitlines()
    return [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
