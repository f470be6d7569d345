"""EgoMCQ (Lin et al., "Egocentric Video-Language Pretraining", NeurIPS 2022): one sentence, five clips."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from clep.datasets.clip_spans import ClipSpans, clip_id
from clep.errors import InputError
from clep.files import read_json

CHOICES = 5


@dataclass(frozen=True)
class EgoMcqQuestions:
    """The questions of `egomcq.json`.

    Attributes:
        sentences: text of each question, as written ("#C C opens the drawer").
        clips: the distinct clips; their ids are `<video>_<start>_<end>` in milliseconds.
        choices: index of each question's clips.
        answer: which of the choices is right.
        kind: 1 for "inter" (choices of other videos), 2 for "intra" (choices of the same video).
    """

    sentences: Sequence[str]
    clips: ClipSpans
    choices: Int64[np.ndarray, "questions 5"]
    answer: Int64[np.ndarray, " questions"]
    kind: Int64[np.ndarray, " questions"]

    def __len__(self) -> int:
        return len(self.sentences)


def read_egomcq(path: str | Path) -> EgoMcqQuestions:
    """Read `egomcq.json`: `{"0": {"query": {…}, "choices": {"0": {…}, …}, "answer": 3, "types": 1}, …}`.

    A clip has `video_uid`, `clip_start` and `clip_end` in seconds and `clip_text`. A start below 0 is 0, as in the
    official reader.

    Raises:
        InputError: the file is missing or damaged, a question lacks something, or it does not have five choices; the
            message names the question.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path} is not EgoMCQ's file: an object of questions by number is expected; fetch it again")
    sentences: list[str] = []
    clips: dict[str, tuple[str, float, float]] = {}
    choices, answers, kinds = [], [], []
    position: dict[str, int] = {}
    for name, question in content.items():
        try:
            listed = question["choices"]
            if not isinstance(listed, dict):
                raise ValueError("its choices are not an object of clips by number")
            if len(listed) != CHOICES:
                raise ValueError(
                    f"it has {len(listed)} choices, but EgoMCQ has {CHOICES} (evaluator=multiple_choice measures "
                    "questions of your own)"
                )
            options = [_clip(listed[str(i)]) for i in range(len(listed))]
            answer, kind = _whole(question, "answer"), _whole(question, "types")
            sentences.append(_text(question["query"]))
            if not 0 <= answer < len(options) or kind not in (1, 2):
                raise ValueError(f"answer {answer} of {len(options)} choices, type {kind}; types are 1 and 2")
        except (KeyError, TypeError, ValueError) as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            raise InputError(f"{path}: question {name!r} cannot be used: {reason}; fetch the file again") from error
        ids = [clip_id(*option) for option in options]
        clips |= dict(zip(ids, options, strict=True))
        choices.append([position.setdefault(one, len(position)) for one in ids])
        answers.append(answer)
        kinds.append(kind)
    videos, start_s, end_s = zip(*(clips[one] for one in position), strict=True)
    return EgoMcqQuestions(
        sentences,
        ClipSpans(list(position), videos, np.array(start_s, np.float64), np.array(end_s, np.float64)),
        np.array(choices, np.int64),
        np.array(answers, np.int64),
        np.array(kinds, np.int64),
    )


def _clip(option: Mapping[str, Any]) -> tuple[str, float, float]:
    video, start_s, end_s = str(option["video_uid"]), float(option["clip_start"]), float(option["clip_end"])
    start_s = max(start_s, 0.0)
    if not isfinite(end_s) or not end_s > start_s:
        raise ValueError(f"its clip of {video} spans {start_s:g} to {end_s:g} s")
    return video, start_s, end_s


def _whole(question: Mapping[str, Any], key: str) -> int:
    value = question[key]
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = None
    if number is None or number != float(value):
        raise ValueError(f"its {key} is {value!r}, not a whole number")
    return number


def _text(query: Mapping[str, Any]) -> str:
    text = str(query["clip_text"])
    if not text.strip():
        raise ValueError("the clip_text of its query is empty")
    return text
