"""Classification on frozen features, without a model: a linear probe, and nearest neighbours."""

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from clep.bank import FeatureBank
from clep.datasets.clip_spans import ClipSpans
from clep.datasets.clip_table import ClipTable, read_clip_table
from clep.datasets.labelled_clips import LabelledClips
from clep.errors import InputError
from clep.evaluation.clip_text import find_clips
from clep.evaluation.details import classification_details
from clep.evaluation.evaluator import Evaluator
from clep.metrics import classification_metrics, topk_accuracy

_ROWS_AT_ONCE = 2048


@dataclass(frozen=True)
class LabelledRows:
    """Features of clips, averaged over their rows, and their classes.

    Attributes:
        rows: one per clip.
        label: class of each clip.
        missing: clips that the bank lacks.
    """

    rows: Float[Tensor, "clips dim"]
    label: Int64[Tensor, " clips"]
    missing: int


class FrozenFeatures(Evaluator):
    """Base class: classifies the clips of a test list by those of a training list, from a bank alone.

    The model is not used. Clips that the banks lack are left out and counted.

    Args:
        train, test: tables of labelled clips, see `read_clip_table`, or a `clips.h5`, with one label per clip.
        bank: path of a feature bank of the clips or of their videos.
        test_bank: path of that of the test clips; None for the same.
        classes: text file of class names, one per line; None: the sorted labels of `train`.
        name: of the metrics.
    """

    depends_on_model = False
    reads = ("train", "test", "bank", "test_bank", "classes")
    prefix = ""

    def __init__(
        self,
        train: str | Path,
        test: str | Path,
        bank: str | Path,
        test_bank: str | Path | None = None,
        classes: str | Path | None = None,
        name: str = "table",
    ) -> None:
        super().__init__()
        self.train_path, self.test_path, self.bank_path = Path(train), Path(test), Path(bank)
        self.test_bank_path, self.classes_path, self.name = Path(test_bank or bank), classes, name

    @abstractmethod
    def scores(
        self, train: LabelledRows, test: Float[Tensor, "clips dim"], classes: int
    ) -> Float[Tensor, "clips classes"]:
        """Return the score of each class for each test clip."""

    def measure(self, model: Any) -> dict[str, float]:
        """Return `<top1|top5|mean_class_accuracy>` in percent.

        Raises:
            InputError: a file is missing or wrong, a bank has none of the clips, or the banks differ in dimension or
                encoder.
        """
        known = _table(self.train_path, self.classes_path)
        train = labelled_rows(self.bank_path, known)
        test = labelled_rows(self.test_bank_path, _table(self.test_path, list(known.classes)))
        if train.rows.shape[1] != test.rows.shape[1]:
            raise InputError(
                f"{self.bank_path} has {train.rows.shape[1]} dimensions and {self.test_bank_path} has "
                f"{test.rows.shape[1]}; make both banks with one encoder"
            )
        self.coverage = {
            "training clips": len(train.rows) + train.missing,
            "training clips with features": len(train.rows),
            "clips": len(test.rows) + test.missing,
            "clips with features": len(test.rows),
            "classes": len(known.classes),
        }
        scores = self.scores(train, test.rows, len(known.classes))
        self.refuse_nan(scores, "clips")
        found = classification_metrics(scores, test.label)
        prefix, ids = f"{self.prefix}/{self.name}", [str(index) for index in range(len(test.label))]
        self.record(lambda: classification_details(prefix, scores, test.label, ids, known.classes))
        return {f"{self.prefix}/{self.name}/{metric}": value for metric, value in found.items()}


