"""AVA's frame mAP at an intersection over union of 0.5, as ActivityNet's official script computes it."""

import heapq
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Int64

from clep.datasets.ava import (
    AVA_ACTIONS,
    AvaBoxes,
    read_annotations,
    read_detections,
    read_excluded,
    read_label_map,
)
from clep.errors import InputError


def best_per_frame(
    frame: Int64[np.ndarray, " n"],
    score: Float64[np.ndarray, " n"],
    label: Int64[np.ndarray, " n"],
    box: Float64[np.ndarray, "n 4"],
    most: int,
) -> Bool[np.ndarray, " n"]:
    """Tell which detections are among the `most` best scored of their frame, over all classes.

    Where equal scores straddle the limit, the official script's heap decides, and so the order of the rows: an equal
    row that comes when the frame is full stays out; when a better one comes, of the worst rows that with the lowest
    label leaves, then that with the lowest y1, x1, y2, x2.
    """
    order = np.lexsort((-score, frame))
    frame_in_order, score_in_order = frame[order], score[order]
    starts = np.flatnonzero(np.diff(frame_in_order, prepend=-1))
    sizes = np.diff(starts, append=len(order))
    kept = np.empty(len(order), bool)
    kept[order] = np.arange(len(order)) - np.repeat(starts, sizes) < most
    full = sizes > most
    last = starts[full] + most - 1
    tied = score_in_order[last] == score_in_order[last + 1]
    for start, size in zip(starts[full][tied].tolist(), sizes[full][tied].tolist(), strict=True):
        rows = np.sort(order[start : start + size])
        kept[rows] = False
        kept[_heap(rows, score, label, box, most)] = True
    return kept


def _heap(
    rows: Int64[np.ndarray, " m"],
    score: Float64[np.ndarray, " n"],
    label: Int64[np.ndarray, " n"],
    box: Float64[np.ndarray, "n 4"],
    most: int,
) -> list[int]:
    heap: list[tuple[float, int, float, float, float, float, int]] = []
    for row, s, a, (x1, y1, x2, y2) in zip(
        rows.tolist(), score[rows].tolist(), label[rows].tolist(), box[rows].tolist(), strict=True
    ):
        if len(heap) < most:
            heapq.heappush(heap, (s, a, y1, x1, y2, x2, row))
        elif s > heap[0][0]:
            heapq.heapreplace(heap, (s, a, y1, x1, y2, x2, row))
    return [entry[-1] for entry in heap]


def true_positives(
    group: Int64[np.ndarray, " n"],
    score: Float64[np.ndarray, " n"],
    box: Float64[np.ndarray, "n 4"],
    true_group: Int64[np.ndarray, " m"],
    true_box: Float64[np.ndarray, "m 4"],
    least_iou: float,
) -> Bool[np.ndarray, " n"]:
    """Tell which detections are right.

    A detection points at the one ground-truth box of its group with the highest intersection over union, matched
    already or not, if that is at least `least_iou`. Of the detections that point at a box the best scored one is right
    and the others are wrong: none moves on to its second-best box. Of ground-truth boxes that overlap equally, the one
    with the lowest y1, then x1, y2, x2 is meant; of detections with equal scores, the first row.
    """
    y_first = true_box[:, [1, 0, 3, 2]]
    by_group = np.lexsort((*y_first.T[::-1], true_group))
    true_group, true_box = true_group[by_group], true_box[by_group]
    first = np.searchsorted(true_group, group, "left")
    count = np.searchsorted(true_group, group, "right") - first
    asking = np.flatnonzero(count)
    first, count = first[asking], count[asking]

    starts = np.cumsum(count) - count
    detection = np.repeat(asking, count)
    truth = np.arange(len(detection)) - np.repeat(starts - first, count)
    hit = np.zeros(len(group), bool)
    if not len(asking):
        return hit
    iou = intersection_over_union(box[detection], true_box[truth])
    best = np.maximum.reduceat(iou, starts)
    best_truth = np.minimum.reduceat(np.where(iou == np.repeat(best, count), truth, len(true_box)), starts)

    near = best >= least_iou
    pointing, target = asking[near], best_truth[near]
    order = np.lexsort((-score[pointing], target))
    hit[pointing[order][np.diff(target[order], prepend=-1) > 0]] = True
    return hit


