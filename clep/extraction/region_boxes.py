"""The boxes of a region bank by video: annotated, detected, or both, in the order of the rows to be."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32

from clep.datasets.ava import AvaBoxes
from clep.datasets.ava_proposals import Proposals
from clep.errors import InputError

Boxes = Literal["annotated", "detected", "both"]


@dataclass(frozen=True)
class VideoBoxes:
    """The boxes of one video, sorted by second; of a second the annotated before the detected ones.

    Attributes:
        second, box, score, person, annotated: columns, see `clep.data.Regions`.
        actions: ids of each box's actions; empty where it was detected.
    """

    second: Float64[np.ndarray, " n"]
    box: Float32[np.ndarray, "n 4"]
    score: Float32[np.ndarray, " n"]
    person: Int32[np.ndarray, " n"]
    annotated: Bool[np.ndarray, " n"]
    actions: tuple[tuple[int, ...], ...]

    def digest(self) -> str:
        """Digest seconds and boxes: what decides the rows, and nothing else."""
        said = blake2b(self.second.tobytes(), digest_size=6)
        said.update(self.box.tobytes())
        return said.hexdigest()

    def by_second(self) -> dict[float, Float32[np.ndarray, "boxes 4"]]:
        """Return the boxes of each second."""
        seconds, first = np.unique(self.second, return_index=True)
        return dict(zip(seconds.tolist(), np.split(self.box, first[1:]), strict=True))


@dataclass
class _Rows:
    """The boxes of a video while they are collected, each once."""

    place: dict[tuple[float | int, ...], int] = field(default_factory=dict)
    rows: list[tuple[float, bool, tuple[float, ...], float, int]] = field(default_factory=list)
    actions: list[list[int]] = field(default_factory=list)

    def annotate(self, second: float, box: tuple[float, ...], person: int, action: int) -> None:
        key = (second, *box, person)
        if key not in self.place:
            self.place[key] = len(self.rows)
            self.rows.append((float(second), True, box, 1.0, person))
            self.actions.append([])
        if action not in self.actions[self.place[key]]:
            self.actions[self.place[key]].append(action)

    def detect(self, second: int, box: tuple[float, ...], score: float) -> None:
        self.rows.append((float(second), False, box, score, -1))
        self.actions.append([])

    def sorted(self) -> VideoBoxes:
        order = sorted(range(len(self.rows)), key=lambda row: (self.rows[row][0], not self.rows[row][1]))
        seconds, annotated, boxes, scores, persons = zip(*(self.rows[row] for row in order), strict=True)
        return VideoBoxes(
            np.array(seconds, np.float64),
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(scores, np.float32),
            np.array(persons, np.int32),
            np.array(annotated, bool),
            tuple(tuple(sorted(self.actions[row])) for row in order),
        )


def gather_boxes(
    which: Boxes,
    annotations: AvaBoxes | None,
    proposals: Proposals | None,
    score_threshold: float | int = 0.9,
    excluded: Iterable[tuple[str, float | int]] = (),
) -> tuple[dict[str, VideoBoxes], dict[str, int]]:
    """Collect the boxes of each video; a person who does three things, in three lines of the annotations, is one box.

    Args:
        which: "annotated" boxes, with their actions; "detected" ones; or "both".
        annotations: needed unless `which` is "detected".
        proposals: needed unless `which` is "annotated".
        score_threshold: detected boxes of a lower score are left out (0.9 in the paper).
        excluded: video and second of frames to leave out.

    Returns:
        The boxes by video, sorted by its name; and how many were left out, by reason.

    Raises:
        InputError: a file that is needed was not given, or no box is left.
    """
    if which != "detected" and annotations is None:
        raise InputError(f"boxes={which} takes the boxes of annotations=CSV; give it, or boxes=detected")
    if which != "annotated" and proposals is None:
        raise InputError(f"boxes={which} takes the boxes of proposals=PKL or CSV; give it, or boxes=annotated")
    gone = set(excluded)
    found: dict[str, _Rows] = {}
    left: Counter[str] = Counter(in_excluded_frames=0, below_the_threshold=0)
    if which != "detected" and annotations is not None and annotations.person is not None:
        columns = (annotations.video, annotations.second, annotations.box, annotations.person, annotations.label)
        for video, second, box, person, label in zip(*(column.tolist() for column in columns), strict=True):
            if (annotations.videos[video], second) in gone:
                left["in_excluded_frames"] += 1
            else:
                found.setdefault(annotations.videos[video], _Rows()).annotate(second, tuple(box), person, label)
    if which != "annotated" and proposals is not None:
        detected = (proposals.video, proposals.second, proposals.box, proposals.score)
        for video, second, box, score in zip(*(column.tolist() for column in detected), strict=True):
            if score < score_threshold:
                left["below_the_threshold"] += 1
            elif (proposals.videos[video], second) in gone:
                left["in_excluded_frames"] += 1
            else:
                found.setdefault(proposals.videos[video], _Rows()).detect(second, tuple(box), score)
    if not found:
        why = f"{left['below_the_threshold']} score below {score_threshold}, {left['in_excluded_frames']} are excluded"
        raise InputError(f"no box is left: {why}")
    return {video: found[video].sorted() for video in sorted(found)}, dict(left)