class LinearProbe(FrozenFeatures):
    """`probe/<name>/<top1|top5|mean_class_accuracy>` in percent, of a linear classifier on frozen features.

    One classifier per learning rate is trained, all at once, on standardised features; the learning rate and the epoch
    with the highest accuracy on a held-out part of the training clips are taken (see `fit_linear_probe`).

    Args:
        train, test, bank, options: see `FrozenFeatures`.
        learning_rates: to choose from.
        held_out: fraction of the training clips to choose by, at least one of each class that has two or more.
        max_epochs: passes over the training clips.
        patience: epochs without a better accuracy after which training stops.
        batch_size: clips per step.
        seed: of the held-out part and of the order of the clips.

    Examples:
        >>> from clep.evaluation import LinearProbe
        >>> from clep.models import DualEncoder
        >>> probe = LinearProbe("clips.csv", "clips.csv", "features.h5", learning_rates=[1e-2], max_epochs=5)
        >>> sorted(probe.run(DualEncoder.from_pretrained("model")))  # the model is not used
        ['probe/table/mean_class_accuracy', 'probe/table/top1', 'probe/table/top5']
    """

    prefix = "probe"

    def __init__(
        self,
        train: str | Path,
        test: str | Path,
        bank: str | Path,
        learning_rates: list[float] | tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
        held_out: float = 0.1,
        max_epochs: int = 100,
        patience: int = 10,
        batch_size: int = 1024,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(train, test, bank, **options)
        if not learning_rates or min(learning_rates) <= 0:
            raise InputError(f"learning_rates={list(learning_rates)} must be positive numbers, at least one")
        if not 0 < held_out < 1 or max_epochs < 1 or patience < 1 or batch_size < 1:
            raise InputError("held_out must lie between 0 and 1, max_epochs, patience and batch_size be at least 1")
        self.learning_rates, self.held_out = tuple(learning_rates), held_out
        self.max_epochs, self.patience, self.batch_size, self.seed = max_epochs, patience, batch_size, seed

    def scores(
        self, train: LabelledRows, test: Float[Tensor, "clips dim"], classes: int
    ) -> Float[Tensor, "clips classes"]:
        """Return the logits of the chosen classifier."""
        fit, chosen = fit_linear_probe(
            *(train.rows, train.label, classes, self.learning_rates, self.held_out),
            *(self.max_epochs, self.patience, self.batch_size, self.seed),
        )
        self.coverage |= chosen
        return fit(test)


class NearestNeighbours(FrozenFeatures):
    """`knn/<name>/<top1|top5|mean_class_accuracy>` in percent, by the classes of the most similar training clips.

    Each of the `k` training clips with the highest cosine votes for its class with exp(cosine / temperature), as in the
    evaluation of DINO (Caron et al. 2021).

    Args:
        train, test, bank, options: see `FrozenFeatures`.
        k: neighbours that vote; all where there are fewer.
        temperature: the lower, the more the nearest ones count.

    Examples:
        >>> from clep.evaluation import NearestNeighbours
        >>> from clep.models import DualEncoder
        >>> evaluator = NearestNeighbours("clips.csv", "clips.csv", "features.h5", k=1)
        >>> evaluator.run(DualEncoder.from_pretrained("model"))["knn/table/top1"]  # each clip is its own neighbour
        100.0
    """

    prefix = "knn"

    def __init__(
        self,
        train: str | Path,
        test: str | Path,
        bank: str | Path,
        k: int = 20,
        temperature: float = 0.07,
        **options: Any,
    ) -> None:
        super().__init__(train, test, bank, **options)
        if k < 1 or not temperature > 0:
            raise InputError(f"k={k} must be at least 1 and temperature={temperature} above 0")
        self.k, self.temperature = k, temperature

    def scores(
        self, train: LabelledRows, test: Float[Tensor, "clips dim"], classes: int
    ) -> Float[Tensor, "clips classes"]:
        """Return the votes for each class."""
        gallery = functional.normalize(train.rows, dim=-1)
        votes = []
        for rows in functional.normalize(test, dim=-1).split(_ROWS_AT_ONCE):
            similarity, neighbour = (rows @ gallery.T).topk(min(self.k, len(gallery)), dim=1)
            # Relative to the nearest, which changes no order and keeps exp() in range.
            weight = ((similarity - similarity[:, :1]) / self.temperature).exp()
            votes.append(weight.new_zeros(len(rows), classes).scatter_add_(1, train.label[neighbour], weight))
        return torch.cat(votes)


def labelled_rows(bank_path: str | Path, table: ClipTable) -> LabelledRows:
    """Return the features of labelled clips in float32.

    Raises:
        InputError: the bank is missing, or has none of the clips.
    """
    bank = FeatureBank.open(bank_path)
    kept, _, first, last, _ = find_clips(bank, table.spans, "centre", str(table.path))
    if not len(kept):
        raise InputError(
            f"{bank.path} has none of the {len(table.spans)} labelled clips ({table.spans.ids[0]!r}, …); its ids are "
            f"{list(bank.videos[:3])}"
        )
    rows = torch.cat(
        [bank.mean(first[part], last[part]).cpu() for part in torch.arange(len(kept)).split(_ROWS_AT_ONCE)]
    )
    return LabelledRows(rows, torch.from_numpy(table.label)[kept], len(table.spans) - len(kept))


def fit_linear_probe(
    rows: Float[Tensor, "clips dim"],
    label: Int64[Tensor, " clips"],
    classes: int,
    learning_rates: tuple[float, ...],
    held_out: float,
    max_epochs: int,
    patience: int,
    batch_size: int,
    seed: int,
) -> tuple[Any, dict[str, float | int]]:
    """Train linear classifiers with Adam and return the best one on a held-out part of the clips.

    Args:
        rows, label: of the training clips.
        classes: number of classes.
        learning_rates, held_out, max_epochs, patience, batch_size, seed: see `LinearProbe`.

    Returns:
        A function from rows to logits, and what was chosen: learning rate, epoch, held-out clips, their top-1.

    Raises:
        InputError: too few clips to hold any out.
    """
    generator = torch.Generator().manual_seed(seed)
    check = _held_out(label, held_out, generator)
    if not check.any() or check.all():
        raise InputError(f"{len(label)} training clips are too few to hold some out; raise held_out, or give more")
    mean, std = rows[~check].mean(0), rows[~check].std(0, correction=0).clamp(min=1e-6)
    standard = (rows - mean) / std
    train, target = standard[~check], label[~check]
    rates = torch.tensor(learning_rates)[:, None, None]
    weight = torch.zeros(len(learning_rates), rows.shape[1] + 1, classes)
    first, second = torch.zeros_like(weight), torch.zeros_like(weight)
    best: tuple[float, Tensor, float, int] = (-1.0, weight[0], learning_rates[0], 0)
    step = 0
    for epoch in range(1, max_epochs + 1):
        for batch in torch.randperm(len(train), generator=generator).split(batch_size):
            step += 1
            inputs = functional.pad(train[batch], (0, 1), value=1.0)
            probability = (inputs @ weight).softmax(dim=2)
            probability[:, torch.arange(len(batch)), target[batch]] -= 1
            gradient = inputs.T @ probability / len(batch)
            first.lerp_(gradient, 0.1)
            second.lerp_(gradient.square(), 0.001)
            scaled = (second / (1 - 0.999**step)).sqrt_().add_(1e-8)
            weight -= rates * (first / (1 - 0.9**step)) / scaled
        logits = functional.pad(standard[check], (0, 1), value=1.0) @ weight
        accuracy = [topk_accuracy(one, label[check], (1,))[1] for one in logits]
        top = int(np.argmax(accuracy))
        if accuracy[top] > best[0]:
            best = (accuracy[top], weight[top].clone(), learning_rates[top], epoch)
        elif epoch - best[3] >= patience:
            break
    chosen = {
        "learning rate": best[2],
        "epoch": best[3],
        "held-out clips": int(check.sum()),
        "held-out top1": round(best[0], 2),
    }

    def predict(other: Float[Tensor, "clips dim"]) -> Float[Tensor, "clips classes"]:
        return functional.pad((other - mean) / std, (0, 1), value=1.0) @ best[1]

    return predict, chosen


def _held_out(label: Int64[Tensor, " clips"], fraction: float, generator: torch.Generator) -> Tensor:
    """Mask of held-out clips: of each class with two or more, the fraction, at least one, never all."""
    mask = torch.zeros(len(label), dtype=torch.bool)
    order = torch.randperm(len(label), generator=generator)
    for value in label.unique():
        own = order[label[order] == value]
        count = min(len(own) - 1, max(1, round(fraction * len(own))))
        mask[own[: max(count, 0)]] = True
    return mask


def _table(path: Path, classes: str | Path | list[str] | None) -> ClipTable:
    if path.suffix != ".h5":
        return read_clip_table(path, classes)
    clips = LabelledClips.open(path)
    if clips.label is None:
        raise InputError(f"{path} has several labels per clip; a probe needs one")
    if isinstance(classes, list) and classes != clips.classes:
        raise InputError(
            f"{path} has other classes than the training clips, or the same in another order; make both lists with "
            "the same class names"
        )
    unknown = np.full(len(clips), np.nan)
    return ClipTable(
        path, ClipSpans(clips.ids, clips.ids, unknown, unknown), [(one,) for one in clips.label.tolist()], clips.classes
    )
