"""Evaluate detections that a file holds on AVA's ground truth; no model takes part."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from clep.config_check import did_you_mean
from clep.errors import InputError
from clep.files import write_json
from clep.metrics.ava import counted_actions, measure_ava_files

log = logging.getLogger(__name__)

AVA_USAGE = """Of evaluator=ava (frame mAP at an intersection over union of 0.5):
predictions  video,second,x1,y1,x2,y2,action,score on each line, without a header; boxes in [0, 1]
groundtruth  the same with a person instead of the score, as ava_val_v2.2.csv
label_map    which actions count: AVA's .pbtxt or mmaction2's label_map.txt; default: the 60 of the challenge
excluded     video,second on each line: frames to leave out, as ava_val_excluded_timestamps_v2.2.csv
out          where metrics.json and coverage.json are written, or a file that ends in .json; default: nowhere"""

_NEEDED = ("predictions", "groundtruth")
_KEYS = (*_NEEDED, "label_map", "excluded", "out")


def ava_files(arguments: Sequence[str]) -> dict[str, str]:
    """Return the files that `key=value` arguments name, as `evaluate_ava` takes them.

    Raises:
        InputError: a key is unknown, comes twice or has no value, or one that is needed is missing.
    """
    found: dict[str, str] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            raise InputError(f"{argument!r} is not of the form key=value. {did_you_mean(argument, _KEYS)}")
        if key in ("ckpt", "device"):
            raise InputError(f"evaluator=ava measures the detections in predictions=CSV; leave {key} out")
        if key not in _KEYS:
            raise InputError(f"evaluator=ava knows no {key!r}. {did_you_mean(key, _KEYS)}")
        if key in found or not value:
            raise InputError(f"{key} is given {'twice' if key in found else 'without a value'}; write {key}=PATH once")
        found[key] = value
    for key in _NEEDED:
        if key not in found:
            raise InputError(
                f"{key}=CSV is needed with evaluator=ava; `python -m clep.evaluate --help` tells what it is"
            )
    return found


def evaluate_ava(
    predictions: str | Path,
    groundtruth: str | Path,
    label_map: str | Path | None = None,
    excluded: str | Path | None = None,
    out: str | Path | None = None,
) -> dict[str, float]:
    """Measure detections in a file, print the figures, and return them by name, in percent.

    Args:
        predictions: `video,second,x1,y1,x2,y2,action,score`.
        groundtruth: `video,second,x1,y1,x2,y2,action,person`.
        label_map: which actions count; None for the 60 of the challenge.
        excluded: `video,second`, frames to leave out.
        out: folder of `metrics.json` and `coverage.json`, or the path of the former, ending in .json; None for neither.

    Returns:
        `ava/mAP`, and `ava/AP/<action id>` of each action of the label map, NaN where it has no ground truth.

    Raises:
        InputError: as `clep.metrics.ava_frame_map`.
    """
    names = counted_actions(label_map)
    result = measure_ava_files(groundtruth, predictions, names, excluded)
    metrics = {"ava/mAP": result.mean} | {f"ava/AP/{action}": value for action, value in result.per_class.items()}
    if out:
        file = Path(out) if Path(out).suffix == ".json" else Path(out) / "metrics.json"
        write_json(file, metrics)
        write_json(file.with_name("coverage.json"), {"ava": result.coverage})
    _print(result.mean, result.per_class, names, f"{predictions}: frame mAP at IoU 0.5, in percent")
    for what, count in result.coverage.items():
        log.info("%s: %s", what, f"{count:,}")
    if (
        2 * result.coverage["detections measured in frames without ground truth"]
        > result.coverage["detections measured"]
    ):
        log.warning("most detections lie in frames without ground truth; do the names of the videos agree?")
    return metrics


def _print(mean: float, per_class: dict[int, float], names: dict[int, str], title: str) -> None:
    table = Table(title=title, title_justify="left")
    table.add_column("action", justify="right")
    table.add_column("name")
    table.add_column("AP", justify="right")
    for action, value in sorted(per_class.items()):
        table.add_row(str(action), names[action], "no ground truth" if math.isnan(value) else f"{value:.2f}")
    table.add_section()
    table.add_row("", "mean of those with ground truth", f"{mean:.2f}")
    Console().print(table)
