"""Multiple choice: a sentence and several clips, or a clip and several sentences, of which one is correct."""

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from clep.datasets.choice_questions import ChoiceQuestions, read_choices
from clep.errors import InputError
from clep.evaluation.clip_text import ClipTextBenchmark, Similarity
from clep.evaluation.details import Detail, rank_details
from clep.metrics import topk_accuracy
from clep.metrics.accuracy import target_ranks


class MultipleChoice(ClipTextBenchmark):
    """`choice/<name>/<group>/<accuracy|chance>` in percent; without `name` or groups that part is left out.

    A clip and several sentences, or a sentence and several clips, of which one is correct. An answer is correct if it
    has the highest score; a tie with a wrong one counts as wrong. Chance is the mean of 1 / number of choices. EgoMCQ
    (Lin et al., "Egocentric Video-Language Pretraining", 2022) has an evaluator of its own.

    Args:
        questions: path of a questions.json, see `write_questions`, or of a table, see `read_choice_table`.
        bank: path of a feature bank of the clips or of their videos.
        texts: path of the bank of the sentences, from `python -m clep.preprocess multiple_choice`; None to embed them.
        on_missing: "error" or "skip" for questions about clips that are not in the bank.
        columns: names of the table's columns where they differ, e.g. `{"answer": "correct"}`.
        name: of the metrics; None: "table" for a table without groups.
        similarity, batch_size: see `ClipTextBenchmark`.

    Raises:
        InputError: another `on_missing`.

    Examples:
        >>> from pathlib import Path
        >>> from clep.evaluation import MultipleChoice
        >>> from clep.models import DualEncoder
        >>> print(Path("questions.csv").read_text().splitlines()[1])
        kitchen00,2,6,opens the door|washes the cup,0
        >>> metrics = MultipleChoice("questions.csv", "features.h5").run(DualEncoder.from_pretrained("model"))
        >>> metrics["choice/table/chance"]
        50.0
    """

    reads = ("questions", "bank", "texts")
    job = "multiple_choice"

    def __init__(
        self,
        questions: str | Path,
        bank: str | Path,
        texts: str | Path | None = None,
        on_missing: str = "error",
        columns: Mapping[str, str | None] | None = None,
        name: str | None = None,
        similarity: Similarity = "model",
        batch_size: int = 4096,
    ) -> None:
        super().__init__(bank, texts, similarity, batch_size)
        if on_missing not in ("error", "skip"):
            raise InputError(f"on_missing={on_missing!r}; choose error or skip")
        self.questions_path, self.on_missing, self.columns, self.name = Path(questions), on_missing, columns, name

    @property
    def title(self) -> str:
        """Name of the file of questions in messages."""
        return str(self.questions_path)

    @cached_property
    def questions(self) -> ChoiceQuestions:
        """The questions, read once."""
        return read_choices(self.questions_path, self.columns, f"evaluator.{self.job}.columns")

    def measure(self, model: Any) -> dict[str, float]:
        """Return accuracy and chance of each group.

        Raises:
            InputError: as `ClipTextBenchmark`; or a clip has no features, with `on_missing="error"`.
        """
        questions = self.questions
        with self.compared(model) as dual:
            clips = self.encode_clips(dual, questions.spans)
            text = self.encode_sentences(dual, questions.sentences)
        row = np.full(len(questions.spans) + 1, -1)
        row[clips.kept] = np.arange(len(clips.kept))
        row[-1] = 0  # of choices that are not there
        whole = np.flatnonzero((row[questions.clips] >= 0).all(axis=1))
        if not len(whole) or (len(whole) < len(questions) and self.on_missing == "error"):
            absent = questions.videos[int(np.setdiff1d(np.arange(len(questions)), whole)[0])]
            raise InputError(
                f"{self.bank_path} has no rows for {len(questions) - len(whole)} of the {len(questions)} questions of "
                f"{self.questions_path}, the first about video {absent!r}; add its features, or drop such "
                f"questions with on_missing=skip"
            )
        self.coverage |= {"questions": len(questions), "questions without features": len(questions) - len(whole)}
        query, choices = questions.query[whole], questions.choices[whole]
        if questions.chooses_clip:
            asked, offered, choices = text, clips.rows, np.where(choices >= 0, row[choices], -1)
        else:
            asked, offered, query = clips.rows, text, row[query]
        scores = choice_scores(asked, offered, torch.from_numpy(query), torch.from_numpy(choices))
        answer, counts = torch.from_numpy(questions.answer[whole]), questions.counts[whole]
        groups = np.array(questions.group)[whole]
        metrics: dict[str, float] = {}
        for group in sorted(set(groups.tolist())):
            mine = groups == group
            parts = [part for part in (self.name, group) if part] or ["table"]
            key = "/".join(["choice", *parts])
            own, right = scores[torch.from_numpy(mine)], answer[torch.from_numpy(mine)]
            accuracy = topk_accuracy(own, right, ks=(1,))[1]
            metrics |= {f"{key}/accuracy": accuracy, f"{key}/chance": float((100 / counts[mine]).mean())}
            keys = [f"{index} {questions.videos[index]}" for index in whole[mine].tolist()]
            self.record(partial(_details, key, own, right, keys, counts[mine]))
            if group:
                self.coverage[f"questions of {group}"] = int(mine.sum())
        return metrics


def _details(
    key: str,
    scores: Float[Tensor, "questions choices"],
    answer: Int64[Tensor, " questions"],
    asked: Sequence[str],
    counts: Int64[np.ndarray, " questions"],
) -> list[Detail]:
    return [rank_details(key, target_ranks(scores, answer), asked, counts)]


def choice_scores(
    asked: Float[Tensor, "items dim"],
    offered: Float[Tensor, "others dim"],
    query: Int64[Tensor, " questions"],
    choices: Int64[Tensor, "questions choices"],
    at_once: int = 4096,
) -> Float[Tensor, "questions choices"]:
    """Return the dot products of each question with its choices, -inf for those of index -1; on the CPU."""
    pieces = []
    for some, of_some in zip(query.split(at_once), choices.split(at_once), strict=True):
        similarity = torch.einsum(
            "qd,qcd->qc",
            asked[some.to(asked.device)].float(),
            offered[of_some.clamp(min=0).to(offered.device)].float(),
        )
        pieces.append(similarity.cpu().masked_fill(of_some < 0, -torch.inf))
    return torch.cat(pieces)
