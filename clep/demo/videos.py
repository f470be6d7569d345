"""Synthetic videos of Ego4D and Kinetics: H.264 files of drawn hands, with 8 verbs and 12 objects."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from clep.demo.annotation_files import (
    random_uid,
    video_metadata,
    write_ego4d_json,
    write_kinetics,
    write_narration_json,
)
from clep.demo.drawing.motions import MOTIONS
from clep.demo.drawing.scene import DrawnAction, Scene
from clep.demo.drawing.shapes import OBJECTS
from clep.demo.drawing.video_file import Recording, write_video
from clep.demo.encoder import random_of
from clep.demo.feature_files import write_files
from clep.demo.grammar import NOUNS, PLACES, VERBS, kinetics_label, unseen_pairs
from clep.demo.narrated import HELD_OUT_SPLITS, narration_texts, narrator_pass, two_narrators
from clep.demo.simulate import read_kinetics
from clep.demo.synthetic import SyntheticDataset
from clep.errors import InputError

_INDEX_OF_VERB = {verb.base: index for index, verb in enumerate(VERBS)}
DRAWN_VERBS = tuple(_INDEX_OF_VERB[base] for base in MOTIONS)
"""Indices, in the grammar, of the verbs that can be drawn."""
DRAWN_NOUNS = tuple(NOUNS.index(noun) for noun in OBJECTS)
"""Indices, in the grammar, of the nouns that can be drawn."""
RECORDINGS = (
    Recording(),
    Recording(rate=Fraction(30000, 1001)),
    Recording(rate=Fraction(25)),
    Recording(variable=True),
    Recording(rotated=True),
    Recording(stereo=True),
)
"""Recordings of the first videos, one each; all others are as the first."""

_LEAST_PX = 64
_LENGTH_S, _GAP_S = (1.6, 2.4), (0.45, 0.7)
_UNSURE, _COPIED, _NO_SECOND_PASS = 0.02, 0.25, 0.10
_NARRATOR_JITTER_S = 0.25


@dataclass(frozen=True)
class VideoPlan:
    """A video to draw: file name without suffix, scene, duration and recording."""

    name: str
    scene: Scene
    duration_s: Fraction
    recording: Recording


@dataclass(frozen=True)
class EgoVideoPlan:
    """A first-person video, its entry in narration.json (None: not narrated) and its item in ego4d.json."""

    video: VideoPlan
    narration: dict[str, Any] | None
    metadata: dict[str, Any]


@dataclass(frozen=True)
class SyntheticVideos(SyntheticDataset):
    """Synthetic videos of Ego4D and Kinetics; the default size is 24 minutes of video in 19 MB.

    Generates ego4d/{narration.json, ego4d.json, videos/<uid>.mp4} and kinetics/{val.csv,
    videos/<youtube_id>_<start:06d>_<end:06d>.mp4}. The Kinetics classes are the (verb, noun) pairs that no first-person
    video shows. The first six first-person videos differ in their recording: 30 fps, 29.97, 25, a variable rate, a
    rotated sensor, and stereo. Annotations and pixels depend on settings and seed only; the H.264 bytes may also differ
    between versions of PyAV.

    Raises:
        InputError: a setting is out of range; the message names it. `make` also raises if PyAV or Pillow is missing.
    """

    format = "clep-synthetic-videos"
    folders = ("ego4d", "kinetics")

    training_videos: int = 36
    """Narrated videos for training."""
    other_videos: int = 5
    """Narrated videos excluded from training: a fifth each in a val, test or multi split, or redacted."""
    shortest_s: int | float = 20.0
    """Seconds of the shortest first-person video."""
    longest_s: int | float = 28.0
    """Seconds of the longest first-person video."""
    unseen_per_verb: int = 3
    """Held-out nouns of each of the 8 verbs: 3 make 24 pairs that are never shown, the Kinetics classes."""
    kinetics_clips: int = 6
    """Clips per Kinetics class."""
    kinetics_clip_s: int = 3
    """Seconds of a Kinetics clip."""
    objects_per_video: int = 6
    """Objects in view in a video; actions are on these."""
    width: int = 256
    """Frame width in pixels, upright and of one lens."""
    height: int = 192
    """Frame height in pixels."""

    def check(self) -> None:
        """Check every setting."""
        for name, low in (("training_videos", 1), ("other_videos", 0), ("kinetics_clips", 1), ("kinetics_clip_s", 1)):
            self._check_range(name, low)
        self._check_lengths(3, self.shortest_s, self.longest_s)
        self._check_range("unseen_per_verb", 1, len(OBJECTS) - 1)
        self._check_range("objects_per_video", 1, len(OBJECTS))
        if self.objects_per_video <= self.unseen_per_verb:
            raise InputError(
                f"{type(self).__name__}: objects_per_video={self.objects_per_video} must be more than "
                f"unseen_per_verb={self.unseen_per_verb}, or a video could have no allowed action"
            )
        for name in ("width", "height"):
            if getattr(self, name) < _LEAST_PX or getattr(self, name) % 2:
                raise InputError(
                    f"{type(self).__name__}: {name} must be even and at least {_LEAST_PX}, got {getattr(self, name)}"
                )

    def held_out_pairs(self, seed: int) -> list[tuple[int, int]]:
        """Return the (verb, noun) pairs, as indices in the grammar, that no first-person video shows, sorted."""
        rng = random_of(seed, "never shown")
        pairs = unseen_pairs(rng, self.unseen_per_verb, len(DRAWN_VERBS), len(DRAWN_NOUNS))
        return sorted((DRAWN_VERBS[verb], DRAWN_NOUNS[noun]) for verb, noun in pairs)

    def videos(self, seed: int) -> list[EgoVideoPlan]:
        """Plan all narrated videos, training videos first, and one without narrations."""
        count = self.training_videos + self.other_videos
        absent = set(self.held_out_pairs(seed))
        return [self._ego_video(seed, index, absent, narrated=index < count) for index in range(count + 1)]

    def generate(self, folder: Path, seed: int, progress: bool) -> dict[str, Any]:
        """Write annotations and videos, and return their counts."""
        ego4d, kinetics = (folder / name for name in self.folders)
        videos, unseen = self.videos(seed), self.held_out_pairs(seed)
        narrated = [(plan.video.name, plan.narration) for plan in videos if plan.narration is not None]
        write_narration_json(ego4d / "narration.json", narrated)
        write_ego4d_json(ego4d / "ego4d.json", [plan.metadata for plan in videos])
        write_kinetics(kinetics / "val.csv", unseen, self.kinetics_clips, seed, self.kinetics_clip_s)
        clips = kinetics_videos(kinetics / "val.csv", seed)
        ego = [plan.video for plan in videos]
        self._write_missing(ego4d / "videos", ego, "first-person videos", progress)
        self._write_missing(kinetics / "videos", clips, "Kinetics clips", progress)
        return {
            "videos": len(videos),
            "training_videos": self.training_videos,
            "narrations": len(narration_texts([plan.narration for plan in videos])),
            "verbs": len(DRAWN_VERBS),
            "nouns": len(DRAWN_NOUNS),
            "shown_pairs": len({action[:2] for plan in ego for action in plan.scene.actions}),
            "held_out_pairs": len(unseen),
            "kinetics_classes": len(unseen),
            "kinetics_clips": len(clips),
            "minutes": round(float(sum(plan.duration_s for plan in [*ego, *clips])) / 60, 1),
        }

    def _write_missing(self, folder: Path, plans: list[VideoPlan], title: str, progress: bool) -> None:
        def write(path: Path, plan: VideoPlan) -> None:
            write_video(path, plan.scene, plan.duration_s, plan.recording, self.width, self.height)

        write_files(folder, ".mp4", [(plan.name, plan) for plan in plans], write, title, progress)

    def _ego_video(self, seed: int, index: int, absent: set[tuple[int, int]], narrated: bool) -> EgoVideoPlan:
        rng = random_of(seed, "drawn video", index)
        uid = random_uid(rng)
        recording = RECORDINGS[index] if index < len(RECORDINGS) else RECORDINGS[0]
        duration = recording.whole_frames(float(rng.uniform(self.shortest_s, self.longest_s)))
        place = int(rng.integers(len(PLACES)))
        objects = tuple(rng.choice(DRAWN_NOUNS, self.objects_per_video, replace=False).tolist())
        actions = _actions(rng, float(duration), objects, absent)
        video = VideoPlan(uid, Scene(_scene_seed(rng), objects, actions, place), duration, recording)

        other = index - self.training_videos
        splits: dict[str, Any] = {"split_em": "train"}
        if other >= 0 and narrated:
            splits = HELD_OUT_SPLITS[other % len(HELD_OUT_SPLITS)]
        redacted = narrated and other >= 0 and not splits
        narration: dict[str, Any] | None = None
        if narrated:
            passes = _narrate(rng, actions, place, float(duration))
            narration = {"status": "redacted" if redacted else "complete", **passes}
        metadata = video_metadata(
            uid,
            float(duration),
            index,
            is_stereo=recording.stereo,
            redacted=redacted,
            scenario=f"Working in the {PLACES[place].name}",
            fps=float(len(recording.ticks(duration, video.scene.rng_seed)) / duration),
            size=recording.shown_size(self.width, self.height),
            **splits,
        )
        return EgoVideoPlan(video, narration, metadata)


def kinetics_videos(csv_path: str | Path, seed: int) -> list[VideoPlan]:
    """Plan the clips of a val.csv that `write_kinetics` wrote for drawn pairs: one action each, the rest is random.

    Raises:
        InputError: the file is missing or lacks a column.
    """
    pairs = {kinetics_label(verb, noun): (verb, noun) for verb in DRAWN_VERBS for noun in DRAWN_NOUNS}
    plans = []
    for name, label, duration_s in read_kinetics(csv_path):
        rng = random_of(seed, "drawn clip", name)
        verb, noun = pairs[label]
        idle_s = rng.uniform(0.0, min(0.5, duration_s / 8), 2)
        others = rng.choice([other for other in DRAWN_NOUNS if other != noun], 4, replace=False)
        action = DrawnAction(verb, noun, float(idle_s[0]), float(duration_s - idle_s[1]))
        scene = Scene(_scene_seed(rng), (noun, *others.tolist()), (action,), int(rng.integers(len(PLACES))))
        plans.append(VideoPlan(name, scene, Fraction(duration_s), RECORDINGS[0]))
    return plans


def _actions(
    rng: np.random.Generator, duration_s: float, objects: tuple[int, ...], absent: set[tuple[int, int]]
) -> tuple[DrawnAction, ...]:
    """Draw actions, one after another; a pair is repeated only after all others."""
    possible = [(verb, noun) for verb in DRAWN_VERBS for noun in objects if (verb, noun) not in absent]
    actions: list[DrawnAction] = []
    second = float(rng.uniform(0.2, 0.5))
    while True:
        for k in rng.permutation(len(possible)):
            length = float(rng.uniform(*_LENGTH_S))
            if second + length > duration_s:
                return tuple(actions)
            verb, noun = possible[k]
            actions.append(DrawnAction(verb, noun, second, second + length))
            second += length + float(rng.uniform(*_GAP_S))


def _narrate(
    rng: np.random.Generator, actions: tuple[DrawnAction, ...], place: int, duration_s: float
) -> dict[str, Any]:
    verb, noun = np.array([action.verb for action in actions]), np.array([action.noun for action in actions])
    middle = np.array([(action.start_s + action.end_s) / 2 for action in actions])
    first, second = two_narrators(rng, verb, noun, place, np.zeros(len(actions), dtype=bool), _UNSURE, _COPIED)
    passes = {"narration_pass_1": narrator_pass(rng, middle, first, duration_s, _NARRATOR_JITTER_S)}
    if rng.random() >= _NO_SECOND_PASS:
        passes["narration_pass_2"] = narrator_pass(rng, middle, second, duration_s, _NARRATOR_JITTER_S)
    return passes


def _scene_seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**32))
