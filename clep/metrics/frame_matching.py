"""Match detections with ground-truth boxes frame by frame, and average their precision, as object detection does.

Pure functions on arrays. `group` numbers the frames, or the pairs of a frame and a class: boxes of different groups
never meet.
"""

import heapq

import numpy as np
from jaxtyping import Bool, Float64, Int64


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
