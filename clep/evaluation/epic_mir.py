"""EPIC-KITCHENS-100 multi-instance retrieval: clips and sentences, with graded relevancy."""

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from clep.datasets.epic_retrieval import (
    EpicActions,
    EpicSentences,
    read_epic_actions,
    read_epic_relevancy,
    read_epic_sentences,
)
from clep.errors import InputError
from clep.evaluation.clip_text import ClipTextBenchmark, Similarity
from clep.evaluation.details import Detail, value_details
from clep.metrics import mir_relevancy
from clep.metrics.multi_instance import MIR_METRICS, mir_values, summarize_mir
from clep.text.prompts import fill_template
from clep.text.texts import distinct_texts

log = logging.getLogger(__name__)

_ROWS_AT_ONCE = 1024
_MISMATCHES_SHOWN = 10  # sentences that are not their id's narration; more are a warning


class EpicMIR(ClipTextBenchmark):
    """`ek100_mir/<v2t|t2v|mean>/<mAP|mAP_binary|nDCG>` in percent.

    Sentence k is the narration of the clip whose `narration_id` stands in row k of the sentence file, as in the
    official code, not the text beside it; six of the official test sentences differ. See `clep.metrics.mir_metrics`.

    Args:
        clips: path of `EPIC_100_retrieval_test.csv`, or of `EPIC_100_validation.csv`, which has the same clips.
        sentences: path of `EPIC_100_retrieval_test_sentence.csv`.
        bank: path of a feature bank of the clips (by `narration_id`) or of their videos.
        texts: path of the bank of the narrations, from `python -m clep.preprocess epic_mir`.
        relevancy: path of the official relevancy pickle, whose rows and columns are those of the two csv files; None
            computes the relevancy from the classes.
        dual_softmax: rescale the similarities as EgoVLP's test script does (`dual_softmax`); it looks at all clips at
            once, so figures with it are not comparable with figures without.
        template: sentence made of a narration, as in `python -m clep.preprocess epic_mir template=…`.
        similarity: see `ClipTextBenchmark`.
        batch_size: clips encoded at once.

    Examples:
        >>> from clep.evaluation import EpicMIR
        >>> from clep.models import DualEncoder
        >>> evaluator = EpicMIR("epic/clips.csv", "epic/sentences.csv", "epic/features.h5", "epic/sentences.h5")
        >>> metrics = evaluator.run(DualEncoder.from_pretrained("model"))
        >>> "ek100_mir/mean/mAP" in metrics, "ek100_mir/mean/nDCG" in metrics
        (True, True)
    """

    reads = ("clips", "sentences", "bank", "texts", "relevancy")
    job = "epic_mir"

    def __init__(
        self,
        clips: str | Path,
        sentences: str | Path,
        bank: str | Path,
        texts: str | Path,
        relevancy: str | Path | None = None,
        dual_softmax: bool = False,
        template: str = "{}",
        similarity: Similarity = "model",
        batch_size: int = 4096,
    ) -> None:
        super().__init__(bank, texts, similarity, batch_size)
        self.clips_path, self.sentences_path, self.relevancy_path = clips, sentences, relevancy
        self.dual_softmax, self.template = dual_softmax, template

    @cached_property
    def files(self) -> tuple[EpicActions, EpicSentences]:
        """Clips and sentences, read once."""
        actions = read_epic_actions(self.clips_path)
        sentences = read_epic_sentences(self.sentences_path, actions)
        other = sentences.mismatched
        for name, (text, narration) in list(other.items())[:_MISMATCHES_SHOWN]:
            log.info(
                "%s: the row of %s has the text %r, but its narration is %r", self.sentences_path, name, text, narration
            )
        if len(other) > _MISMATCHES_SHOWN:
            log.warning(
                "%s: %d of %d sentences are not the narration of their narration_id, which is used instead of them; "
                "the official test file has 6 such sentences",
                self.sentences_path,
                len(other),
                len(sentences.clip),
            )
        return actions, sentences

    def measure(self, model: Any) -> dict[str, float]:
        """Return mAP and nDCG in both directions and their means.

        Raises:
            InputError: as `ClipTextBenchmark`; or no sentence has a clip of relevancy 1.
        """
        actions, sentences = self.files
        narrations, narration = distinct_texts(fill_template(actions.narrations, self.template))
        with self.compared(model) as dual:
            clips = self.encode_clips(dual, actions.spans)
            text = self.encode_sentences(dual, narrations)
        relevancy = self._relevancy(actions, sentences)[clips.kept]
        column = narration[sentences.clip]
        if self.dual_softmax:
            count = np.bincount(narration[clips.kept], minlength=len(narrations))
            similarity = dual_softmax(clips.rows, text, torch.from_numpy(count))[:, torch.from_numpy(column)]
        else:
            similarity = clips.rows @ text[torch.from_numpy(column).to(text.device)].T
        # Without all features, a sentence may have lost every clip that is right for it.
        right = relevancy == 1
        clip_matches, sentence_matches = right.any(axis=1), right.any(axis=0)
        self.coverage |= {
            "sentences": len(column),
            "sentences with a matching clip": int(sentence_matches.sum()),
            "clips with a matching sentence": int(clip_matches.sum()),
            "sentences that are not their id's narration": len(sentences.mismatched),
        }
        if not sentence_matches.any():
            raise InputError(f"no clip of {self.clips_path} that has features matches a sentence; are the files right?")
        matrix = similarity.float().cpu().numpy()
        if not (clip_matches.all() and sentence_matches.all()):
            matrix, relevancy = matrix[clip_matches][:, sentence_matches], relevancy[clip_matches][:, sentence_matches]
        values = mir_values(matrix, relevancy)
        of_clips = np.array(actions.spans.ids, dtype=object)
        queries = {
            "v2t": of_clips[clips.kept][clip_matches].tolist(),
            "t2v": of_clips[sentences.clip][sentence_matches].tolist(),
        }
        self.record(lambda: _details(values, queries))
        return {f"ek100_mir/{name}": value for name, value in summarize_mir(values).items()}

    def _relevancy(self, actions: EpicActions, sentences: EpicSentences) -> Float[np.ndarray, "clips sentences"]:
        if self.relevancy_path is not None:
            return read_epic_relevancy(self.relevancy_path, len(actions), len(sentences.clip))
        classes = actions.classes
        return mir_relevancy(classes, [classes[index] for index in sentences.clip])


