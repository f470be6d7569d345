"""Synthetic features of Ego4D, Kinetics and Charades-Ego, with zero-shot classes that no narration mentions."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from clep.demo.annotation_files import (
    charades_pairs,
    random_uid,
    video_metadata,
    write_charades_classes,
    write_charades_csv,
    write_ego4d_json,
    write_kinetics,
    write_narration_json,
)
from clep.demo.encoder import FPS, ActionSpan, EncoderSettings, FrozenEncoder, random_of
from clep.demo.feature_files import write_feature_files
from clep.demo.grammar import NOUNS, PLACES, VERBS, action_of, unseen_pairs
from clep.demo.narrated import HELD_OUT_SPLITS, hours, narration_texts, narrator_pass, two_narrators
from clep.demo.simulate import simulate_ego_charades, simulate_kinetics
from clep.demo.synthetic import SyntheticDataset
from clep.errors import InputError

_OBJECTS_PER_VIDEO = 14
_REPEAT, _BY_OTHER, _UNSURE, _COPIED = 0.06, 0.08, 0.03, 0.25
_NARRATOR_JITTER_S = 0.4
_NO_SECOND_PASS, _NO_FIRST_PASS, _STEREO = 0.10, 0.04, 0.04
_EXTRA_AXIS_EVERY = 25


@dataclass(frozen=True)
class EgoVideo:
    """One video: its actions, its entry in narration.json (None: not narrated) and its item in ego4d.json."""

    uid: str
    duration_s: float
    place: str
    spans: list[ActionSpan]
    pairs: set[tuple[int, int]]
    narration: dict[str, Any] | None
    metadata: dict[str, Any]


@dataclass(frozen=True)
class SyntheticFeatures(SyntheticDataset):
    """Synthetic features of Ego4D, Kinetics and Charades-Ego; the default size is about 360 MB.

    Generates ego4d/{narration.json, ego4d.json, features/<uid>.pt}, kinetics/{val.csv, features/…} and
    ego_charades/{CharadesEgo_v1_test.csv, CharadesEgo_v1_train.csv, Charades_v1_classes.txt, features/…}.

    Raises:
        InputError: a setting is out of range; the message names it.
    """

    format = "clep-synthetic-features"
    folders = ("ego4d", "kinetics", "ego_charades")

    training_videos: int = 120
    """Narrated videos for training."""
    other_videos: int = 20
    """Narrated videos excluded from training: a fifth each in a val, test or multi split, or redacted."""
    shortest_s: int | float = 210.0
    """Seconds of the shortest video."""
    longest_s: int | float = 330.0
    """Seconds of the longest video."""
    unseen_per_verb: int = 7
    """Held-out nouns of each of the 30 verbs: 7 make 210 pairs that are never narrated, the Kinetics classes."""
    kinetics_clips: int = 10
    """Ten-second clips per Kinetics class."""
    charades_classes: int = 157
    """Charades classes; about two thirds are held-out pairs, the others are narrated ones."""
    charades_scripts: int = 120
    """Charades-Ego scripts; each has a first-person and a third-person video."""
    feature_dtype: str = "float16"
    """Dtype of the .pt files: float32 as Ego4D's own, or float16, half as large on disk."""
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    """The simulated frozen encoder, which decides the difficulty."""

    def check(self) -> None:
        """Check every setting."""
        self._check_range("training_videos", 1)
        self._check_range("other_videos", 0)
        self._check_range("kinetics_clips", 1)
        self._check_range("charades_scripts", 1)
        self._check_lengths(10, self.shortest_s, self.longest_s)
        self._check_range("unseen_per_verb", 1, len(NOUNS) - 1)
        self._check_range("charades_classes", 1, 999)
        pairs = self.unseen_per_verb * len(VERBS)
        if self.charades_classes > 3 * pairs // 2:
            raise InputError(
                f"{type(self).__name__}: charades_classes={self.charades_classes} needs two thirds as many held-out "
                f"pairs, and there are {pairs}: lower it or raise unseen_per_verb"
            )
        self._check_dtype(self.feature_dtype)

    def held_out_pairs(self, seed: int) -> list[tuple[int, int]]:
        """Return the (verb, noun) pairs, as indices, that appear in no video and no narration, sorted."""
        return unseen_pairs(random_of(seed, "never narrated"), self.unseen_per_verb)

    def videos(self, seed: int) -> list[EgoVideo]:
        """Plan all narrated videos, training videos first, and one without narrations."""
        allowed = np.ones((len(VERBS), len(NOUNS)), dtype=bool)
        for verb, noun in self.held_out_pairs(seed):
            allowed[verb, noun] = False
        count = self.training_videos + self.other_videos
        return [self._video(seed, index, allowed, narrated=index < count) for index in range(count + 1)]

    def generate(self, folder: Path, seed: int, progress: bool) -> dict[str, Any]:
        """Write the files of the three datasets, and return their counts."""
        ego4d, kinetics, charades = (folder / name for name in self.folders)
        videos, unseen = self.videos(seed), self.held_out_pairs(seed)
        narrated = [(video.uid, video.narration) for video in videos if video.narration is not None]
        write_narration_json(ego4d / "narration.json", narrated)
        write_ego4d_json(ego4d / "ego4d.json", [video.metadata for video in videos])
        encoder, title = FrozenEncoder(seed, self.encoder), "features of narrated videos"
        write_feature_files(ego4d / "features", encoder, _rows(encoder, videos), self.feature_dtype, title, progress)

        options: dict[str, Any] = {"seed": seed, "dtype": self.feature_dtype, "settings": self.encoder}
        options["progress"] = progress
        clips = write_kinetics(kinetics / "val.csv", unseen, self.kinetics_clips, seed)
        simulate_kinetics(kinetics / "val.csv", kinetics / "features", **options)

        pairs = charades_pairs(unseen, self.charades_classes, seed)
        classes_txt = charades / "Charades_v1_classes.txt"
        write_charades_classes(classes_txt, pairs)
        write_charades_csv(charades / "CharadesEgo_v1_train.csv", pairs, scripts=4, seed=seed)
        charades_videos = write_charades_csv(charades / "CharadesEgo_v1_test.csv", pairs, self.charades_scripts, seed)
        simulate_ego_charades(charades / "CharadesEgo_v1_test.csv", classes_txt, charades / "features", **options)

        texts = narration_texts([entry for _, entry in narrated])
        return {
            "videos": len(videos),
            "training_videos": self.training_videos,
            "hours": hours([video.duration_s for video in videos]),
            "narrations": len(texts),
            "distinct_texts": len(set(texts)),
            "narrated_pairs": len(set().union(*(video.pairs for video in videos))),
            "held_out_pairs": len(unseen),
            "kinetics_classes": len(unseen),
            "kinetics_clips": clips,
            "ego_charades_classes": len(pairs),
            "ego_charades_held_out": len(set(pairs) & set(unseen)),
            "ego_charades_videos": charades_videos,
        }

    def _video(self, seed: int, index: int, allowed: np.ndarray, narrated: bool) -> EgoVideo:
        rng = random_of(seed, "ego video", index)
        uid = random_uid(rng)
        duration_s = round(rng.uniform(self.shortest_s, self.longest_s) * FPS) / FPS
        place = int(rng.integers(len(PLACES)))
        verb, noun, start_s, end_s = _script(rng, duration_s, allowed)
        by_other = rng.random(len(verb)) < _BY_OTHER
        spans = [
            ActionSpan(float(start_s[i]), float(end_s[i]), action_of(int(verb[i]), int(noun[i]), bool(by_other[i])))
            for i in range(len(verb))
        ]

        other = index - self.training_videos
        splits: dict[str, Any] = {}
        if other >= 0 and narrated:
            splits = HELD_OUT_SPLITS[other % len(HELD_OUT_SPLITS)]
        elif rng.random() < 0.6:
            splits = {str(rng.choice(["split_em", "split_fho", "split_av"])): "train"}
        redacted = narrated and other >= 0 and not splits

        narration: dict[str, Any] | None = None
        if narrated:
            narration = {"status": "redacted" if redacted else "complete"}
            middle = (start_s + end_s) / 2
            first, second = two_narrators(rng, verb, noun, place, by_other, _UNSURE, _COPIED)
            absent = rng.random()
            if absent >= _NO_FIRST_PASS or index == 0:
                narration["narration_pass_1"] = narrator_pass(rng, middle, first, duration_s, _NARRATOR_JITTER_S)
            if absent < 1 - _NO_SECOND_PASS or index == 0:
                narration["narration_pass_2"] = narrator_pass(rng, middle, second, duration_s, _NARRATOR_JITTER_S)
            if redacted and other % 2:
                narration = {"status": "redacted"}
        metadata = video_metadata(
            uid,
            duration_s,
            index,
            is_stereo=bool(rng.random() < _STEREO),
            redacted=redacted,
            scenario=f"Working in the {PLACES[place].name}",
            **splits,
        )
        pairs = {(int(v), int(n)) for v, n in zip(verb, noun, strict=True)}
        return EgoVideo(uid, duration_s, PLACES[place].name, spans, pairs, narration, metadata)


