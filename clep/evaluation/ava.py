"""AVA's frame mAP: of a trained action classifier, and of a file of detections without any model."""

import logging
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int64
from rich.console import Console
from rich.table import Table
from torch import Tensor

from clep.data.key_frame_clips import KeyFrameClips
from clep.data.long_term import LongTerm
from clep.data.regions import RegionDataset, RegionSource
from clep.datasets.ava import AVA_ACTIONS, AvaBoxes, read_annotations, read_excluded
from clep.errors import InputError
from clep.evaluation.details import Classes, precision_details
from clep.evaluation.evaluator import Evaluator, is_first_rank, model_device
from clep.files import atomic_path, write_json
from clep.metrics.ava import MEASURED, UNLISTED, counted_actions, measure_ava, measure_ava_files
from clep.models import ActionClassifier

log = logging.getLogger(__name__)


class AvaRegions(Evaluator):
    """`ava/mAP` in percent: the model scores each region of a bank for each action, and the scores are detections.

    Args:
        source: the regions; AVA's rules ask for "detected" ones.
        groundtruth: csv of lines video,second,x1,y1,x2,y2,action,person, e.g. ava_val_v2.2.csv.
        label_map: which actions are evaluated; None for the 60 of the challenge.
        excluded: csv of lines video,second: frames to exclude.
        unannotated: "ignored" or "counted", see `clep.metrics.ava.measure_ava`.
        clips: where pixels come from, for a model that reads clips.
        out: folder of results.csv (video,second,x1,y1,x2,y2,action,score, as `python -m clep.evaluate evaluator=ava`
            reads it) and per_class.json; None for neither.
        least_score: scores below it are not written as detections.
        batch_size: regions scored at once.
        device: storage of the banks, "disk" or "cpu".

    Examples:
        >>> from clep.data import RegionSource
        >>> from clep.evaluation import AvaRegions
        >>> from clep.models import ActionClassifier, FBOMax
        >>> evaluator = AvaRegions(RegionSource("ava/val.h5", boxes="detected"), "ava/val.csv", "ava/map.txt")
        >>> context = {"window_s": 10, "per_second": 1, "sample": "first", "pool": "rows"}
        >>> classes, operator = [11, 12, 14, 79, 80], FBOMax(12, latent_dim=8)
        >>> model = ActionClassifier(12, operator, classes, metadata={"context": context})
        >>> sorted(evaluator.run(model))
        ['ava/mAP']
    """

    reads = ("groundtruth", "label_map", "excluded")

    def __init__(
        self,
        source: RegionSource,
        groundtruth: str | Path,
        label_map: str | Path | None = None,
        excluded: str | Path | None = None,
        clips: KeyFrameClips | None = None,
        out: str | Path | None = None,
        least_score: float | int = 0.002,
        batch_size: int = 64,
        device: str = "disk",
        unannotated: str = "ignored",
    ) -> None:
        super().__init__(batch_size)
        self.source, self.clips, self.device, self.unannotated = source, clips, device, unannotated
        self.groundtruth, self.label_map, self.excluded = groundtruth, label_map, excluded
        self.out = Path(out) if out else None
        self.least_score = float(least_score)

    def measure(self, model: Any) -> dict[str, float]:
        """Return the frame mAP, and write the detections and the average precision of each action into `out`.

        Raises:
            InputError: the model is not an action classifier, or was trained on the bank of another encoder; a file is
                missing or wrong.
        """
        if not isinstance(model, ActionClassifier):
            raise InputError(f"evaluator ava measures models of experiment=ava_lfb, not a {type(model).__name__}")
        dataset = self._dataset(model)
        scores = self.encode(len(dataset), lambda index: self._scores(model, dataset, index)).cpu().numpy()
        found = self._detections(dataset, scores, model.classes)
        names = counted_actions(self.label_map)
        excluded = read_excluded(self.excluded) if self.excluded else set()
        truth = read_annotations(self.groundtruth, {*AVA_ACTIONS, *names})
        try:
            result = measure_ava(truth, found, names, excluded, self.unannotated)
        except InputError as error:
            raise InputError(f"{self.groundtruth}: {error}") from error
        self.coverage = {
            "regions": len(dataset),
            "videos without context": len(dataset.without_context),
            "actions the model does not know": len(set(names) - set(model.classes)),
            **result.coverage,
        }
        self.record(lambda: [_precision_of_actions(truth, result.per_class, names)])
        if self.out is not None and is_first_rank():
            write_detections(self.out / "results.csv", found)
            per_class = {f"ava/AP/{action}": value for action, value in result.per_class.items()}
            write_json(self.out / "per_class.json", {"ava/mAP": result.mean} | per_class)
        return {"ava/mAP": result.mean}

    def _dataset(self, model: ActionClassifier) -> RegionDataset:
        bank_encoder, context_encoder = self.source.encoders
        if model.short_term is None:
            model.check_bank(bank_encoder)
        trained_with = model.metadata.get("context_encoder")
        if trained_with and context_encoder and trained_with != context_encoder:
            raise InputError(
                f"the model was trained with a context of {trained_with!r}, and {self.source.context_path} holds "
                f"features of {context_encoder!r}; make the bank with {trained_with!r}"
            )
        clips = None
        if model.short_term is not None:
            if self.clips is None:
                raise InputError("the model reads clips: give evaluator.ava.clips (short_term=clips)")
            clips = self.clips.fitting(model.short_term.encoder)
        context = LongTerm.of_model(model.metadata) or LongTerm(per_second=5, gaps=True).fixed()
        return self.source.open(model.classes, context, self.device, clips)

    def _scores(
        self, model: ActionClassifier, dataset: RegionDataset, index: Int64[Tensor, " batch"]
    ) -> Float[Tensor, "batch classes"]:
        batch = dataset.gather(dataset.indices(index))
        device = model_device(model)
        return model({key: value.to(device) for key, value in batch.items()}).float().sigmoid()

    def _detections(
        self, dataset: RegionDataset, scores: Float[np.ndarray, "regions classes"], classes: list[int]
    ) -> AvaBoxes:
        regions, rows = dataset.regions, dataset.rows
        region, column = np.nonzero(scores >= self.least_score)
        own = rows[region]
        return AvaBoxes(
            videos=regions.videos,
            video=regions.video[own].astype(np.int64),
            second=regions.second[own].round(6),
            box=regions.box[own].astype(np.float64),
            label=np.array(classes, np.int64)[column],
            score=scores[region, column].astype(np.float64),
        )


