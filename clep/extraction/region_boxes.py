"""Boxes of a region bank by video: annotated, detected, or both, in the order of its rows; and their metadata."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32

from clep.bank import FeatureBank
from clep.data.regions import Regions
from clep.datasets.ava import AvaBoxes
from clep.datasets.ava_proposals import Proposals
from clep.errors import InputError
from clep.extraction.ledger import ledger_path, read_ledger

Boxes = Literal["annotated", "detected", "both"]


@dataclass(frozen=True)
class VideoBoxes:
    """Boxes of one video, sorted by second; within a second annotated boxes come before detected ones.

    Attributes:
        second, box, score, person, annotated: columns, see `clep.data.Regions`.
        actions: action ids of each box; empty for a detected box.
    """

    second: Float64[np.ndarray, " n"]
    box: Float32[np.ndarray, "n 4"]
    score: Float32[np.ndarray, " n"]
    person: Int32[np.ndarray, " n"]
    annotated: Bool[np.ndarray, " n"]
    actions: tuple[tuple[int, ...], ...]

    def digest(self) -> str:
        """Digest of seconds and boxes, the columns that the rows depend on."""
        digest = blake2b(self.second.tobytes(), digest_size=6)
        digest.update(self.box.tobytes())
        return digest.hexdigest()

    def by_second(self) -> dict[float, Float32[np.ndarray, "boxes 4"]]:
        """Return the boxes of each second."""
        seconds, first = np.unique(self.second, return_index=True)
        return dict(zip(seconds.tolist(), np.split(self.box, first[1:]), strict=True))


@dataclass
class _Rows:
    """Boxes of a video while they are collected, without duplicates."""

    index: dict[tuple[float | int, ...], int] = field(default_factory=dict)
    rows: list[tuple[float, bool, tuple[float, ...], float, int]] = field(default_factory=list)
    actions: list[list[int]] = field(default_factory=list)

    def annotate(self, second: float, box: tuple[float, ...], person: int, action: int) -> None:
        key = (second, *box, person)
        if key not in self.index:
            self.index[key] = len(self.rows)
            self.rows.append((float(second), True, box, 1.0, person))
            self.actions.append([])
        if action not in self.actions[self.index[key]]:
            self.actions[self.index[key]].append(action)

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
    """Collect the boxes of each video; annotation rows of one person with several actions are one box.

    Args:
        which: "annotated" boxes, with their actions; "detected" ones; or "both".
        annotations: required unless `which` is "detected".
        proposals: required unless `which` is "annotated".
        score_threshold: detected boxes with a lower score are dropped (0.9 in the paper).
        excluded: video and second of frames to exclude.

    Returns:
        The boxes by video, sorted by name; and the count of dropped boxes by reason.

    Raises:
        InputError: a required file is missing, or no box is left.
    """
    if which != "detected" and annotations is None:
        raise InputError(f"boxes={which} needs annotations=CSV; give it, or boxes=detected")
    if which != "annotated" and proposals is None:
        raise InputError(f"boxes={which} needs proposals=PKL or CSV; give it, or boxes=annotated")
    excluded = set(excluded)
    found: dict[str, _Rows] = {}
    left: Counter[str] = Counter(in_excluded_frames=0, below_the_threshold=0)
    if which != "detected" and annotations is not None and annotations.person is not None:
        columns = (annotations.video, annotations.second, annotations.box, annotations.person, annotations.label)
        for video, second, box, person, label in zip(*(column.tolist() for column in columns), strict=True):
            if (annotations.videos[video], second) in excluded:
                left["in_excluded_frames"] += 1
            else:
                found.setdefault(annotations.videos[video], _Rows()).annotate(second, tuple(box), person, label)
    if which != "annotated" and proposals is not None:
        detected = (proposals.video, proposals.second, proposals.box, proposals.score)
        for video, second, box, score in zip(*(column.tolist() for column in detected), strict=True):
            if score < score_threshold:
                left["below_the_threshold"] += 1
            elif (proposals.videos[video], second) in excluded:
                left["in_excluded_frames"] += 1
            else:
                found.setdefault(proposals.videos[video], _Rows()).detect(second, tuple(box), score)
    if not found:
        why = f"{left['below_the_threshold']} score below {score_threshold}, {left['in_excluded_frames']} are excluded"
        raise InputError(f"no box is left ({why}); lower score_threshold, or check the excluded frames")
    return {video: found[video].sorted() for video in sorted(found)}, dict(left)


def describe_rows(bank_path: Path, regions_path: Path, boxes: Mapping[str, VideoBoxes]) -> Regions:
    """Return the regions of a bank, one per row.

    If the boxes of a video have changed or are missing in `boxes`, its regions are taken from the regions file of an
    earlier run.

    Args:
        bank_path: the bank, with its ledger beside it.
        regions_path: regions file of an earlier run; it need not exist.
        boxes: current boxes of each video.

    Raises:
        InputError: the boxes of a video's rows are unknown.
    """
    bank = FeatureBank.open(bank_path)
    made_of = {entry.id: entry.fingerprint.rpartition("-boxes")[2] for entry in read_ledger(ledger_path(bank_path))}
    parts: list[tuple[VideoBoxes, str]] = []
    earlier: dict[str, tuple[VideoBoxes, str]] | None = None
    for video in bank.videos:
        known = boxes.get(video)
        if known is not None and known.digest() == made_of.get(video):
            parts.append((_kept(known, bank, video), known.digest()))
            continue
        earlier = _earlier(regions_path) if earlier is None else earlier
        if video not in earlier or earlier[video][1] != made_of.get(video):
            raise InputError(
                f"{bank_path} has rows of video {video!r} for other boxes than now, and {regions_path} does "
                f"not hold these boxes; run again with overwrite=true"
            )
        parts.append(earlier[video])
    return _joined(bank.videos, parts)


def _kept(boxes: VideoBoxes, bank: FeatureBank, video: str) -> VideoBoxes:
    """Drop the boxes without a row, those at whose second there was no frame."""
    seconds = bank.video_seconds(video)
    assert seconds is not None
    rows = np.flatnonzero(np.isin(boxes.second, seconds.cpu().numpy()))
    if len(rows) != len(seconds):
        raise InputError(f"{bank.path} has {len(seconds)} rows of video {video!r} for {len(rows)} boxes; make it again")
    return _rows_of(boxes, rows)


def _rows_of(boxes: VideoBoxes, rows: np.ndarray) -> VideoBoxes:
    return VideoBoxes(
        boxes.second[rows],
        boxes.box[rows],
        boxes.score[rows],
        boxes.person[rows],
        boxes.annotated[rows],
        tuple(boxes.actions[row] for row in rows.tolist()),
    )


def _earlier(path: Path) -> dict[str, tuple[VideoBoxes, str]]:
    try:
        regions = Regions.open(path)
    except InputError:
        return {}
    bounds = np.searchsorted(regions.video, np.arange(len(regions.videos) + 1)).tolist()
    actions = [
        tuple(regions.action[start:end].tolist())
        for start, end in zip(regions.first_action, regions.first_action[1:], strict=False)
    ]
    found = {}
    for video, digest, start, end in zip(regions.videos, regions.boxes_digest, bounds, bounds[1:], strict=False):
        own = slice(start, end)
        found[video] = (
            VideoBoxes(
                regions.second[own],
                regions.box[own],
                regions.score[own],
                regions.person[own],
                regions.annotated[own],
                tuple(actions[own]),
            ),
            digest,
        )
    return found


def _joined(videos: Sequence[str], parts: Sequence[tuple[VideoBoxes, str]]) -> Regions:
    boxes = [part for part, _ in parts]
    actions = [ids for part in boxes for ids in part.actions]
    return Regions(
        videos=tuple(videos),
        boxes_digest=tuple(digest for _, digest in parts),
        video=np.repeat(np.arange(len(boxes), dtype=np.int32), [len(part.second) for part in boxes]),
        second=np.concatenate([part.second for part in boxes]),
        box=np.concatenate([part.box for part in boxes]),
        score=np.concatenate([part.score for part in boxes]),
        person=np.concatenate([part.person for part in boxes]),
        annotated=np.concatenate([part.annotated for part in boxes]),
        first_action=np.cumsum([0, *(len(ids) for ids in actions)], dtype=np.int64),
        action=np.array([action for ids in actions for action in ids], np.int32),
    )
