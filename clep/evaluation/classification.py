"""Zero-shot classification of clips by sentences: of your own table, EPIC-KITCHENS-100, and EGTEA Gaze+."""

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor

from clep.datasets.clip_spans import ClipSpans
from clep.datasets.clip_table import ClipTable, read_clip_table
from clep.datasets.egtea import read_egtea_split
from clep.datasets.epic_retrieval import EpicActionClasses, epic_action_classes, read_epic_actions
from clep.errors import InputError
from clep.evaluation.clip_text import ClipTextBenchmark, Similarity
from clep.evaluation.details import Detail, classification_details, precision_details
from clep.metrics import charades_map, classification_metrics, mean_class_accuracy, topk_accuracy
from clep.text.prompts import average_prompts, class_prompts, read_templates
from clep.text.texts import distinct_texts

log = logging.getLogger(__name__)

Views = Literal["mean", "max"]


@dataclass(frozen=True)
class ClassifiedClips:
    """Clips with one class each, and the texts that describe the classes.

    Attributes:
        spans: the clips.
        label: class of each, -1 where it is none of the classes; or with several labels per clip, a mask of them.
        texts: of each class.
    """

    spans: ClipSpans
    label: Int64[np.ndarray, " clips"] | Bool[np.ndarray, "clips classes"]
    texts: Sequence[Sequence[str]]


class ClipClassification(ClipTextBenchmark):
    """Base class: scores clips against class vectors. Subclasses define `clips` and `summarize`.

    A class vector is the mean over its prompts, each template with each text of the class (`average_prompts`). Clips
    whose class is not among the classes are left out and counted.

    Args:
        bank, texts, similarity, batch_size: see `ClipTextBenchmark`.
        templates: prompt, or several of them, with `{}` for the text of a class; or a text file (.txt), one per line.
        views: what the rows of a clip are. "mean": parts of the clip, which are averaged before they are compared;
            "max": views of it, which are compared by themselves, the highest score of each class counts.

    Raises:
        InputError: another `views`.
    """

    def __init__(
        self,
        bank: str | Path,
        texts: str | Path | None,
        templates: str | Path | Sequence[str] = "{}",
        views: Views = "mean",
        similarity: Similarity = "model",
        batch_size: int = 4096,
    ) -> None:
        super().__init__(bank, texts, similarity, batch_size)
        if views not in ("mean", "max"):
            raise InputError(f"views={views!r}; choose mean or max")
        self.templates, self.views = templates, views

    @property
    @abstractmethod
    def clips(self) -> ClassifiedClips:
        """The clips, their labels and the texts of the classes, read once."""

    @abstractmethod
    def summarize(
        self, scores: Float[Tensor, "clips classes"], label: Shaped[Tensor, "clips *classes"], scale: float
    ) -> dict[str, float]:
        """Return metrics by full name.

        Args:
            scores: similarity of each clip to each class.
            label: class of each clip, or a mask of its classes.
            scale: the model's multiplier of similarities.
        """

    def measure(self, model: Any) -> dict[str, float]:
        """Return the metrics of `summarize` over the clips that have features and a known class.

        Raises:
            InputError: as `ClipTextBenchmark`; or no clip is left.
        """
        clips = self.clips
        known = np.flatnonzero(clips.label >= 0 if clips.label.ndim == 1 else clips.label.any(axis=1))
        if not len(known):
            raise InputError(f"no clip of {self.title} has one of its {len(clips.texts)} classes")
        prompts, owner = class_prompts(clips.texts, self.templates)
        sentences, index = distinct_texts(prompts)
        with self.compared(model) as dual:
            found = self.encode_clips(dual, clips.spans.select(known), self.views == "max")
            text = self.encode_sentences(dual, sentences)[torch.from_numpy(index)]
            owners = torch.from_numpy(owner).to(text.device)
            vectors = average_prompts(text, owners, len(clips.texts), dual.normalize)
            scale = float(dual.logit_scale)
        by_row = (found.rows.float() @ vectors.T).cpu()
        position = torch.from_numpy(np.searchsorted(found.kept, found.clip))[:, None].expand_as(by_row)
        scores = by_row.new_full((len(found.kept), len(clips.texts)), -torch.inf)
        scores.scatter_reduce_(0, position, by_row, "amax")
        self.coverage |= {
            "clips": len(clips.spans),
            "clips of other classes": len(clips.spans) - len(known),
            "classes": len(clips.texts),
            "views": len(found.rows),
        }
        label = torch.from_numpy(clips.label[known][found.kept])
        metrics = self.summarize(scores, label, scale)
        ids = [clips.spans.ids[index] for index in known[found.kept].tolist()]
        self.record(lambda: self._details(next(iter(metrics)), scores, label, ids, scale))
        return metrics

    def _details(
        self,
        metric: str,
        scores: Float[Tensor, "clips classes"],
        label: Shaped[Tensor, "clips *classes"],
        ids: Sequence[str],
        scale: float,
    ) -> list[Detail]:
        """Return the details of clips with one label or with several; `metric` is the name of one of the metrics."""
        prefix, names = metric.rpartition("/")[0], [texts[0] for texts in self.clips.texts]
        if label.ndim == 1:
            return classification_details(prefix, scores, label, ids, names, scale)
        targets = label.numpy()
        return [
            precision_details(
                prefix, len(targets), names, targets.sum(0, dtype=np.int64), charades_map(scores, label)[1]
            )
        ]