def _precision_of_actions(truth: AvaBoxes, per_class: Mapping[int, float], names: Mapping[int, str]) -> Classes:
    actions = sorted(per_class)
    count = np.array([int((truth.label == action).sum()) for action in actions])
    value = np.array([per_class[action] for action in actions], np.float64)
    return precision_details("ava", len(truth.label), [names[action] for action in actions], count, value)


def write_detections(path: str | Path, found: AvaBoxes) -> None:
    """Write detections as AVA's csv, atomically; numbers are written with all digits, so they read back equal.

    Raises:
        InputError: the disk is full, or the folder cannot be written to.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(_lines(found))


def _lines(found: AvaBoxes) -> Iterator[str]:
    assert found.score is not None
    columns = (found.video, found.second, found.box, found.label, found.score)
    for video, second, box, label, score in zip(*(column.tolist() for column in columns), strict=True):
        at = int(second) if second.is_integer() else second
        yield f"{found.videos[video]},{at!r},{','.join(map(repr, box))},{label},{score!r}\n"


def evaluate_ava(
    predictions: str | Path,
    groundtruth: str | Path,
    label_map: str | Path | None = None,
    excluded: str | Path | None = None,
    unannotated: Literal["ignored", "counted"] = "ignored",
    out: str | Path | None = None,
) -> dict[str, float]:
    """Measure detections in a file, print a table, and return the metrics in percent.

    Args:
        predictions: csv of lines `video,second,x1,y1,x2,y2,action,score`, without a header; boxes in [0, 1].
        groundtruth: csv of lines `video,second,x1,y1,x2,y2,action,person`, as ava_val_v2.2.csv, or `video,second` for
            a frame without actions.
        label_map: actions to evaluate: AVA's .pbtxt or mmaction2's label_map.txt; default: the 60 of the challenge.
        excluded: csv of lines `video,second`: frames to exclude, as ava_val_excluded_timestamps_v2.2.csv.
        unannotated: detections in frames that groundtruth does not list: ignored, or counted (the rule until 2020).
        out: folder of `metrics.json` and `coverage.json`, or the path of the former, ending in .json; default: neither.

    Returns:
        `ava/mAP`, and `ava/AP/<action id>` of each action of the label map, NaN where it has no ground truth.

    Raises:
        InputError: as `clep.metrics.ava_frame_map`.
    """
    names = counted_actions(label_map)
    result = measure_ava_files(groundtruth, predictions, names, excluded, unannotated)
    metrics = {"ava/mAP": result.mean} | {f"ava/AP/{action}": value for action, value in result.per_class.items()}
    if out:
        file = Path(out) if Path(out).suffix == ".json" else Path(out) / "metrics.json"
        write_json(file, metrics)
        write_json(file.with_name("coverage.json"), {"ava": result.coverage})
    _print(result.mean, result.per_class, names, f"{predictions}: frame mAP at IoU 0.5, in percent")
    for what, count in result.coverage.items():
        log.info("%s: %s", what, f"{count:,}")
    unlisted = result.coverage[UNLISTED]
    seen = result.coverage[MEASURED] + (unlisted if unannotated == "ignored" else 0)
    if 2 * unlisted > seen:
        log.warning(
            "%d of %d detections are in frames that %s does not list; do the video ids agree?",
            *(unlisted, seen, groundtruth),
        )
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
