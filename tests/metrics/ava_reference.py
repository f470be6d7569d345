"""Slow AVA frame mAP, row by row from its definition, and random boxes for tests."""

from pathlib import Path

import numpy as np

from clep.datasets.ava import AvaBoxes

Row = tuple[str, int, float, float, float, float, int, float]  # video, second, x1, y1, x2, y2, action, person or score


def overlap(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    both = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / union if union > 0 else 0.0


def best_of_frame(rows, most):
    """Add rows one by one; in a full frame a strictly better row replaces the worst."""
    kept = []
    for row_index, (_, _, x1, y1, x2, y2, action, score) in enumerate(rows):
        entry = (score, action, y1, x1, y2, x2, row_index)
        if len(kept) < most:
            kept.append(entry)
        elif score > min(kept)[0]:
            kept.remove(min(kept))
            kept.append(entry)
    return [rows[entry[-1]] for entry in kept]


def slow_ava(groundtruth, detections, actions, excluded=(), most=50, least=0.5, unannotated="ignored"):
    """Return the mean and each action's average precision, in percent, from lists of rows.

    A ground-truth row `(video, second)` is a frame without actions. As the official script since April 2020 does, the
    keys of all rows are collected before any row is skipped, and detections of other keys are not added.
    """
    listed = {row[:2] for row in groundtruth}
    groundtruth = [row for row in groundtruth if len(row) > 2]
    if unannotated == "ignored":
        detections = [row for row in detections if row[:2] in listed]
    truth, found = ([row for row in rows if row[:2] not in excluded] for rows in (groundtruth, detections))
    frames = {}
    for row in found:
        if row[6] in actions:
            frames.setdefault(row[:2], []).append(row)
    found = [row for rows in frames.values() for row in best_of_frame(rows, most)]
    found = [row for row in found if row[2] < row[4] and row[3] < row[5]]
    per_class = {}
    for action in actions:
        boxes = [row for row in truth if row[6] == action]
        if not boxes:
            per_class[action] = float("nan")
            continue
        matched, judged = set(), []
        for row in sorted((row for row in found if row[6] == action), key=lambda row: -row[7]):
            there = [i for i, box in enumerate(boxes) if box[:2] == row[:2]]
            most_like = min(
                there,
                default=None,
                key=lambda i: (-overlap(row[2:6], boxes[i][2:6]), *(boxes[i][column] for column in (3, 2, 5, 4))),
            )
            right = most_like is not None and overlap(row[2:6], boxes[most_like][2:6]) >= least
            judged.append((row[7], right and most_like not in matched))
            if right:
                matched.add(most_like)
        per_class[action] = 100 * area(judged, len(boxes))
    return np.nanmean(list(per_class.values())), per_class


def area(judged, positives):
    """One point of the curve per score; between points, the highest precision at a higher recall."""
    curve = []
    for threshold in sorted({score for score, _ in judged}, reverse=True):
        above = [right for score, right in judged if score >= threshold]
        curve.append((sum(above) / positives, sum(above) / len(above)))
    total, before = 0.0, 0.0
    for row_index, (recall, _) in enumerate(curve):
        total += (recall - before) * max(precision for _, precision in curve[row_index:])
        before = recall
    return total


def random_world(seed, videos=2, seconds=3, boxes=4, detections=12, actions=(1, 2, 3), levels=None):
    """Draw ground truth and detections; coarse grids, so that some scores tie and some overlaps are exactly one half.

    Frames without ground truth occur, some of them listed by a row of two columns.
    """
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for video in range(videos):
        for second in range(900, 900 + seconds):
            frame = (f"video{video}", second)
            people = [grid_box(rng) for _ in range(rng.integers(0, boxes + 1))]
            truth += [frame] * int(rng.random() < 0.2)
            truth += [(*frame, *box, int(a), k) for k, box in enumerate(people) for a in actions if rng.random() < 0.5]
            for _ in range(rng.integers(0, detections + 1)):
                near = people and rng.random() < 0.7
                box = people[rng.integers(len(people))] if near else grid_box(rng)
                if rng.random() < 0.5:
                    box = (box[0], box[1], box[0] + (box[2] - box[0]) * rng.choice([0.5, 1.5]), box[3])
                score = rng.random() if levels is None else rng.integers(levels) / levels
                found.append((*frame, *map(float, box), int(rng.choice(actions)), float(score)))
    return truth, found


def grid_box(rng):
    x, y = rng.integers(0, 5, 2) / 8
    width, height = rng.integers(0, 4, 2) / 8
    return float(x), float(y), float(x + width), float(y + height)


def as_boxes(rows, scored=True):
    """Convert rows to the result of a reader."""
    empty_frames = {row for row in rows if len(row) == 2}
    rows = [row for row in rows if len(row) > 2]
    videos = tuple(dict.fromkeys(row[0] for row in rows))
    return AvaBoxes(
        videos=videos,
        video=np.array([videos.index(row[0]) for row in rows], np.int64),
        second=np.array([row[1] for row in rows], np.float64),
        box=np.array([row[2:6] for row in rows], np.float64).reshape(-1, 4),
        label=np.array([row[6] for row in rows], np.int64),
        score=np.array([row[7] for row in rows], np.float64) if scored else None,
        empty_frames=empty_frames,
    )


def write_rows(path: Path, rows) -> Path:
    path.write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    return path
