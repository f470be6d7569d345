"""The objectives demo world: narrated videos on which objectives, positives, towers and batches make a difference."""

import csv
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from clep.demo.ego4d_files import random_uid
from clep.demo.frozen_encoder import EncoderSettings, random_of
from clep.demo.grammar import PLACES
from clep.demo.objectives_script import THINGS, deeds, happenings, questions, taxonomy
from clep.demo.settings import FEATURE_DTYPES
from clep.demo.told_world import ToldVideo, told_video, write_told_world
from clep.demo.whole import WorldKind
from clep.errors import InputError
from clep.evaluation.multiple_choice import Question
from clep.files import atomic_path

_KIND = WorldKind("clep-demo-objectives-world", 1, ("ego4d", "taxonomy"))
_JITTER_S = 0.1


@dataclass(frozen=True)
class ObjectivesWorldSettings:
    """Size and difficulty of an objectives demo world.

    Raises:
        InputError: a value is out of range; the message names it.
    """

    training_videos: int = 60
    """Narrated videos to train on."""
    test_videos: int = 20
    """Narrated videos that questions are asked about; Ego4D's split "val" keeps them out of training."""
    shortest_s: int | float = 180.0
    """Seconds of the shortest video."""
    longest_s: int | float = 240.0
    """Seconds of the longest video."""
    in_sight: int = 4
    """Things in a video, of 12: the fewer, the more alike are neighbours in time."""
    feature_dtype: str = "float16"
    """Number format of the .pt files: float32 or float16."""
    encoder: EncoderSettings = field(default_factory=lambda: EncoderSettings(dim=128, hidden=256, row_noise=0.3))
    """How the simulated frozen encoder sees; small rows, so that a run takes seconds."""

    def __post_init__(self) -> None:
        # 180 and 180.0 are the same world and must have the same digest.
        object.__setattr__(self, "shortest_s", float(self.shortest_s))
        object.__setattr__(self, "longest_s", float(self.longest_s))
        for name, most in (("training_videos", 10**6), ("test_videos", 10**6), ("in_sight", len(THINGS))):
            if not 1 <= getattr(self, name) <= most:
                raise InputError(f"objectives demo world: {name} must be in 1 … {most}, got {getattr(self, name)}")
        if not 20.0 <= self.shortest_s <= self.longest_s:
            raise InputError(
                f"objectives demo world: need 20 <= shortest_s <= longest_s, got {self.shortest_s} and {self.longest_s}"
            )
        if self.feature_dtype not in FEATURE_DTYPES:
            raise InputError(
                f"objectives demo world: feature_dtype must be one of {FEATURE_DTYPES}, got {self.feature_dtype!r}"
            )


def make_objectives_world(
    out: str | Path, settings: ObjectivesWorldSettings | None = None, seed: int = 0, progress: bool = True
) -> dict[str, Any]:
    """Make the objectives demo world in the folder `out`, or reuse the one that is there.

    Under `out`: ego4d/{narration.json, ego4d.json, features/<uid>.pt} in the official formats, ego4d/questions.json
    about the test videos (see `clep.evaluation.MultipleChoice`), taxonomy/narration_{verb,noun}_taxonomy.csv, and
    world.json. Questions of the group "order" have two choices that only the order of rows tells apart, those of
    "neighbours" have what is done within a minute as choices, and those of "action" all there is.

    Returns:
        The figures of world.json (counts), and `folder`.

    Raises:
        InputError: the folder holds a whole world of other settings, or data that no demo world made; nothing is
            touched.
    """
    made_of, folder = settings or ObjectivesWorldSettings(), Path(out)
    return _KIND.make_or_reuse(folder, asdict(made_of), seed, partial(_make, folder, made_of, seed, progress))


def objectives_videos(settings: ObjectivesWorldSettings, seed: int) -> tuple[list[ToldVideo], list[Question]]:
    """Make the videos of the world, training videos first, and the questions about the test videos."""
    videos, asked = list[ToldVideo](), list[Question]()
    for number in range(settings.training_videos + settings.test_videos):
        rng = random_of(seed, "objectives video", number)
        uid, test = random_uid(rng), number >= settings.training_videos
        duration_s = round(rng.uniform(settings.shortest_s, settings.longest_s) * 30) / 30
        place = int(rng.integers(len(PLACES)))
        happens = happenings(rng, duration_s, place, settings.in_sight)
        told = [one for _, one in happens]
        videos.append(told_video(rng, uid, number, duration_s, PLACES[place].name, told, test, _JITTER_S))
        if test:
            asked += [question._replace(video=uid) for question in questions(rng, happens)]
    return videos, asked


def _make(out: Path, settings: ObjectivesWorldSettings, seed: int, progress: bool) -> dict[str, Any]:
    videos, asked = objectives_videos(settings, seed)
    for kind, groups in taxonomy().items():
        _write_taxonomy(out / "taxonomy" / f"narration_{kind}_taxonomy.csv", groups)
    figures = write_told_world(out / "ego4d", videos, asked, settings.encoder, seed, settings.feature_dtype, progress)
    return {**figures, "actions": len(deeds()), "bytes": _KIND.bytes_in(out)}


def _write_taxonomy(path: Path, groups: list[list[str]]) -> None:
    """Write groups of words in the form of Ego4D's taxonomy: `label,group`, a Python list in the second column."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("label", "group"))
        writer.writerows(("_".join(group[0].split()), str(group)) for group in groups)