def _script(rng: np.random.Generator, duration_s: float, allowed: np.ndarray) -> tuple[np.ndarray, ...]:
    """Draw the actions of a video, one after another, about every 3.8 seconds, on the objects of this video.

    Returns:
        Verb and noun (indices), start and end (seconds), each `[actions]`.
    """
    objects = rng.choice(len(NOUNS), _OBJECTS_PER_VIDEO, replace=False)
    frequency = 1 / (3 + rng.permutation(len(VERBS)))
    odds = allowed[:, objects] * frequency[:, None]
    most = int(duration_s / 1.8) + 1
    drawn = rng.choice(odds.size, most, p=odds.ravel() / odds.sum())
    for i in np.flatnonzero(rng.random(most) < _REPEAT).tolist():
        drawn[i] = drawn[max(i - 1, 0)]
    length, gap = rng.uniform(1.5, 4.0, most), rng.uniform(0.3, 1.8, most)
    start_s = np.cumsum(length + gap) - length
    kept = start_s + length <= duration_s
    verb, column = drawn[kept] // _OBJECTS_PER_VIDEO, drawn[kept] % _OBJECTS_PER_VIDEO
    return verb, objects[column], start_s[kept], (start_s + length)[kept]


def _rows(encoder: FrozenEncoder, videos: list[EgoVideo]) -> Iterator[tuple[str, Callable[[], Float[Tensor, "..."]]]]:
    """Yield each video's id and the function that encodes it; some files have the extra axis of Ego4D's features."""

    def rows(video: EgoVideo, extra_axis: bool) -> Float[Tensor, "..."]:
        made = encoder.encode(video.uid, video.duration_s, video.spans, video.place)
        return made[:, None] if extra_axis else made

    for index, video in enumerate(videos):
        yield video.uid, partial(rows, video, index % _EXTRA_AXIS_EVERY == 1)
