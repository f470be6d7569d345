"""AVA's frame mAP at an intersection over union of 0.5, as computed by ActivityNet's official script."""

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
    """Mask of the `most` highest-scored detections of each frame, over all classes.

    If equal scores straddle the limit, the result depends on the order of the rows, as with the official script's heap:
    a row that equals the lowest score is not added to a full frame; a row with a higher score replaces, among the rows
    with the lowest score, the one with the lowest label, then the lowest y1, x1, y2, x2.
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
    """Mask of the detections that are true positives.

    Each detection is assigned to the ground-truth box of its group with the highest intersection over union, whether
    that box is already matched or not, if the overlap is at least `least_iou`. Of the detections assigned to a box, the
    one with the highest score is a true positive and the others are false positives: none falls back to its second-best
    box. Equal overlaps are resolved in favour of the box with the lowest y1, then x1, y2, x2; equal scores in favour of
    the first row.

    Args:
        group: frame and class of each detection, as one id.
        score: of each detection.
        box: x1, y1, x2, y2 of each detection.
        true_group: frame and class of each ground-truth box.
        true_box: x1, y1, x2, y2 of each ground-truth box.
        least_iou: smallest intersection over union of a match.
    """
    y_first = true_box[:, [1, 0, 3, 2]]
    by_group = np.lexsort((*y_first.T[::-1], true_group))
    true_group, true_box = true_group[by_group], true_box[by_group]
    first = np.searchsorted(true_group, group, "left")
    count = np.searchsorted(true_group, group, "right") - first
    candidates = np.flatnonzero(count)
    first, count = first[candidates], count[candidates]

    starts = np.cumsum(count) - count
    detection = np.repeat(candidates, count)
    truth = np.arange(len(detection)) - np.repeat(starts - first, count)
    hit = np.zeros(len(group), bool)
    if not len(candidates):
        return hit
    iou = intersection_over_union(box[detection], true_box[truth])
    best = np.maximum.reduceat(iou, starts)
    best_truth = np.minimum.reduceat(np.where(iou == np.repeat(best, count), truth, len(true_box)), starts)

    near = best >= least_iou
    assigned, target = candidates[near], best_truth[near]
    order = np.lexsort((-score[assigned], target))
    hit[assigned[order][np.diff(target[order], prepend=-1) > 0]] = True
    return hit


def intersection_over_union(
    one: Float64[np.ndarray, "n 4"], other: Float64[np.ndarray, "n 4"]
) -> Float64[np.ndarray, " n"]:
    """Return the intersection over union of each pair of boxes x1, y1, x2, y2; 0 if both have no area."""
    width = np.minimum(one[:, 2], other[:, 2]) - np.maximum(one[:, 0], other[:, 0])
    height = np.minimum(one[:, 3], other[:, 3]) - np.maximum(one[:, 1], other[:, 1])
    both = np.maximum(height, 0) * np.maximum(width, 0)
    union = _area(one) + _area(other) - both
    return np.divide(both, union, out=np.zeros_like(both), where=union > 0)


def _area(box: Float64[np.ndarray, "n 4"]) -> Float64[np.ndarray, " n"]:
    return (box[:, 3] - box[:, 1]) * (box[:, 2] - box[:, 0])


def average_precision(score: Float64[np.ndarray, " n"], hit: Bool[np.ndarray, " n"], positives: int) -> float:
    """Average precision in percent: the area under the interpolated precision-recall curve (PASCAL VOC since 2010).

    Each true positive contributes the highest precision at its rank or a later one; each of the `positives` that was
    not detected contributes 0. Equal scores are one threshold: false positives rank before true positives, so the
    order of the rows does not matter.
    """
    hit = hit[np.lexsort((hit, -score))]
    precision = np.cumsum(hit) / np.arange(1, len(hit) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return 100 * float(envelope[hit].sum()) / positives


LEAST_IOU = 0.5
BEST_PER_FRAME = 50
MEASURED = "detections measured"
UNLISTED = "detections in frames that the ground truth does not list"
_TOO_RARE = (2, 16, 18, 19, 21, 23, 25, 31, 32, 33, 35, 39, 40, 42, 44, 50, 53, 55, 71, 75)
AVA_60 = tuple(action for action in AVA_ACTIONS if action not in _TOO_RARE)


def counted_actions(label_map: str | Path | None) -> dict[int, str]:
    """Return ids and names of the evaluated actions: those of a label map, or for None the challenge's 60, unnamed."""
    return dict.fromkeys(AVA_60, "") if label_map is None else read_label_map(label_map)


