"""EgoMCQ: which of five clips does a sentence describe? (Lin et al., NeurIPS 2022)"""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clep.datasets.egomcq import EgoMcqQuestions, read_egomcq
from clep.errors import InputError
from clep.evaluation.clip_text import ClipTextBenchmark, Similarity
from clep.evaluation.details import rank_details
from clep.metrics import egomcq_accuracy
from clep.metrics.accuracy import target_ranks
from clep.text.texts import distinct_texts


class EgoMCQ(ClipTextBenchmark):
    """`egomcq/<inter|intra>/accuracy` in percent; the choices of "inter" are of other videos, of "intra" of the same.

    A question that lacks the features of one of its clips is left out and counted. Ties count as wrong.

    Args:
        questions: path of `egomcq.json`.
        bank: path of a feature bank of the clips or of their videos.
        texts: path of the bank of the sentences, from `python -m clep.preprocess egomcq`.
        similarity: "dot" is LaViLa's and AVION's evaluation, for rows that are not normalised; "cosine" EgoVLP's.
        batch_size: clips encoded at once.

    Examples:
        >>> from clep.evaluation import EgoMCQ
        >>> from clep.models import DualEncoder
        >>> evaluator = EgoMCQ("egomcq/egomcq.json", "egomcq/features.h5", "egomcq/sentences.h5")
        >>> sorted(evaluator.run(DualEncoder.from_pretrained("model")))
        ['egomcq/inter/accuracy', 'egomcq/intra/accuracy']
    """

    reads = ("questions", "bank", "texts")
    job = "egomcq"

    def __init__(
        self,
        questions: str | Path,
        bank: str | Path,
        texts: str | Path,
        similarity: Similarity = "model",
        batch_size: int = 4096,
    ) -> None:
        super().__init__(bank, texts, similarity, batch_size)
        self.questions_path = Path(questions)

    @cached_property
    def questions(self) -> EgoMcqQuestions:
        """The questions, read once."""
        return read_egomcq(self.questions_path)

    def measure(self, model: Any) -> dict[str, float]:
        """Return the accuracy of each kind of question.

        Raises:
            InputError: as `ClipTextBenchmark`, or no question has all its clips.
        """
        questions = self.questions
        with self.compared(model) as dual:
            clips = self.encode_clips(dual, questions.clips)
            sentences, index = distinct_texts(questions.sentences)
            text = self.encode_sentences(dual, sentences)
        row = np.full(len(questions.clips), -1)
        row[clips.kept] = np.arange(len(clips.kept))
        rows = row[questions.choices]
        whole = np.flatnonzero((rows >= 0).all(axis=1))
        self.coverage |= {"questions": len(questions), "questions with all clips": len(whole)}
        if not len(whole):
            raise InputError(
                f"{self.bank_path} has all clips of no question of {self.questions_path}; encode them with "
                "`python -m clep.preprocess clips`, or name another bank with evaluator.egomcq.bank=BANK"
            )
        video = clips.rows[torch.from_numpy(rows[whole]).to(clips.rows.device)]
        similarity = torch.einsum("qcd,qd->qc", video, text[torch.from_numpy(index[whole]).to(text.device)])
        found = egomcq_accuracy(similarity.cpu(), questions.answer[whole], questions.kind[whole])
        for name, kind in (("inter", 1), ("intra", 2)):
            self.coverage[f"questions of {name}"] = int((questions.kind[whole] == kind).sum())
        ranks = target_ranks(similarity.cpu(), torch.from_numpy(questions.answer[whole]))
        kinds = questions.kind[whole]
        asked = [f"{index} {questions.sentences[index]}" for index in whole.tolist()]
        self.record(
            lambda: [
                rank_details(
                    f"egomcq/{name}",
                    ranks[torch.from_numpy(kinds == kind)],
                    [sentence for sentence, own in zip(asked, kinds.tolist(), strict=True) if own == kind],
                    questions.choices.shape[1],
                )
                for name, kind in (("inter", 1), ("intra", 2))
                if (kinds == kind).any()
            ]
        )
        return {f"egomcq/{name}/accuracy": value for name, value in found.items()}
