"""Multiple-choice questions: of a questions.json, or of a table of a user's own."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from clep.checksums import read_checked_json, write_checked_json
from clep.datasets.clip_spans import SPAN_COLUMNS, ClipSpans, clip_id, read_spans
from clep.datasets.clip_table import split_cells
from clep.datasets.user_table import UserTable, read_user_table
from clep.errors import InputError
from clep.text.texts import distinct_texts

FORMAT = "clep-questions"
VERSION = 1
CHOICE_COLUMNS = tuple(f"choice{joint}{number}" for joint in ("", "_") for number in range(21))
COLUMNS = (*SPAN_COLUMNS, "query", "choices", *CHOICE_COLUMNS, "answer", "group")
_SPAN = re.compile(r"(?P<video>.+)@(?P<start>\d+(?:\.\d+)?)-(?P<end>\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class ChoiceQuestions:
    """Questions with several answers each.

    Attributes:
        spans: the distinct clips.
        sentences: the distinct sentences.
        chooses_clip: whether a sentence is asked and the choices are clips; else a clip is asked.
        query: index of the sentence, or clip, that each question asks about.
        choices: indices of the clips, or sentences, to choose from; -1 behind the last.
        answer: which of the choices is correct.
        group: name of each question's group; "" without groups.
    """

    spans: ClipSpans
    sentences: Sequence[str]
    chooses_clip: bool
    query: Int64[np.ndarray, " questions"]
    choices: Int64[np.ndarray, "questions choices"]
    answer: Int64[np.ndarray, " questions"]
    group: Sequence[str]

    def __len__(self) -> int:
        return len(self.query)

    @property
    def counts(self) -> Int64[np.ndarray, " questions"]:
        """Number of choices of each question."""
        return (self.choices >= 0).sum(axis=1)

    @property
    def clips(self) -> Int64[np.ndarray, "questions clips"]:
        """Clips that each question needs; -1 behind the last."""
        return self.choices if self.chooses_clip else self.query[:, None]

    @property
    def videos(self) -> list[str]:
        """Video of the first clip of each question."""
        return [self.spans.videos[row[0]] for row in self.clips.tolist()]


def read_choices(
    path: str | Path, columns: Mapping[str, str | None] | None = None, key: str = "columns"
) -> ChoiceQuestions:
    """Read a questions.json, or a table of questions.

    Raises:
        InputError: see `read_questions` and `read_choice_table`.
    """
    if Path(path).suffix.lower() == ".json":
        return choice_questions(read_questions(path))
    return read_choice_table(path, columns, key)


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


def choice_questions(questions: Sequence[Question]) -> ChoiceQuestions:
    """Return questions as arrays; each question has a clip of its own."""
    spans = ClipSpans(
        [f"question {position}" for position in range(len(questions))],
        [one.video for one in questions],
        np.array([one.start_s for one in questions], np.float64),
        np.array([one.end_s for one in questions], np.float64),
    )
    sentences, index = distinct_texts([choice for one in questions for choice in one.choices])
    counts = np.array([len(one.choices) for one in questions])
    choices = np.full((len(questions), counts.max()), -1, np.int64)
    choices[np.arange(counts.max()) < counts[:, None]] = index
    answer = np.array([one.answer for one in questions], np.int64)
    return ChoiceQuestions(
        spans, sentences, False, np.arange(len(questions)), choices, answer, [one.group for one in questions]
    )


def read_choice_table(
    path: str | Path, columns: Mapping[str, str | None] | None = None, key: str = "columns"
) -> ChoiceQuestions:
    """Read a csv, tsv, parquet or jsonl of questions, one per row.

    Args:
        path: `choices`, separated by `|`, or columns `choice1`, `choice2`, …; `answer`, the correct choice or its index
            from 0; optionally `group`. With the column `query`, a sentence, the choices are clips: ids, or spans as
            `<video>@<start>-<end>` in seconds. Else the choices are sentences about the clip of the row: `clip`, or
            `video`, `start` and `end`.
        columns, key: names of the table's columns where they differ, see `read_user_table`.

    Raises:
        InputError: the file is missing, lacks a column, or has a wrong cell; the message names the line.
    """
    table = read_user_table(path, COLUMNS, columns, key)
    table.require("answer")
    answers = table.filled("answer").to_list()
    row, written = _choices(table)
    chooses_clip = "query" in table
    clips = [_clip_of(one) for one in written] if chooses_clip else []
    texts = [clip.id for clip in clips] if chooses_clip else written
    distinct, choice = distinct_texts(texts)
    if chooses_clip:
        table.sentences("query")
        sentences, query = distinct_texts(table.filled("query").to_list())
        try:
            spans = _spans_of(clips)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
    else:
        spans, query = read_spans(table)
        sentences = distinct
    bounds = np.searchsorted(row, np.arange(len(table) + 1))
    choices = np.full((len(table), int(np.diff(bounds).max())), -1, np.int64)
    answer = np.empty(len(table), np.int64)
    for number, given in enumerate(answers):
        of_row = slice(bounds[number], bounds[number + 1])
        some = texts[of_row]
        if len(set(some)) < max(len(some), 2):
            raise table.error(number, f"the choices are {written[of_row]}; at least two different ones are needed")
        named = _clip_of(given).id if chooses_clip else given
        index = given.removesuffix(".0")
        if named not in some and not (index.isdecimal() and int(index) < len(some)):
            raise table.error(
                number, f"the answer {given!r} is neither a choice nor an index from 0 to {len(some) - 1}"
            )
        answer[number] = some.index(named) if named in some else int(index)
        choices[number, : len(some)] = choice[of_row]
    group = table.filled("group").to_list() if "group" in table else [""] * len(table)
    return ChoiceQuestions(spans, sentences, chooses_clip, query, choices, answer, group)


def _choices(table: UserTable) -> tuple[Int64[np.ndarray, " parts"], list[str]]:
    """Return the row of each choice, ascending, and the choices."""
    separate = [name for name in CHOICE_COLUMNS if name in table]
    if "choices" in table or not separate:
        table.require("choices")
        return split_cells(table, "choices")
    cells = [table.strings(name).to_list() for name in separate]
    found = [(row, cell) for row, some in enumerate(zip(*cells, strict=True)) for cell in some if cell.strip()]
    return np.array([row for row, _ in found], np.int64), [cell for _, cell in found]


class _Clip(NamedTuple):
    id: str
    video: str
    start_s: float
    end_s: float


def _clip_of(choice: str) -> _Clip:
    """Return the clip that a choice names: an id, or a span as `<video>@<start>-<end>`."""
    span = _SPAN.fullmatch(choice)
    if not span:
        return _Clip(choice, choice, np.nan, np.nan)
    video, start_s, end_s = span["video"], float(span["start"]), float(span["end"])
    return _Clip(clip_id(video, start_s, end_s), video, start_s, end_s)


def _spans_of(clips: Sequence[_Clip]) -> ClipSpans:
    """Return clips, each once, in order of appearance."""
    first: dict[str, _Clip] = {}
    for clip in clips:
        first.setdefault(clip.id, clip)
    starts, ends = np.array([clip[2:] for clip in first.values()], np.float64).reshape(-1, 2).T
    return ClipSpans(list(first), [clip.video for clip in first.values()], starts.copy(), ends.copy())


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