@dataclass(frozen=True)
class AvaResult:
    """Result of `measure_ava`.

    Attributes:
        mean: frame mAP in percent, over the classes that have a ground-truth box.
        per_class: average precision in percent by action id, NaN if it has no ground truth.
        coverage: count of boxes, and of dropped boxes by reason.
    """

    mean: float
    per_class: dict[int, float]
    coverage: dict[str, int]


def ava_frame_map(
    groundtruth: str | Path,
    detections: str | Path,
    label_map: str | Path | None,
    excluded: str | Path | None = None,
    unannotated: str = "ignored",
) -> tuple[float, dict[int, float]]:
    """Compute AVA's frame mAP from files, by the rules of `measure_ava`.

    Args:
        groundtruth: `video,second,x1,y1,x2,y2,action,person` without a header; the person is ignored. A row
            `video,second` is an annotated frame without actions.
        detections: `video,second,x1,y1,x2,y2,action,score`.
        label_map: evaluated actions, a pbtxt or mmaction2's `label_map.txt`; None for the challenge's 60.
        excluded: `video,second`, frames to exclude from both; None for none.
        unannotated: see `measure_ava`.

    Returns:
        The mean in percent, and each action's average precision in percent, NaN if it has no ground truth.

    Raises:
        InputError: as for `measure_ava_files`.
    """
    result = measure_ava_files(groundtruth, detections, counted_actions(label_map), excluded, unannotated)
    return result.mean, result.per_class


def measure_ava_files(
    groundtruth: str | Path,
    detections: str | Path,
    actions: Collection[int] = AVA_60,
    excluded: str | Path | None = None,
    unannotated: str = "ignored",
) -> AvaResult:
    """Read the files that `ava_frame_map` describes and call `measure_ava`.

    Raises:
        InputError: a file is missing, empty or invalid (the message names the line); an action id is neither one of
            AVA's 80 nor of `actions`; or no ground-truth box is left.
    """
    known = {*AVA_ACTIONS, *actions}
    frames = set() if excluded is None else read_excluded(excluded)
    truth, found = read_annotations(groundtruth, known), read_detections(detections, known)
    try:
        return measure_ava(truth, found, actions, frames, unannotated)
    except InputError as error:
        raise InputError(f"{groundtruth}: {error}") from error


