"""Zero-shot classification: clips are compared with the prompts of classes."""

import logging
from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from clep.bank import FeatureBank
from clep.checksums import read_checked_json
from clep.data import LabelledClips, LongTerm, Window
from clep.data.feature_check import check_bank
from clep.errors import InputError
from clep.evaluation.details import Detail, classification_details, precision_details
from clep.evaluation.evaluator import Evaluator, model_device
from clep.metrics import charades_map, topk_accuracy
from clep.models import DualEncoder, evaluating
from clep.text import average_templates

log = logging.getLogger(__name__)


class ZeroShot(Evaluator):
    """Base class: scores labelled clips against class prompts. Subclasses define `score`.

    The video side of a clip is the window over all its rows. For a model with a long-term context, the context is taken
    around the middle of the clip, from the clip itself.

    Args:
        folder: output of `python -m clep.preprocess kinetics` or `ego_charades`: `clips.h5`, `features.h5`,
            `prompts.json` and `prompts.<text encoder>.h5`.
        text_encoder: name of the sentence encoder of the prompt embeddings.
        features: path of another feature bank; None for the one in `folder`.
        batch_size: clips encoded at once.
    """

    reads = ("folder", "features")

    def __init__(
        self, folder: str | Path, text_encoder: str, features: str | Path | None = None, batch_size: int = 4096
    ) -> None:
        super().__init__(batch_size)
        self.folder, self.text_encoder = Path(folder), text_encoder
        self._features = Path(features) if features else self.folder / "features.h5"
        self._opened: tuple[LabelledClips, FeatureBank, FeatureBank] | None = None
        self.scale = 1.0  # of the model that was measured last

    @property
    def prompts(self) -> dict[str, list[list[str]]]:
        """The prompts of each class, by prompt set."""
        return self._listing()["sets"]

    @abstractmethod
    def score(
        self, clips: LabelledClips, scores: dict[str, Float[Tensor, "clips classes"]], kept: list[int]
    ) -> dict[str, float]:
        """Return metrics from the score matrix of each prompt set; `kept` are the indices of clips with features."""

    def measure(self, model: DualEncoder) -> dict[str, float]:
        """Return the zero-shot metrics of `model`."""
        clips, kept, scores = self._scores(model)
        self.scale = float(model.logit_scale)
        return self.score(clips, scores, kept)

    def scores(self, model: DualEncoder) -> tuple[LabelledClips, list[int], dict[str, Float[Tensor, "clips classes"]]]:
        """Return the clips, the indices of those with features, and their score matrix for each prompt set.

        Raises:
            InputError: files are missing or damaged, do not belong to the model, or no clip has features.
        """
        with evaluating(model):
            return self._scores(model)

    def _scores(self, model: DualEncoder) -> tuple[LabelledClips, list[int], dict[str, Float[Tensor, "clips classes"]]]:
        clips, bank, prompts = self._open()
        check_bank(model, bank)
        model.check_sentence_encoder(prompts.encoder or self.text_encoder)
        device, window = model_device(model), Window.of_model(model.metadata)
        context = LongTerm.of_model(model.metadata)
        index = bank.index(clips.ids).cpu()
        kept = torch.nonzero(index >= 0).squeeze(1)
        if not len(kept):
            raise InputError(
                f"{bank.path} has features for none of the {len(clips.ids)} clips of {self.folder}; do the ids match?"
            )
        video_index = index[kept]
        first, last = bank.first_row[video_index], bank.first_row[video_index + 1]
        middle_s = None if context is None else bank.end_s[video_index] / 2

        def encode_clips(which: Tensor) -> Tensor:
            batch = window.gather(bank, first[which], last[which])
            if context is not None and middle_s is not None:
                batch |= context.gather(bank, video_index[which], middle_s[which])
            return model.encode_video({key: value.to(device) for key, value in batch.items()})

        at_once = self.batch_size if context is None else context.at_once(self.batch_size)
        video = self.encode(len(kept), encode_clips, at_once)
        scores = {name: (video @ self._classifier(model, prompts, name).T).cpu() for name in prompts.videos}
        self.coverage = {
            "clips": len(clips.ids),
            "clips with features": len(kept),
            "classes": len(clips.classes),
            "prompt sets": len(scores),
        }
        return clips, kept.tolist(), scores

    def _classifier(self, model: DualEncoder, prompts: FeatureBank, name: str) -> Float[Tensor, "classes dim"]:
        """Return one vector per class: the mean of its prompt embeddings, normalised if the model normalises."""
        if model.reads_tokens:
            sentences = [sentence for of_class in self.prompts[name] for sentence in of_class]
            embedded = model.encode_sentences(sentences)
        else:
            embedded = model.encode_text({"text": prompts.video_rows(name).to(model_device(model))})
        self.refuse_nan(embedded, "prompts")
        templates = embedded.unflatten(0, (len(self._open()[0].classes), -1))
        return average_templates(templates) if model.normalize else templates.mean(1)

    def _listing(self) -> dict[str, Any]:
        path = self.folder / "prompts.json"
        listing = read_checked_json(path)
        if not isinstance(listing.get("sets"), dict):
            raise InputError(
                f"{path} is not a file of prompts: it needs 'classes' and 'sets'; delete it and make it again"
            )
        return listing

    def _open(self) -> tuple[LabelledClips, FeatureBank, FeatureBank]:
        if self._opened is None:
            clips = LabelledClips.open(self.folder / "clips.h5")
            prompts = FeatureBank.open(self.folder / f"prompts.{self.text_encoder}.h5")
            if (self.folder / "prompts.json").is_file() and self._listing().get("classes") != clips.classes:
                raise InputError(
                    f"{self.folder / 'prompts.json'} has other classes than {self.folder / 'clips.h5'}, or another "
                    f"order of them; make both again with `python -m clep.preprocess {clips.task} overwrite=true`"
                )
            for name in prompts.videos:
                if len(prompts.video_rows(name)) % len(clips.classes):
                    raise InputError(
                        f"{prompts.path} has {len(prompts.video_rows(name))} prompts of set {name!r}, not a multiple "
                        f"of the {len(clips.classes)} classes of {self.folder / 'clips.h5'}; make both again with "
                        f"`python -m clep.preprocess {clips.task} overwrite=true`"
                    )
            self._opened = clips, FeatureBank.open(self._features), prompts
        return self._opened

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}