def _details(
    values: Mapping[str, Float[np.ndarray, "queries metrics"]], queries: Mapping[str, Sequence[str]]
) -> list[Detail]:
    return [value_details(f"ek100_mir/{way}", MIR_METRICS, 100 * of, queries[way]) for way, of in values.items()]


def dual_softmax(
    video: Float[Tensor, "clips dim"], text: Float[Tensor, "texts dim"], count: Int64[Tensor, " texts"]
) -> Float[Tensor, "clips texts"]:
    """Rescale similarities as EgoVLP's test script does: `softmax over texts(softmax over clips(s / 500) * s)`.

    The script has one text a clip; here each distinct text stands for `count` equal ones. It expects dot products of
    embeddings that are not normalised: cosines, which are far below 500, hardly change.

    Args:
        video, text: embeddings.
        count: clips that have each text; texts of count 0 take no part in the softmax over texts.

    Returns:
        The rescaled similarities, computed in blocks of clips, on the CPU.
    """
    total = torch.full((len(text),), -torch.inf, device=video.device)
    blocks = video.float().split(_ROWS_AT_ONCE)
    for block in blocks:
        total = torch.logaddexp(total, (block @ text.float().T / 500).logsumexp(dim=0))
    log_count = count.to(video.device).float().log()
    scaled = []
    for block in blocks:
        similarity = block @ text.float().T
        product = (similarity / 500 - total).exp() * similarity
        scaled.append((product - (product + log_count).logsumexp(dim=1, keepdim=True)).exp().cpu())
    return torch.cat(scaled)
