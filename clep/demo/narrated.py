"""Narrated first-person videos in Ego4D's format, and the base class of the datasets with questions about them."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int64

from clep.datasets.choice_questions import Question, write_questions
from clep.demo.annotation_files import (
    narration_pass,
    random_uid,
    video_metadata,
    write_ego4d_json,
    write_narration_json,
)
from clep.demo.encoder import FPS, ActionSpan, EncoderSettings, FrozenEncoder, random_of
from clep.demo.feature_files import write_feature_files
from clep.demo.grammar import PLACES, narrate
from clep.demo.synthetic import SyntheticDataset

_OMITTED, _NARRATED_TWICE, _UNSORTED_PASS = 0.08, 0.03, 0.3
HELD_OUT_SPLITS: tuple[dict[str, Any], ...] = (
    {"split_em": "val"},
    {"split_fho": "test"},
    {"split_em": "train", "split_fho": "multi"},
    {"split_av": "val"},
    {},
)
"""Splits of the videos that are excluded from training, used in turn; the last kind is redacted."""


def narrator_pass(
    rng: np.random.Generator,
    middle_s: Float[np.ndarray, " actions"],
    texts: list[str],
    duration_s: float,
    jitter_s: float,
) -> dict[str, Any]:
    """Write one narrator's pass: times with a jitter, some actions omitted, a few narrated twice, not always sorted."""
    kept = np.flatnonzero(rng.random(len(texts)) >= _OMITTED)
    kept = np.concatenate([kept, kept[rng.random(len(kept)) < _NARRATED_TWICE]])
    second = middle_s[kept] + jitter_s * rng.standard_normal(len(kept))
    second = np.clip(second, 0.0, duration_s)
    order = rng.permutation(len(kept)) if rng.random() < _UNSORTED_PASS else np.argsort(second)
    return narration_pass(rng, second[order], [texts[kept[i]] for i in order], duration_s)


def two_narrators(
    rng: np.random.Generator,
    verb: Int64[np.ndarray, " actions"],
    noun: Int64[np.ndarray, " actions"],
    place: int,
    by_other: Bool[np.ndarray, " actions"],
    unsure: float,
    copied: float,
) -> tuple[list[str], list[str]]:
    """Return the texts of two narrators of the same actions in one place.

    Args:
        rng: generator.
        verb, noun: of each action, as indices in the grammar.
        place: index into `PLACES`.
        by_other: mask of the actions of another person.
        unsure: fraction of texts with `#unsure`.
        copied: fraction of the second narrator's texts that equal the first one's.
    """
    count = len(verb)
    where = np.full(count, place)
    first, second = (narrate(rng, verb, noun, where, by_other, rng.random(count) < unsure) for _ in range(2))
    equal = rng.random(count) < copied
    return first, [a if same else b for a, b, same in zip(first, second, equal, strict=True)]


def narration_texts(entries: Sequence[dict[str, Any] | None]) -> list[str]:
    """Return the texts of all passes of entries of narration.json; None is a video that is not in it."""
    passes = [entry[key] for entry in entries if entry for key in entry if key.startswith("narration_pass")]
    return [narration["narration_text"] for one in passes for narration in one["narrations"]]


def hours(durations_s: Sequence[float]) -> float:
    """Return the sum of durations (seconds) in hours, with two decimals."""
    return round(sum(durations_s) / 3600, 2)


@dataclass(frozen=True)
class Event:
    """Event of a video from `start_s` to `end_s`: the actions shown to the encoder, and the narration."""

    start_s: float
    end_s: float
    spans: tuple[ActionSpan, ...]
    text: str

    @property
    def middle_s(self) -> float:
        """The second that narrators write."""
        return (self.start_s + self.end_s) / 2


EventT = TypeVar("EventT", bound=Event)


@dataclass(frozen=True)
class NarratedVideo(Generic[EventT]):
    """One video: its events, its entry in narration.json and its item in ego4d.json."""

    uid: str
    duration_s: float
    place: str
    events: list[EventT]
    narration: dict[str, Any]
    metadata: dict[str, Any]