class ZeroShotClassification(ClipClassification):
    """`zeroshot/<name>/<top1|top5|mean_class_accuracy>` in percent, on your own table.

    If a clip has several labels: `zeroshot/<name>/mAP`, the mean over classes of their average precision, with scores
    compared across clips (`charades_map`). Classes without clips are excluded from means over classes, and counted.

    Args:
        table: csv, tsv, parquet or jsonl with `label` and `clip`, or `video`, `start` and `end` for clips that are
            spans of videos in the bank; see `read_clip_table`.
        bank, texts, options: see `ClipClassification`.
        classes: text file with one class name per line, in the order of the indices; None: the sorted labels.
        columns: names of the table's columns where they differ, e.g. `{"label": "action"}`.
        name: of the metrics.

    Examples:
        >>> from clep.evaluation import ZeroShotClassification
        >>> from clep.models import DualEncoder
        >>> evaluator = ZeroShotClassification("clips.csv", "features.h5", templates="the camera wearer {} this")
        >>> sorted(evaluator.run(DualEncoder.from_pretrained("model")))
        ['zeroshot/table/mean_class_accuracy', 'zeroshot/table/top1', 'zeroshot/table/top5']
    """

    reads = ("table", "classes", "bank", "texts")
    job = "table_classification"

    def __init__(
        self,
        table: str | Path,
        bank: str | Path,
        texts: str | Path | None = None,
        classes: str | Path | Sequence[str] | None = None,
        columns: Mapping[str, str | None] | None = None,
        name: str = "table",
        **options: Any,
    ) -> None:
        super().__init__(bank, texts, **options)
        self.table_path, self.classes_path, self.columns, self.name = table, classes, columns, name

    @property
    def title(self) -> str:
        """Name of the table in messages."""
        return str(self.table_path)

    @cached_property
    def table(self) -> ClipTable:
        """The table, read once."""
        table = read_clip_table(self.table_path, self.classes_path, self.columns, f"evaluator.{self.job}.columns")
        if unused := table.unused_classes:
            shown = ", ".join(map(repr, unused[:3])) + (", …" if len(unused) > 3 else "")
            log.warning("%s: %d of %d classes have no clip: %s", table.path, len(unused), len(table.classes), shown)
        return table

    @property
    def clips(self) -> ClassifiedClips:
        """The clips of the table; the text of a class is its name."""
        table = self.table
        label = table.targets if table.has_several_labels else table.label
        return ClassifiedClips(table.spans, label, [[name] for name in table.classes])

    @property
    def prompts(self) -> dict[str, list[list[str]]]:
        """The prompts of each class."""
        templates = read_templates(self.templates)
        return {self.name: [[one.replace("{}", name) for one in templates] for name in self.table.classes]}

    def summarize(
        self, scores: Float[Tensor, "clips classes"], label: Shaped[Tensor, "clips *classes"], scale: float
    ) -> dict[str, float]:
        """Return top-1, top-5 and the mean over classes of their accuracy; or mAP for clips with several labels."""
        table = self.table
        self.coverage |= {"classes without clips": len(table.unused_classes), "repeated rows": table.repeated}
        found = {"mAP": charades_map(scores, label)[0]} if label.ndim == 2 else classification_metrics(scores, label)
        return {f"zeroshot/{self.name}/{metric}": value for metric, value in found.items()}


