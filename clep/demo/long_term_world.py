"""The long-term demo world: narrated videos in which what is right to say depends on what happened before."""

from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from clep.demo.ego4d_files import random_uid
from clep.demo.frozen_encoder import EncoderSettings, random_of
from clep.demo.grammar import PLACES
from clep.demo.long_term_script import happenings
from clep.demo.settings import FEATURE_DTYPES
from clep.demo.told_world import ToldVideo, told_video, write_told_world
from clep.demo.whole import WorldKind
from clep.errors import InputError
from clep.evaluation.multiple_choice import Question

_KIND = WorldKind("clep-demo-long-term-world", 1, ("ego4d",))
_JITTER_S = 0.3


@dataclass(frozen=True)
class LongTermWorldSettings:
    """Size and difficulty of a long-term demo world.

    Raises:
        InputError: a value is out of range; the message names it.
    """

    training_videos: int = 300
    """Narrated videos to train on."""
    test_videos: int = 40
    """Narrated videos that questions are asked about; Ego4D's split "val" keeps them out of training."""
    shortest_s: int | float = 180.0
    """Seconds of the shortest video."""
    longest_s: int | float = 240.0
    """Seconds of the longest video."""
    in_play: int = 2
    """At most so many things wait for their moment at once: how much the context holds that does not matter."""
    feature_dtype: str = "float16"
    """Number format of the .pt files: float32 or float16."""
    encoder: EncoderSettings = field(
        default_factory=lambda: EncoderSettings(dim=64, hidden=128, jitter=0.15, row_noise=0.15, bias=0.2, drift=0.1)
    )
    """How the simulated frozen encoder sees; small rows, so that a minute of them is quickly read."""

    def __post_init__(self) -> None:
        # 180 and 180.0 are the same world and must have the same digest.
        object.__setattr__(self, "shortest_s", float(self.shortest_s))
        object.__setattr__(self, "longest_s", float(self.longest_s))
        for name, least, most in (("training_videos", 1, 10**6), ("test_videos", 1, 10**6), ("in_play", 1, 6)):
            if not least <= getattr(self, name) <= most:
                raise InputError(f"long-term demo world: {name} must be in {least} … {most}, got {getattr(self, name)}")
        if not 60.0 <= self.shortest_s <= self.longest_s:
            raise InputError(
                f"long-term demo world: need 60 <= shortest_s <= longest_s, got {self.shortest_s} and {self.longest_s}"
            )
        if self.feature_dtype not in FEATURE_DTYPES:
            raise InputError(
                f"long-term demo world: feature_dtype must be one of {FEATURE_DTYPES}, got {self.feature_dtype!r}"
            )


def make_long_term_world(
    out: str | Path, settings: LongTermWorldSettings | None = None, seed: int = 0, progress: bool = True
) -> dict[str, Any]:
    """Make the long-term demo world in the folder `out`, or reuse the one that is there.

    Under `out`: ego4d/{narration.json, ego4d.json, features/<uid>.pt} in the official formats, ego4d/questions.json
    about the test videos (see `clep.evaluation.MultipleChoice`), and world.json. Questions of the groups
    "who_picked_it_up" and "open_or_closed" are answered by what happened 7 to 27 seconds before their moment, and by
    nothing at the moment; those of "now" are answered by the moment itself.

    Returns:
        The figures of world.json (counts), and `folder`.

    Raises:
        InputError: the folder holds a whole world of other settings, or data that no demo world made; nothing is
            touched.
    """
    made_of, folder = settings or LongTermWorldSettings(), Path(out)
    return _KIND.make_or_reuse(folder, asdict(made_of), seed, partial(_make, folder, made_of, seed, progress))


def long_term_videos(settings: LongTermWorldSettings, seed: int) -> tuple[list[ToldVideo], list[Question]]:
    """Make the videos of the world, training videos first, and the questions about the test videos."""
    videos, questions = [], list[Question]()
    for number in range(settings.training_videos + settings.test_videos):
        rng = random_of(seed, "long-term video", number)
        uid, test = random_uid(rng), number >= settings.training_videos
        duration_s = round(rng.uniform(settings.shortest_s, settings.longest_s) * 30) / 30
        place = PLACES[int(rng.integers(len(PLACES)))].name
        happens, asked = happenings(rng, duration_s, settings.in_play)
        videos.append(told_video(rng, uid, number, duration_s, place, happens, test, _JITTER_S))
        questions += [question._replace(video=uid) for question in asked if test]
    return videos, questions


def _make(out: Path, settings: LongTermWorldSettings, seed: int, progress: bool) -> dict[str, Any]:
    videos, questions = long_term_videos(settings, seed)
    figures = write_told_world(
        out / "ego4d", videos, questions, settings.encoder, seed, settings.feature_dtype, progress
    )
    return {**figures, "bytes": _KIND.bytes_in(out)}