def measure_ava(
    groundtruth: AvaBoxes,
    detections: AvaBoxes,
    actions: Collection[int] = AVA_60,
    excluded: Iterable[tuple[str, float | int]] = (),
    unannotated: str = "ignored",
) -> AvaResult:
    """Compute frame mAP as ActivityNet's official script does since April 2020, and count what was dropped.

    1. Boxes of actions other than `actions` and boxes in excluded frames are dropped.
    2. The 50 highest-scored detections of each frame (video and second), over all classes, are kept (`best_per_frame`).
    3. Boxes without area or with swapped corners are dropped.
    4. Detections in frames that the ground truth does not list are ignored. A frame is listed by a box of any action,
       or by a row without a box (`AvaBoxes.empty_frames`), in which case its detections are false positives.
    5. Detections are matched to ground-truth boxes of their class and frame at an intersection over union of at least
       0.5 (`true_positives`), which gives the `average_precision` of each class: 0 with ground truth but without
       detections. A class without ground truth is excluded from the mean.

    Computed in float64. For detections of a class with equal scores, the official value depends on the order of its
    sort; here they are one threshold.

    Args:
        groundtruth: annotated boxes; scores are ignored.
        detections: boxes with scores.
        actions: ids of the evaluated actions.
        excluded: video and second of frames to exclude.
        unannotated: "counted" makes detections in frames that the ground truth does not list false positives, as the
            official script did until April 2020; "ignored" is rule 4.

    Raises:
        ValueError: the detections have no scores.
        InputError: no ground-truth box is left.
    """
    if detections.score is None:
        raise ValueError("the detections have no scores")
    if unannotated not in ("ignored", "counted"):
        raise InputError(f"unannotated={unannotated!r}; choose ignored or counted")
    listed_frames, true_frame, frame, excluded_frames = _frame_ids(groundtruth, detections, excluded)
    coverage: dict[str, int] = {}
    true_kept = _evaluated("ground-truth boxes", groundtruth, true_frame, actions, excluded_frames, coverage)
    if not len(true_kept):
        raise InputError("no box has an action of the label map in a frame that is not excluded; check the label map")
    kept = _evaluated("detections", detections, frame, actions, excluded_frames, coverage)

    before = len(kept)
    kept = kept[
        best_per_frame(
            frame[kept], detections.score[kept], detections.label[kept], detections.box[kept], BEST_PER_FRAME
        )
    ]
    coverage[f"detections beyond the {BEST_PER_FRAME} best of their frame"] = before - len(kept)
    has_area = (detections.box[kept, :2] < detections.box[kept, 2:]).all(axis=1)
    coverage["detections without area"] = int((~has_area).sum())
    kept = kept[has_area]
    is_listed = np.isin(frame[kept], listed_frames)
    coverage[UNLISTED] = int((~is_listed).sum())
    if unannotated == "ignored":
        kept = kept[is_listed]
    coverage[MEASURED] = len(kept)

    true_label, label, score = groundtruth.label[true_kept], detections.label[kept], detections.score[kept]
    ids = 1 + max(actions)
    hit = true_positives(
        frame[kept] * ids + label,
        score,
        detections.box[kept],
        true_frame[true_kept] * ids + true_label,
        groundtruth.box[true_kept],
        LEAST_IOU,
    )
    per_class = {}
    for action in actions:
        of_action, positives = label == action, int((true_label == action).sum())
        per_class[action] = (
            average_precision(score[of_action], hit[of_action], positives) if positives else float("nan")
        )
    return AvaResult(float(np.nanmean(list(per_class.values()))), per_class, coverage)


def _frame_ids(
    groundtruth: AvaBoxes, detections: AvaBoxes, excluded: Iterable[tuple[str, float | int]]
) -> tuple[
    Int64[np.ndarray, " listed"], Int64[np.ndarray, " m"], Int64[np.ndarray, " n"], Int64[np.ndarray, " excluded"]
]:
    """Assign an id to each frame (video and second, rounded to microseconds).

    Returns:
        The ids of the frames that the ground truth lists, of each ground-truth box, of each detection, and of the
        excluded frames.
    """
    without_boxes = [list(groundtruth.empty_frames), list(excluded)]
    names = [*groundtruth.videos, *detections.videos, *(name for frames in without_boxes for name, _ in frames)]
    index_of = {name: index for index, name in enumerate(dict.fromkeys(names))}
    video = [
        np.array([index_of[name] for name in boxes.videos], np.int64)[boxes.video]
        for boxes in (groundtruth, detections)
    ]
    video += [np.array([index_of[name] for name, _ in frames], np.int64) for frames in without_boxes]
    second = [groundtruth.second, detections.second]
    second += [np.array([at for _, at in frames], float) for frames in without_boxes]
    ends = np.cumsum([len(part) for part in video])
    frames = np.stack([np.concatenate(video), np.rint(np.concatenate(second) * 1e6).astype(np.int64)])
    ids = np.unique(frames, axis=1, return_inverse=True)[1].reshape(-1)
    true_frame, frame, empty, excluded_frames = np.split(ids, ends[:-1])
    return np.concatenate([true_frame, empty]), true_frame, frame, excluded_frames


def _evaluated(
    what: str,
    boxes: AvaBoxes,
    frame: Int64[np.ndarray, " n"],
    actions: Collection[int],
    excluded_frames: Int64[np.ndarray, " frames"],
    coverage: dict[str, int],
) -> Int64[np.ndarray, " kept"]:
    """Return the rows whose action is evaluated and whose frame is not excluded, and count the others."""
    known = np.isin(boxes.label, np.array(list(actions), np.int64))
    included = ~np.isin(frame, excluded_frames)
    coverage[what] = len(boxes)
    coverage[f"{what} of actions not in the label map"] = int((~known).sum())
    coverage[f"{what} in excluded frames"] = int((known & ~included).sum())
    return np.flatnonzero(known & included)
