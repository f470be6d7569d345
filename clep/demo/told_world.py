"""Worlds of narrated videos with questions about them: Ego4D's files, features, and questions.json."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from clep.demo.ego4d_files import video_metadata, write_ego4d_json, write_narration_json
from clep.demo.ego_videos import narrator_pass
from clep.demo.feature_files import write_feature_files
from clep.demo.frozen_encoder import EncoderSettings, FrozenEncoder, Performance
from clep.evaluation.multiple_choice import Question, write_questions


class Told(NamedTuple):
    """Something that happens in a video: what is seen, from when to when (seconds), and what a narrator writes."""

    start_s: float
    end_s: float
    seen: tuple[Performance, ...]
    text: str

    @property
    def middle_s(self) -> float:
        """The second that narrators mean."""
        return (self.start_s + self.end_s) / 2


@dataclass(frozen=True)
class ToldVideo:
    """One video: what happens in it, its entry in narration.json and its item in ego4d.json."""

    uid: str
    duration_s: float
    place: str
    happens: list[Told]
    narration: dict[str, Any]
    metadata: dict[str, Any]


def told_video(
    rng: np.random.Generator,
    uid: str,
    number: int,
    duration_s: float,
    place: str,
    happens: list[Told],
    test: bool,
    jitter_s: float,
) -> ToldVideo:
    """Have a narrator tell what happens in a video; one that is tested on is in Ego4D's split "val" of `split_em`."""
    middle_s = np.array([one.middle_s for one in happens])
    told = narrator_pass(rng, middle_s, [one.text for one in happens], duration_s, jitter_s)
    metadata = video_metadata(
        uid, duration_s, number, split_em="val" if test else "train", scenario=f"Working in the {place}"
    )
    narration = {"status": "complete", "narration_pass_1": told}
    return ToldVideo(uid, duration_s, place, happens, narration, metadata)


def write_told_world(
    folder: Path,
    videos: Sequence[ToldVideo],
    questions: Sequence[Question],
    encoder: EncoderSettings,
    seed: int,
    dtype: str,
    progress: bool,
) -> dict[str, Any]:
    """Write narration.json, ego4d.json, features/<uid>.pt and questions.json into `folder`, and return their figures.

    Feature files that are there are kept.
    """
    write_narration_json(folder / "narration.json", [(video.uid, video.narration) for video in videos])
    write_ego4d_json(folder / "ego4d.json", [video.metadata for video in videos])
    frozen = FrozenEncoder(seed, encoder)

    def rows_of() -> Iterator[tuple[str, Any]]:
        for video in videos:
            seen = [performance for one in video.happens for performance in one.seen]
            yield video.uid, partial(frozen.encode, video.uid, video.duration_s, seen, video.place)

    write_feature_files(folder / "features", frozen, rows_of(), dtype, "features of narrated videos", progress)
    write_questions(folder / "questions.json", questions)
    texts = [one["narration_text"] for video in videos for one in video.narration["narration_pass_1"]["narrations"]]
    groups = sorted({question.group for question in questions})
    return {
        "videos": len(videos),
        "training_videos": sum(video.metadata["split_em"] == "train" for video in videos),
        "hours": round(sum(video.duration_s for video in videos) / 3600, 2),
        "narrations": len(texts),
        "distinct_texts": len(set(texts)),
        "questions": {group: sum(question.group == group for question in questions) for group in groups},
    }