class EpicZeroShot(ClipClassification):
    """`ek100_cls/<action|verb|noun>/<top1|top5>` in percent: zero-shot EPIC-KITCHENS-100, as LaViLa measures it.

    A class is a pair of verb and noun class that occurs in the splits; its prompts are its distinct narrations. LaViLa
    reports actions only. The score of a verb or noun is the sum of its actions' probabilities, a softmax over all
    actions of the similarities times the model's scale.

    Args:
        clips: path of `EPIC_100_validation.csv`.
        train: path of `EPIC_100_train.csv`, whose pairs are classes too; None for those of `clips` alone, which makes
            the task easier than the published one.
        bank, texts, options: see `ClipClassification`; texts come from `python -m clep.preprocess epic_zero_shot`.

    Examples:
        >>> from clep.evaluation import EpicZeroShot
        >>> from clep.models import DualEncoder
        >>> evaluator = EpicZeroShot("epic/clips.csv", "epic/features.h5", "epic/classes.h5")
        >>> metrics = evaluator.run(DualEncoder.from_pretrained("model"))
        >>> "ek100_cls/action/top1" in metrics, evaluator.coverage["clips"]
        (True, 30)
    """

    reads = ("clips", "train", "bank", "texts")
    job = "epic_zero_shot"

    def __init__(
        self,
        clips: str | Path,
        bank: str | Path,
        texts: str | Path,
        train: str | Path | None = None,
        **options: Any,
    ) -> None:
        super().__init__(bank, texts, **options)
        self.clips_path, self.train_path = clips, train

    @cached_property
    def _files(self) -> tuple[EpicActionClasses, ClassifiedClips]:
        actions = read_epic_actions(self.clips_path)
        splits = [actions] if self.train_path is None else [read_epic_actions(self.train_path), actions]
        classes = epic_action_classes(splits)
        return classes, ClassifiedClips(actions.spans, classes.index(actions), classes.narrations)

    @property
    def clips(self) -> ClassifiedClips:
        """The clips; the texts of a class are its distinct narrations."""
        return self._files[1]

    def summarize(
        self, scores: Float[Tensor, "clips classes"], label: Shaped[Tensor, "clips *classes"], scale: float
    ) -> dict[str, float]:
        """Return top-1 and top-5 of actions, verbs and nouns."""
        pairs = torch.tensor(self._files[0].pairs)
        probability = (scores * scale).softmax(dim=1)
        metrics = {f"ek100_cls/action/top{k}": value for k, value in topk_accuracy(scores, label, (1, 5)).items()}
        for name, of_action in (("verb", pairs[:, 0]), ("noun", pairs[:, 1])):
            ids, column = of_action.unique(return_inverse=True)
            summed = probability.new_zeros(len(scores), len(ids)).index_add_(1, column, probability)
            found = topk_accuracy(summed, column[label], (1, 5))
            metrics |= {f"ek100_cls/{name}/top{k}": value for k, value in found.items()}
        return metrics


class EGTEAZeroShot(ClipClassification):
    """`egtea/mean_class_accuracy` and `egtea/top1` in percent: zero-shot EGTEA Gaze+, as LaViLa measures it.

    Args:
        split: path of `test_split1.txt`.
        actions: path of `action_idx.txt`.
        bank: path of a feature bank of the clips, one row per view (LaViLa: 10 times x 3 crops), or of their videos.
        texts, options: see `ClipClassification`; texts come from `python -m clep.preprocess egtea`.
        views: the published evaluation is "max".

    Examples:
        >>> from clep.evaluation import EGTEAZeroShot
        >>> from clep.models import DualEncoder
        >>> evaluator = EGTEAZeroShot("egtea/split.txt", "egtea/actions.txt", "egtea/features.h5", "egtea/sentences.h5")
        >>> sorted(evaluator.run(DualEncoder.from_pretrained("model")))
        ['egtea/mean_class_accuracy', 'egtea/top1']
    """

    reads = ("split", "actions", "bank", "texts")
    job = "egtea"

    def __init__(
        self,
        split: str | Path,
        actions: str | Path,
        bank: str | Path,
        texts: str | Path,
        views: Views = "max",
        **options: Any,
    ) -> None:
        super().__init__(bank, texts, views=views, **options)
        self.split, self.actions = split, actions

    @cached_property
    def clips(self) -> ClassifiedClips:
        """The clips of the split; the text of a class is the name of its action."""
        found = read_egtea_split(self.split, self.actions)
        assert found.clips.label is not None
        return ClassifiedClips(found.spans, found.clips.label, [[name] for name in found.clips.classes])

    def summarize(
        self, scores: Float[Tensor, "clips classes"], label: Shaped[Tensor, "clips *classes"], scale: float
    ) -> dict[str, float]:
        """Return the mean over classes of their accuracy, and the accuracy over clips."""
        return {
            "egtea/mean_class_accuracy": mean_class_accuracy(scores, label),
            "egtea/top1": topk_accuracy(scores, label, (1,))[1],
        }