@dataclass(frozen=True)
class QuestionDataset(SyntheticDataset, Generic[EventT]):
    """Narrated videos with features in Ego4D's format, and questions.json about the test videos.

    Subclasses define what happens in a video (`script`) and the questions about it (`questions`).
    """

    folders: ClassVar[tuple[str, ...]] = ("ego4d",)
    shortest_allowed_s: ClassVar[int]
    seed_word: ClassVar[str]
    """Word of the videos' random generators; part of the data."""
    jitter_s: ClassVar[float]
    """Standard deviation of the narrator's times."""

    training_videos: int = 100
    """Narrated videos to train on."""
    test_videos: int = 20
    """Narrated videos with questions; Ego4D's split "val" keeps them out of training."""
    shortest_s: int | float = 180.0
    """Seconds of the shortest video."""
    longest_s: int | float = 240.0
    """Seconds of the longest video."""
    feature_dtype: str = "float16"
    """Dtype of the .pt files: float32 or float16."""
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    """The simulated frozen encoder."""

    def check(self) -> None:
        """Check the common settings of these datasets."""
        self._check_range("training_videos", 1, 10**6)
        self._check_range("test_videos", 1, 10**6)
        self._check_lengths(self.shortest_allowed_s, self.shortest_s, self.longest_s)
        self._check_dtype(self.feature_dtype)

    @abstractmethod
    def script(self, rng: np.random.Generator, duration_s: float, place: int) -> list[EventT]:
        """Draw the events of a video, in order of time; `place` is an index into `PLACES`."""

    @abstractmethod
    def questions(self, rng: np.random.Generator, events: list[EventT]) -> list[Question]:
        """Return the questions about a video with these events; their `video` is set by the caller."""

    def videos(self, seed: int) -> tuple[list[NarratedVideo[EventT]], list[Question]]:
        """Plan all videos, training videos first, and the questions about the test videos."""
        videos, questions = list[NarratedVideo[EventT]](), list[Question]()
        for index in range(self.training_videos + self.test_videos):
            rng = random_of(seed, self.seed_word, index)
            uid, test = random_uid(rng), index >= self.training_videos
            duration_s = round(rng.uniform(self.shortest_s, self.longest_s) * FPS) / FPS
            place = int(rng.integers(len(PLACES)))
            events = self.script(rng, duration_s, place)
            narrated = narrator_pass(
                rng,
                np.array([event.middle_s for event in events]),
                [event.text for event in events],
                duration_s,
                self.jitter_s,
            )
            name = PLACES[place].name
            split, scenario = "val" if test else "train", f"Working in the {name}"
            metadata = video_metadata(uid, duration_s, index, split_em=split, scenario=scenario)
            narration = {"status": "complete", "narration_pass_1": narrated}
            videos.append(NarratedVideo(uid, duration_s, name, events, narration, metadata))
            if test:
                questions += [question._replace(video=uid) for question in self.questions(rng, events)]
        return videos, questions

    def generate(self, folder: Path, seed: int, progress: bool) -> dict[str, Any]:
        """Write ego4d/{narration.json, ego4d.json, features/<uid>.pt, questions.json} and return their counts."""
        ego4d = folder / "ego4d"
        videos, questions = self.videos(seed)
        write_narration_json(ego4d / "narration.json", [(video.uid, video.narration) for video in videos])
        write_ego4d_json(ego4d / "ego4d.json", [video.metadata for video in videos])
        encoder = FrozenEncoder(seed, self.encoder)
        rows = []
        for video in videos:
            spans = [span for event in video.events for span in event.spans]
            rows.append((video.uid, partial(encoder.encode, video.uid, video.duration_s, spans, video.place)))
        title = "features of narrated videos"
        write_feature_files(ego4d / "features", encoder, rows, self.feature_dtype, title, progress)
        write_questions(ego4d / "questions.json", questions)
        texts = narration_texts([video.narration for video in videos])
        groups = sorted({question.group for question in questions})
        return {
            "videos": len(videos),
            "training_videos": self.training_videos,
            "hours": hours([video.duration_s for video in videos]),
            "narrations": len(texts),
            "distinct_texts": len(set(texts)),
            "questions": {group: sum(question.group == group for question in questions) for group in groups},
        }