class KineticsZeroShot(ZeroShot):
    """`zeroshot/kinetics/top1` and `top5` in percent, over the clips with features.

    Examples:
        >>> from clep.evaluation import KineticsZeroShot
        >>> from clep.models import DualEncoder
        >>> evaluator = KineticsZeroShot("kinetics", "all-tiny-v1")
        >>> sorted(evaluator.run(DualEncoder.from_pretrained("model")))
        ['zeroshot/kinetics/top1', 'zeroshot/kinetics/top5']
    """

    def score(
        self, clips: LabelledClips, scores: dict[str, Float[Tensor, "clips classes"]], kept: list[int]
    ) -> dict[str, float]:
        """Return the accuracies with the prompt set "prompt"."""
        if clips.label is None:
            raise InputError(f"{self.folder / 'clips.h5'} has several labels per clip; use EgoCharadesZeroShot")
        if "prompt" not in scores:
            raise InputError(
                f"{self.folder / f'prompts.{self.text_encoder}.h5'} lacks the prompt set 'prompt' and has "
                f"{', '.join(scores)}; make it again with `python -m clep.preprocess kinetics overwrite=true`"
            )
        target = torch.as_tensor(clips.label)[kept]
        accuracy = topk_accuracy(scores["prompt"], target, ks=(1, 5))
        ids = [clips.ids[index] for index in kept]
        self.record(
            lambda: classification_details(
                "zeroshot/kinetics", scores["prompt"], target, ids, clips.classes, self.scale
            )
        )
        return {f"zeroshot/kinetics/top{k}": value for k, value in accuracy.items()}


class EgoCharadesZeroShot(ZeroShot):
    """`zeroshot/ego_charades/<ego|exo|all>/<label|ego_prompt|exo_prompt>/mAP` in percent.

    Scores are ranked across videos, without a softmax over the classes of a video. A class without a positive video in
    a subset is excluded from the mean of that subset; `coverage` counts such classes.

    Examples:
        >>> from clep.evaluation import EgoCharadesZeroShot
        >>> from clep.models import DualEncoder
        >>> metrics = EgoCharadesZeroShot("ego_charades", "all-tiny-v1").run(DualEncoder.from_pretrained("model"))
        >>> "zeroshot/ego_charades/ego/label/mAP" in metrics
        True
    """

    def score(
        self, clips: LabelledClips, scores: dict[str, Float[Tensor, "clips classes"]], kept: list[int]
    ) -> dict[str, float]:
        """Return the mean average precision of each subset and prompt set."""
        if clips.labels is None or clips.first_person is None:
            raise InputError(
                f"{self.folder / 'clips.h5'} lacks label matrix or first-person flags; "
                f"make it with `python -m clep.preprocess ego_charades`"
            )
        targets, first_person = np.asarray(clips.labels)[kept], np.asarray(clips.first_person)[kept]
        subsets = {"ego": first_person, "exo": ~first_person, "all": np.ones_like(first_person)}
        metrics: dict[str, float] = {}
        for subset, chosen in subsets.items():
            self.coverage[f"{subset} videos"] = int(chosen.sum())
            if not targets[chosen].any():
                log.warning("%s has no labelled %s videos; their mAP is omitted", self.folder, subset)
                continue
            self.coverage[f"{subset} classes without positives"] = int((~targets[chosen].any(0)).sum())
            for name, matrix in scores.items():
                mean, each = charades_map(matrix.numpy()[chosen], targets[chosen])
                prefix = f"zeroshot/ego_charades/{subset}/{name}"
                metrics[f"{prefix}/mAP"] = mean
                self.record(partial(_precision, prefix, clips.classes, targets[chosen], each))
        return metrics


def _precision(prefix: str, classes: Sequence[str], targets: np.ndarray, each: np.ndarray) -> list[Detail]:
    return [precision_details(prefix, len(targets), classes, targets.sum(0, dtype=np.int64), each)]