def intersection_over_union(
    one: Float64[np.ndarray, "n 4"], other: Float64[np.ndarray, "n 4"]
) -> Float64[np.ndarray, " n"]:
    """Return the intersection over union of each pair of boxes x1, y1, x2, y2; 0 where both have no area."""
    width = np.minimum(one[:, 2], other[:, 2]) - np.maximum(one[:, 0], other[:, 0])
    height = np.minimum(one[:, 3], other[:, 3]) - np.maximum(one[:, 1], other[:, 1])
    both = np.maximum(height, 0) * np.maximum(width, 0)
    union = _area(one) + _area(other) - both
    return np.divide(both, union, out=np.zeros_like(both), where=union > 0)


def _area(box: Float64[np.ndarray, "n 4"]) -> Float64[np.ndarray, " n"]:
    return (box[:, 3] - box[:, 1]) * (box[:, 2] - box[:, 0])


def average_precision(score: Float64[np.ndarray, " n"], hit: Bool[np.ndarray, " n"], positives: int) -> float:
    """Return the area under the curve of precision over recall, in percent; precision never falls as recall does.

    The definition of PASCAL VOC since 2010: each right detection counts with the highest precision reached at its rank
    or after it, each of the `positives` that was not found with 0. Equal scores are one threshold: the wrong ones
    among them rank before the right ones, so that the order of the rows does not matter.
    """
    hit = hit[np.lexsort((hit, -score))]
    precision = np.cumsum(hit) / np.arange(1, len(hit) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return 100 * float(envelope[hit].sum()) / positives


LEAST_IOU = 0.5
BEST_PER_FRAME = 50
_TOO_RARE = (2, 16, 18, 19, 21, 23, 25, 31, 32, 33, 35, 39, 40, 42, 44, 50, 53, 55, 71, 75)
AVA_60 = tuple(action for action in AVA_ACTIONS if action not in _TOO_RARE)


def counted_actions(label_map: str | Path | None) -> dict[int, str]:
    """Return the ids and names of the actions that count: a label map's, or for None the challenge's 60, unnamed."""
    return dict.fromkeys(AVA_60, "") if label_map is None else read_label_map(label_map)


@dataclass(frozen=True)
class AvaResult:
    """What `measure_ava` found.

    Attributes:
        mean: frame mAP in percent, over the classes that have a ground-truth box.
        per_class: average precision in percent by action id, NaN where it has no ground truth.
        coverage: how many boxes came, and how many were left out or cannot match, by reason.
    """

    mean: float
    per_class: dict[int, float]
    coverage: dict[str, int]


def ava_frame_map(
    groundtruth: str | Path,
    detections: str | Path,
    label_map: str | Path | None,
    excluded: str | Path | None = None,
) -> tuple[float, dict[int, float]]:
    """Measure detections on AVA's ground truth, from files; `measure_ava` says how.

    Args:
        groundtruth: `video,second,x1,y1,x2,y2,action,person` without a header; the person is ignored.
        detections: `video,second,x1,y1,x2,y2,action,score`.
        label_map: which actions count, a pbtxt or mmaction2's `label_map.txt`; None for the 60 of the challenge.
        excluded: `video,second`, frames to leave out of both; None for none.

    Returns:
        The mean in percent, and each action's average precision in percent, NaN where it has no ground truth.

    Raises:
        InputError: as `measure_ava_files`.
    """
    result = measure_ava_files(groundtruth, detections, counted_actions(label_map), excluded)
    return result.mean, result.per_class


def measure_ava_files(
    groundtruth: str | Path,
    detections: str | Path,
    actions: Collection[int] = AVA_60,
    excluded: str | Path | None = None,
) -> AvaResult:
    """Read the files, see `ava_frame_map`, and measure.

    Raises:
        InputError: a file is missing, empty or wrong (the message names the line); an action id is neither one of
            AVA's 80 nor of `actions`; or no ground truth is left to find.
    """
    known = {*AVA_ACTIONS, *actions}
    frames = set() if excluded is None else read_excluded(excluded)
    truth, found = read_annotations(groundtruth, known), read_detections(detections, known)
    try:
        return measure_ava(truth, found, actions, frames)
    except InputError as error:
        raise InputError(f"{groundtruth}: {error}") from error


def measure_ava(
    groundtruth: AvaBoxes,
    detections: AvaBoxes,
    actions: Collection[int] = AVA_60,
    excluded: Iterable[tuple[str, int]] = (),
) -> AvaResult:
    """Compute frame mAP as the official script does, and count what was left out.

    Boxes of other actions than `actions` and of excluded frames are dropped. Of each frame (video and second) the 50
    best detections over all classes remain (see `best_per_frame` for equal scores); of those, boxes without area are
    dropped. Each detection points at the ground-truth box of its class and frame that it overlaps most, if their
    intersection over union is at least 0.5; of those that point at a box the best scored is right, all others are
    wrong (`true_positives`), and so are detections in frames without ground truth. Each class has the area under its
    curve of precision over recall (`average_precision`): 0 where there is ground truth and no detection. A class
    without ground truth is left out of the mean. All is computed in float64.

    Where detections of a class have equal scores the official figure depends on the order that its sort happens to
    leave them in; here they are one threshold.

    Args:
        groundtruth: boxes as annotated; their scores are not looked at.
        detections: boxes with scores.
        actions: the ids that count.
        excluded: video and second of frames to leave out.

    Raises:
        ValueError: the detections have no scores.
        InputError: no ground-truth box is left.
    """
    if detections.score is None:
        raise ValueError("the detections have no scores")
    true_frame, frame, gone = _numbered_frames(groundtruth, detections, excluded)
    coverage: dict[str, int] = {}
    true_kept = _listed("ground-truth boxes", groundtruth, true_frame, actions, gone, coverage)
    if not len(true_kept):
        raise InputError("no box has an action of the label map in a frame that is not excluded")
    kept = _listed("detections", detections, frame, actions, gone, coverage)

    listed = len(kept)
    kept = kept[
        best_per_frame(
            frame[kept], detections.score[kept], detections.label[kept], detections.box[kept], BEST_PER_FRAME
        )
    ]
    coverage[f"detections beyond the {BEST_PER_FRAME} best of their frame"] = listed - len(kept)
    has_area = (detections.box[kept, :2] < detections.box[kept, 2:]).all(axis=1)
    coverage["detections without area"] = int((~has_area).sum())
    kept = kept[has_area]
    true_frame, frame = true_frame[true_kept], frame[kept]
    coverage["detections measured"] = len(kept)
    coverage["detections measured in frames without ground truth"] = int((~np.isin(frame, true_frame)).sum())

    true_label, label, score = groundtruth.label[true_kept], detections.label[kept], detections.score[kept]
    ids = 1 + max(actions)
    hit = true_positives(
        frame * ids + label,
        score,
        detections.box[kept],
        true_frame * ids + true_label,
        groundtruth.box[true_kept],
        LEAST_IOU,
    )
    per_class = {}
    for action in actions:
        mine, positives = label == action, int((true_label == action).sum())
        per_class[action] = average_precision(score[mine], hit[mine], positives) if positives else float("nan")
    return AvaResult(float(np.nanmean(list(per_class.values()))), per_class, coverage)


def _numbered_frames(
    groundtruth: AvaBoxes, detections: AvaBoxes, excluded: Iterable[tuple[str, int]]
) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " n"], Int64[np.ndarray, " frames"]]:
    """Number the frames of both, and those excluded, in one way."""
    place = {name: number for number, name in enumerate(dict.fromkeys(groundtruth.videos + detections.videos))}
    seconds = 1 + int(max(groundtruth.second.max(initial=0), detections.second.max(initial=0)))

    def number(boxes: AvaBoxes) -> np.ndarray:
        places = np.array([place[name] for name in boxes.videos], np.int64)
        return places[boxes.video] * seconds + boxes.second

    gone = [place[name] * seconds + second for name, second in excluded if name in place and second < seconds]
    return number(groundtruth), number(detections), np.array(gone, np.int64)


def _listed(
    what: str,
    boxes: AvaBoxes,
    frame: Int64[np.ndarray, " n"],
    actions: Collection[int],
    gone: Int64[np.ndarray, " frames"],
    coverage: dict[str, int],
) -> Int64[np.ndarray, " kept"]:
    """Return the rows whose action counts and whose frame is not excluded, and count the others."""
    known = np.isin(boxes.label, np.array(list(actions), np.int64))
    there = ~np.isin(frame, gone)
    coverage[what] = len(boxes)
    coverage[f"{what} of actions not in the label map"] = int((~known).sum())
    coverage[f"{what} in excluded frames"] = int((known & ~there).sum())
    return np.flatnonzero(known & there)
