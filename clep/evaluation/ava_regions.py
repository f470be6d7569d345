"""Frame mAP of an action classifier on the regions of AVA, measured in the run and written as AVA's csv."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int64
from torch import Tensor

from clep.data.key_frame_clips import KeyFrameClips
from clep.data.long_term import LongTerm
from clep.data.region_dataset import RegionDataset
from clep.data.region_source import RegionSource
from clep.errors import InputError
from clep.evaluation.evaluator import Evaluator, model_device
from clep.evaluation.ranks import is_first_rank
from clep.files import atomic_path, write_json
from clep.metrics.ava import counted_actions, measure_ava
from clep.metrics.ava_files import AVA_ACTIONS, AvaBoxes, read_annotations, read_excluded
from clep.models import ActionClassifier

log = logging.getLogger(__name__)


class AvaRegions(Evaluator):
    """`ava/mAP` in percent: each region of a bank is scored for each action, and measured as detections are.

    Args:
        source: the regions, "detected" ones by AVA's rules.
        groundtruth: csv of lines video,second,x1,y1,x2,y2,action,person, e.g. ava_val_v2.2.csv.
        label_map: which actions count; None for the 60 of the challenge.
        excluded: csv of lines video,second: frames to leave out.
        clips: where pixels come from, for a model that reads them.
        out: folder of results.csv (video,second,x1,y1,x2,y2,action,score, as `python -m clep.evaluate evaluator=ava`
            reads it) and per_class.json; None for neither.
        least_score: lower scores are no detections.
        batch_size: regions scored at once.
        device: where the banks lie, "disk" or "cpu".
    """

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
    ) -> None:
        super().__init__(batch_size)
        self.source, self.clips, self.device = source, clips, device
        self.groundtruth, self.label_map, self.excluded = groundtruth, label_map, excluded
        self.out = Path(out) if out else None
        self.least_score = float(least_score)

    def measure(self, model: Any) -> dict[str, float]:
        """Return the frame mAP; writes the detections and the figures of each action where `out` says.

        Raises:
            InputError: the model is no action classifier, or was trained on the bank of another encoder; a file is
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
            result = measure_ava(truth, found, names, excluded)
        except InputError as error:
            raise InputError(f"{self.groundtruth}: {error}") from error
        self.coverage = {
            "regions": len(dataset),
            "videos without context": len(dataset.without_context),
            "actions the model does not know": len(set(names) - set(model.classes)),
            **result.coverage,
        }
        if self.out is not None and is_first_rank():
            write_detections(self.out / "results.csv", found)
            per_class = {f"ava/AP/{action}": value for action, value in result.per_class.items()}
            write_json(self.out / "per_class.json", {"ava/mAP": result.mean} | per_class)
        return {"ava/mAP": result.mean}

    def _dataset(self, model: ActionClassifier) -> RegionDataset:
        bank_encoder, context_encoder = self.source.encoders
        if model.short is None:
            model.check_bank(bank_encoder)
        trained_with = model.metadata.get("context_encoder")
        if trained_with and context_encoder and trained_with != context_encoder:
            raise InputError(
                f"the model was trained with a context of {trained_with!r}, and {self.source.context_path} holds "
                f"features of {context_encoder!r}; make the bank with {trained_with!r}"
            )
        clips = None
        if model.short is not None:
            if self.clips is None:
                raise InputError("the model reads clips: give evaluator.ava.clips (short=clips)")
            clips = self.clips.fitting(model.short.encoder)
        context = LongTerm.of_model(model.metadata) or LongTerm(per_second=5).fixed()
        return self.source.open(model.classes, context, self.device, clips)

    def _scores(
        self, model: ActionClassifier, dataset: RegionDataset, index: Int64[Tensor, " batch"]
    ) -> Float[Tensor, "batch classes"]:
        batch = dataset.gather(dataset.numbers(index))
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
            second=regions.second[own].astype(np.int64),
            box=regions.box[own].astype(np.float64),
            label=np.array(classes, np.int64)[column],
            score=scores[region, column].astype(np.float64),
        )


def write_detections(path: str | Path, found: AvaBoxes) -> None:
    """Write detections as AVA's csv, whole or not at all; numbers are written so that they are read back as they are.

    Raises:
        InputError: the disk is full, or the folder cannot be written to.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(_lines(found))


def _lines(found: AvaBoxes) -> Iterator[str]:
    assert found.score is not None
    columns = (found.video, found.second, found.box, found.label, found.score)
    for video, second, box, label, score in zip(*(column.tolist() for column in columns), strict=True):
        yield f"{found.videos[video]},{second},{','.join(map(repr, box))},{label},{score!r}\n"
