"""AVA's frame mAP at an intersection over union of 0.5, over files, as ActivityNet's official script computes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64

from clep.errors import InputError
from clep.metrics.ava_files import AvaBoxes, read_annotations, read_detections, read_excluded, read_label_map
from clep.metrics.frame_matching import average_precision, best_per_frame, true_positives

LEAST_IOU = 0.5
BEST_PER_FRAME = 50
AVA_IDS = range(1, 81)
_LEFT_OUT = (2, 16, 18, 19, 21, 23, 25, 31, 32, 33, 35, 39, 40, 42, 44, 50, 53, 55, 71, 75)
AVA_60 = tuple(label for label in AVA_IDS if label not in _LEFT_OUT)


@dataclass(frozen=True)
class AvaResult:
    """What `measure_ava` found.

    Attributes:
        mean: frame mAP in percent, over the classes that have a ground-truth box.
        per_class: average precision in percent of each action id of the label map, NaN where it has no ground truth.
        coverage: how many boxes were counted and how many were left out, by reason.
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
    """Measure detections on AVA's ground truth, from files: `measure_ava` says how.

    Args:
        groundtruth: `video,second,x1,y1,x2,y2,action,person` without a header; the person is ignored.
        detections: `video,second,x1,y1,x2,y2,action,score`.
        label_map: which actions count, a pbtxt or mmaction2's `label_map.txt`; None for the 60 of the challenge.
        excluded: `video,second`, frames to leave out of both; None for none.

    Returns:
        The mean in percent, and each action's average precision in percent, NaN where it has no ground truth.

    Raises:
        InputError: a file is missing, empty or wrong (the message names the line); an action id is neither one of
            AVA's 80 nor in the label map; or no ground truth is left to find.
    """
    classes = AVA_60 if label_map is None else tuple(read_label_map(label_map))
    result = measure_ava(groundtruth, detections, classes, excluded)
    return result.mean, result.per_class


def measure_ava(
    groundtruth: str | Path,
    detections: str | Path,
    classes: tuple[int, ...] = AVA_60,
    excluded: str | Path | None = None,
) -> AvaResult:
    """Compute frame mAP as the official script does, and count what was left out.

    Boxes of other actions than `classes` and of excluded frames are dropped. Of each frame (video and second) the 50
    best detections over all classes remain (`best_per_frame`: who goes where scores are equal), of those the boxes
    without area are dropped. Each detection points at the ground-truth box of its class and frame that it overlaps
    most, if their intersection over union is at least 0.5; the best scored of each box is right, all others are wrong
    (`true_positives`). Detections in frames that the ground truth lacks are wrong, too. Per class the area under the
    precision-recall curve follows (`average_precision`); a class with ground truth and no detection has 0, a class
    without ground truth is left out of the mean. All in float64.

    The official script's figure depends on its sort where detections of one class have equal scores; here those are
    one threshold.

    Raises:
        InputError: as `ava_frame_map`.
    """
    truth, found = read_annotations(groundtruth), read_detections(detections)
    left_out = set() if excluded is None else read_excluded(excluded)
    for path, boxes in ((groundtruth, truth), (detections, found)):
        _refuse_unknown(path, boxes, classes)
    place = {name: number for number, name in enumerate(dict.fromkeys(truth.videos + found.videos))}
    seconds = 1 + int(max(truth.second.max(), found.second.max()))
    gone = np.array([place[name] * seconds + at for name, at in left_out if name in place and at < seconds], np.int64)
    true_frame, frame = _frames(truth, place, seconds), _frames(found, place, seconds)

    true_kept, counts = _listed(truth, true_frame, classes, gone)
    coverage = {f"ground-truth boxes {why}": count for why, count in counts.items()}
    if not true_kept.any():
        raise InputError(f"{groundtruth} has no box of an action of the label map in a frame that is not excluded")
    listed, counts = _listed(found, frame, classes, gone)
    coverage |= {f"detections {why}": count for why, count in counts.items()}

    best = np.flatnonzero(listed)
    best = best[best_per_frame(frame[best], _score(found)[best], found.label[best], found.box[best], BEST_PER_FRAME)]
    coverage[f"detections beyond the {BEST_PER_FRAME} best of their frame"] = int(listed.sum()) - len(best)
    has_area = (found.box[best, :2] < found.box[best, 2:]).all(axis=1)
    coverage["detections without area"] = int((~has_area).sum())
    best = best[has_area]
    coverage["detections in frames without ground truth"] = int((~np.isin(frame[best], true_frame[true_kept])).sum())

    ids = 1 + max(*AVA_IDS, *classes)
    label, score, box = found.label[best], _score(found)[best], found.box[best]
    true_label = truth.label[true_kept]
    hit = true_positives(
        frame[best] * ids + label,
        score,
        box,
        true_frame[true_kept] * ids + true_label,
        truth.box[true_kept],
        LEAST_IOU,
    )
    positives = np.bincount(true_label, minlength=ids)
    per_class = {
        one: average_precision(score[label == one], hit[label == one], int(positives[one]))
        if positives[one]
        else float("nan")
        for one in classes
    }
    return AvaResult(float(np.nanmean(list(per_class.values()))), per_class, coverage)
