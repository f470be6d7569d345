"""What happens in the drawn demo world: the deeds of each video, how it is recorded, and what narrators wrote."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from clep.demo.ego4d_files import random_uid, video_metadata
from clep.demo.ego_videos import KEPT_OUT, narrator_pass
from clep.demo.frozen_encoder import random_of
from clep.demo.grammar import NOUNS, PLACES, VERBS, kinetics_label, narrate, unseen_pairs
from clep.demo.pixels.film import Recording
from clep.demo.pixels.motions import MOTIONS
from clep.demo.pixels.scene import Deed, Scene
from clep.demo.pixels.shapes import THINGS
from clep.demo.simulate import read_lines
from clep.demo.video_settings import VideoWorldSettings

_NUMBER_OF_VERB = {verb.base: number for number, verb in enumerate(VERBS)}
DRAWN_VERBS = tuple(_NUMBER_OF_VERB[base] for base in MOTIONS)
"""Numbers, in the grammar, of the verbs that can be drawn."""
DRAWN_NOUNS = tuple(NOUNS.index(noun) for noun in THINGS)
"""Numbers, in the grammar, of the nouns that can be drawn."""
RECORDINGS = (
    Recording(),
    Recording(rate=Fraction(30000, 1001)),
    Recording(rate=Fraction(25)),
    Recording(variable=True),
    Recording(turned=True),
    Recording(stereo=True),
)
"""How the first videos are recorded, one each; all others are as the first."""

_LENGTH_S, _GAP_S = (1.6, 2.4), (0.45, 0.7)
_UNSURE, _COPIED, _NO_SECOND_PASS = 0.02, 0.25, 0.10
_NARRATOR_JITTER_S = 0.25


@dataclass(frozen=True)
class Film:
    """A video to be made: `name` without suffix, what is filmed, how long, and how."""

    name: str
    scene: Scene
    duration_s: Fraction
    recording: Recording


@dataclass(frozen=True)
class EgoFilm:
    """A first-person video, its entry in narration.json (None: not narrated) and its item in ego4d.json."""

    film: Film
    narration: dict[str, Any] | None
    metadata: dict[str, Any]


def never_shown(settings: VideoWorldSettings, seed: int) -> list[tuple[int, int]]:
    """Give the (verb, noun) pairs, as numbers in the grammar, that no first-person video shows or narrates, sorted."""
    rng = random_of(seed, "never shown")
    pairs = unseen_pairs(rng, settings.unseen_per_verb, len(DRAWN_VERBS), len(DRAWN_NOUNS))
    return sorted((DRAWN_VERBS[verb], DRAWN_NOUNS[noun]) for verb, noun in pairs)


def ego_films(settings: VideoWorldSettings, seed: int) -> list[EgoFilm]:
    """Plan every narrated video of the world, training videos first, and one more that nobody narrated."""
    count = settings.training_videos + settings.other_videos
    absent = set(never_shown(settings, seed))
    return [_ego_film(settings, seed, number, absent, narrated=number < count) for number in range(count + 1)]


def kinetics_films(csv_path: str | Path, seed: int) -> list[Film]:
    """Plan the clips of a val.csv that `write_kinetics` wrote of drawn pairs: one action in each, all else is drawn.

    Raises:
        InputError: the file is missing or lacks a column.
    """
    pairs = {kinetics_label(verb, noun): (verb, noun) for verb in DRAWN_VERBS for noun in DRAWN_NOUNS}
    films = []
    for line in read_lines(Path(csv_path), ("label", "youtube_id", "time_start", "time_end")):
        start, end = int(line["time_start"]), int(line["time_end"])
        name = f"{line['youtube_id']}_{start:06d}_{end:06d}"
        rng = random_of(seed, "drawn clip", name)
        verb, noun = pairs[line["label"]]
        idle_s = rng.uniform(0.0, min(0.5, (end - start) / 8), 2)
        others = rng.choice([other for other in DRAWN_NOUNS if other != noun], 4, replace=False)
        deed = Deed(verb, noun, float(idle_s[0]), float(end - start - idle_s[1]))
        scene = Scene(_scene_seed(rng), (noun, *others.tolist()), (deed,), int(rng.integers(len(PLACES))))
        films.append(Film(name, scene, Fraction(end - start), RECORDINGS[0]))
    return films


def _ego_film(
    settings: VideoWorldSettings, seed: int, number: int, absent: set[tuple[int, int]], narrated: bool
) -> EgoFilm:
    rng = random_of(seed, "drawn video", number)
    uid = random_uid(rng)
    recording = RECORDINGS[number] if number < len(RECORDINGS) else RECORDINGS[0]
    duration = recording.whole_frames(float(rng.uniform(settings.shortest_s, settings.longest_s)))
    place = int(rng.integers(len(PLACES)))
    in_sight = tuple(rng.choice(DRAWN_NOUNS, settings.things_in_sight, replace=False).tolist())
    deeds = _deeds(rng, float(duration), in_sight, absent)
    film = Film(uid, Scene(_scene_seed(rng), in_sight, deeds, place), duration, recording)

    other = number - settings.training_videos
    splits: dict[str, Any] = KEPT_OUT[other % len(KEPT_OUT)] if other >= 0 and narrated else {"split_em": "train"}
    redacted = narrated and other >= 0 and not splits
    narration: dict[str, Any] | None = None
    if narrated:
        narration = {"status": "redacted" if redacted else "complete", **_narrate(rng, deeds, place, float(duration))}
    ticks = len(recording.ticks(duration, film.scene.rng_seed))
    metadata = video_metadata(
        uid,
        float(duration),
        number,
        is_stereo=recording.stereo,
        redacted=redacted,
        scenario=f"Working in the {PLACES[place].name}",
        fps=float(ticks / duration),
        size=recording.shown_size(settings.width, settings.height),
        **splits,
    )
    return EgoFilm(film, narration, metadata)


def _deeds(
    rng: np.random.Generator, duration_s: float, in_sight: tuple[int, ...], absent: set[tuple[int, int]]
) -> tuple[Deed, ...]:
    """Draw what is done, one action after another; a pair is repeated only when all others have been done."""
    possible = [(verb, noun) for verb in DRAWN_VERBS for noun in in_sight if (verb, noun) not in absent]
    deeds: list[Deed] = []
    second = float(rng.uniform(0.2, 0.5))
    while True:
        for k in rng.permutation(len(possible)):
            length = float(rng.uniform(*_LENGTH_S))
            if second + length > duration_s:
                return tuple(deeds)
            verb, noun = possible[k]
            deeds.append(Deed(verb, noun, second, second + length))
            second += length + float(rng.uniform(*_GAP_S))


def _narrate(rng: np.random.Generator, deeds: tuple[Deed, ...], place: int, duration_s: float) -> dict[str, Any]:
    verb, noun = np.array([deed.verb for deed in deeds]), np.array([deed.noun for deed in deeds])
    where, nobody = np.full(len(deeds), place), np.zeros(len(deeds), dtype=bool)
    middle = np.array([(deed.start_s + deed.end_s) / 2 for deed in deeds])
    first, second = (narrate(rng, verb, noun, where, nobody, rng.random(len(deeds)) < _UNSURE) for _ in range(2))
    second = [a if same else b for a, b, same in zip(first, second, rng.random(len(deeds)) < _COPIED, strict=True)]
    passes = {"narration_pass_1": narrator_pass(rng, middle, first, duration_s, _NARRATOR_JITTER_S)}
    if rng.random() >= _NO_SECOND_PASS:
        passes["narration_pass_2"] = narrator_pass(rng, middle, second, duration_s, _NARRATOR_JITTER_S)
    return passes


def _scene_seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**32))
