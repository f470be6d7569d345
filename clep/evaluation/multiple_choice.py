"""Multiple choice: a moment and several sentences, of which one is correct."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from clep.bank import FeatureBank
from clep.checksums import read_checked_json, write_checked_json
from clep.data import LongTerm, Window
from clep.errors import InputError
from clep.evaluation.evaluator import Evaluator, model_device
from clep.metrics import topk_accuracy
from clep.models import DualEncoder
from clep.models.published import load_sentence_encoder
from clep.text import substitute_tags

FORMAT = "clep-questions"
VERSION = 1


class Question(NamedTuple):
    """A moment of a video and candidate sentences.

    Attributes:
        video: id.
        start_s, end_s: span in seconds.
        group: accuracy is reported separately for each group.
        choices: candidate sentences, with tags as in narrations ("#C C opens the jar").
        answer: index of the correct one.
    """

    video: str
    start_s: float
    end_s: float
    group: str
    choices: tuple[str, ...]
    answer: int


def write_questions(path: str | Path, questions: Sequence[Question]) -> None:
    """Write questions.json: the distinct `sentences`, and `questions` with indices of sentences as `choices`."""
    index: dict[str, int] = {}
    items = [
        {**question._asdict(), "choices": [index.setdefault(text, len(index)) for text in question.choices]}
        for question in questions
    ]
    write_checked_json(path, {"format": FORMAT, "version": VERSION, "sentences": list(index), "questions": items})


def read_questions(path: str | Path) -> list[Question]:
    """Read questions.json.

    Raises:
        InputError: the file is missing or of another format, or a question is invalid; the message has its index.
    """
    content = read_checked_json(path)
    if content.get("format") != FORMAT or content.get("version") != VERSION:
        raise InputError(f"{path} is not a file of questions (format {FORMAT!r}, version {VERSION})")
    questions = []
    for position, item in enumerate(content.get("questions", [])):
        try:
            choices = tuple(str(_sentence(content["sentences"], index)) for index in item["choices"])
            span = float(item["start_s"]), float(item["end_s"])
            questions.append(Question(str(item["video"]), *span, str(item["group"]), choices, int(item["answer"])))
            _check(questions[-1])
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise InputError(f"{path}: question {position} cannot be used: {error!r}") from error
    if not questions:
        raise InputError(f"{path} holds no questions")
    return questions


class MultipleChoice(Evaluator):
    """`choice/<group>/accuracy` and `choice/<group>/chance` in percent.

    An answer is correct if its sentence has the highest score; a tie with a wrong sentence counts as wrong. Chance is
    the mean of 1 / number of choices. The counterpart with one sentence and several clips is EgoMCQ (Lin et al.,
    "Egocentric Video-Language Pretraining", 2022).

    Args:
        questions: path of a questions.json, see `write_questions`.
        bank: path of the feature bank of their videos.
        on_missing: "error" or "skip" for questions about videos that are not in the bank.
        batch_size: moments encoded at once.

    Raises:
        InputError: another `on_missing`.
    """

    reads = ("questions", "bank")

    def __init__(
        self, questions: str | Path, bank: str | Path, on_missing: str = "error", batch_size: int = 4096
    ) -> None:
        super().__init__(batch_size)
        if on_missing not in ("error", "skip"):
            raise InputError(f"on_missing={on_missing!r}; choose error or skip")
        self.questions_path, self.bank_path, self.on_missing = Path(questions), Path(bank), on_missing
        self._opened: tuple[list[Question], FeatureBank] | None = None
        self._rows: tuple[tuple[str, str], Tensor] | None = None

    def measure(self, model: DualEncoder) -> dict[str, float]:
        """Return accuracy and chance of each group."""
        questions, bank = self._open()
        model.check_bank(bank.encoder)
        video = self._moments(model, questions, bank)
        text, index = self._sentences(model, questions)
        scores = torch.full((len(questions), max(len(one.choices) for one in questions)), -torch.inf)
        similarity = (video @ text.T).cpu()
        for row, one in enumerate(questions):
            scores[row, : len(one.choices)] = similarity[row, [index[choice] for choice in one.choices]]
        answer = torch.tensor([one.answer for one in questions])
        metrics = {}
        for group in sorted({one.group for one in questions}):
            mine = torch.tensor([one.group == group for one in questions])
            metrics[f"choice/{group}/accuracy"] = topk_accuracy(scores[mine], answer[mine], ks=(1,))[1]
            chances = [100 / len(one.choices) for one in questions if one.group == group]
            metrics[f"choice/{group}/chance"] = sum(chances) / len(chances)
            self.coverage[f"questions of {group}"] = len(chances)
        return metrics

    def _moments(self, model: DualEncoder, questions: list[Question], bank: FeatureBank) -> Tensor:
        window, context = Window.of_model(model.metadata), LongTerm.of_model(model.metadata)
        video_index = bank.index([one.video for one in questions])
        start_s, end_s = (
            torch.tensor(side, dtype=torch.float64)
            for side in ([one.start_s for one in questions], [one.end_s for one in questions])
        )
        first, last = bank.window(video_index, start_s, end_s, align=window.align)
        middle_s, device = (start_s + end_s) / 2, model_device(model)

        def encode(which: Tensor) -> Tensor:
            batch = window.gather(bank, first[which], last[which])
            if context is not None:
                batch |= context.gather(bank, video_index[which], middle_s[which])
            return model.encode_video({key: value.to(device) for key, value in batch.items()})

        at_once = self.batch_size if context is None else context.at_once(self.batch_size)
        return self.encode(len(questions), encode, at_once)

    def _sentences(self, model: DualEncoder, questions: list[Question]) -> tuple[Tensor, dict[str, int]]:
        """Return the embeddings of the distinct sentences, and the index of each sentence."""
        name = model.metadata.get("sentence_encoder")
        if not name:
            raise InputError(
                "the model does not say which sentence encoder it was trained with; set its metadata sentence_encoder"
            )
        style = model.metadata.get("tag_style", "clean")
        index: dict[str, int] = {}
        for one in questions:
            for choice in one.choices:
                index.setdefault(choice, len(index))
        sentences = [substitute_tags(text, style) for text in index]
        if model.reads_tokens:
            return model.encode_sentences(sentences), index
        if self._rows is None or self._rows[0] != (name, style):
            encoded = load_sentence_encoder(name, "cpu").encode(sentences)
            self._rows = (name, style), torch.from_numpy(encoded)
        return model.encode_text({"text": self._rows[1].to(model_device(model))}), index

    def _open(self) -> tuple[list[Question], FeatureBank]:
        if self._opened is None:
            questions, bank = read_questions(self.questions_path), FeatureBank.open(self.bank_path)
            there = (bank.index([one.video for one in questions]) >= 0).tolist()
            kept = [one for one, present in zip(questions, there, strict=True) if present]
            if not kept or (len(kept) < len(questions) and self.on_missing == "error"):
                absent = next(one.video for one, present in zip(questions, there, strict=True) if not present)
                raise InputError(
                    f"{bank.path} has no rows for {len(questions) - len(kept)} of the {len(questions)} questions of "
                    f"{self.questions_path}, the first about video {absent!r}; add its features, or drop such "
                    f"questions with on_missing=skip"
                )
            self.coverage = {"questions": len(questions), "questions without features": len(questions) - len(kept)}
            self._opened = kept, bank
        return self._opened

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None, "_rows": None}


def _sentence(sentences: list[str], index: int) -> str:
    if index < 0:
        raise IndexError(f"sentence {index}")
    return sentences[index]


def _check(question: Question) -> None:
    if not 0 <= question.answer < len(question.choices) or len(set(question.choices)) < max(len(question.choices), 2):
        raise ValueError(
            f"answer {question.answer} of {len(question.choices)} choices: it needs at least two distinct sentences"
        )
    if not 0 <= question.start_s < question.end_s:
        raise ValueError(f"start_s={question.start_s} and end_s={question.end_s}: a span needs 0 <= start_s < end_s")
