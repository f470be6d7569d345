"""The narrated first-person videos of the demo world: what happens in each, and what two narrators wrote about it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from clep.demo.ego4d_files import narration_pass, random_uid, video_metadata
from clep.demo.frozen_encoder import Performance, random_of
from clep.demo.grammar import NOUNS, PLACES, VERBS, action_of, narrate, unseen_pairs
from clep.demo.settings import WorldSettings

_NOUNS_IN_SIGHT = 14
_REPEAT, _BY_OTHER, _UNSURE, _COPIED, _DROPPED, _NARRATED_TWICE = 0.06, 0.08, 0.03, 0.25, 0.08, 0.03
_NARRATOR_JITTER_S = 0.4
_SHUFFLED_PASS, _NO_SECOND_PASS, _NO_FIRST_PASS, _STEREO = 0.3, 0.10, 0.04, 0.04
KEPT_OUT: tuple[dict[str, Any], ...] = (
    {"split_em": "val"},
    {"split_fho": "test"},
    {"split_em": "train", "split_fho": "multi"},
    {"split_av": "val"},
    {},
)
"""Splits of the videos that may not be trained on, dealt in turn; the last kind is redacted."""


@dataclass(frozen=True)
class EgoVideo:
    """One video: what happens in it, its entry in narration.json (None: not narrated) and its item in ego4d.json."""

    uid: str
    duration_s: float
    place: str
    performances: list[Performance]
    pairs: set[tuple[int, int]]
    narration: dict[str, Any] | None
    metadata: dict[str, Any]


def never_narrated(settings: WorldSettings, seed: int) -> list[tuple[int, int]]:
    """Give the (verb, noun) pairs that appear in no video and no narration of the world of this seed, sorted."""
    return unseen_pairs(random_of(seed, "never narrated"), settings.unseen_per_verb)


def ego_videos(settings: WorldSettings, seed: int) -> list[EgoVideo]:
    """Make every narrated video of the world, training videos first, and one more that nobody narrated."""
    allowed = np.ones((len(VERBS), len(NOUNS)), dtype=bool)
    for verb, noun in never_narrated(settings, seed):
        allowed[verb, noun] = False
    count = settings.training_videos + settings.other_videos
    return [_video(settings, seed, number, allowed, narrated=number < count) for number in range(count + 1)]


def _video(settings: WorldSettings, seed: int, number: int, allowed: np.ndarray, narrated: bool) -> EgoVideo:
    rng = random_of(seed, "ego video", number)
    uid = random_uid(rng)
    duration_s = round(rng.uniform(settings.shortest_s, settings.longest_s) * 30) / 30
    place = int(rng.integers(len(PLACES)))
    verb, noun, start_s, end_s = _script(rng, duration_s, allowed)
    by_other = rng.random(len(verb)) < _BY_OTHER
    performances = [
        Performance(float(start_s[i]), float(end_s[i]), action_of(int(verb[i]), int(noun[i]), bool(by_other[i])))
        for i in range(len(verb))
    ]

    other = number - settings.training_videos
    splits: dict[str, Any] = {}
    if other >= 0 and narrated:
        splits = KEPT_OUT[other % len(KEPT_OUT)]
    elif rng.random() < 0.6:
        splits = {str(rng.choice(["split_em", "split_fho", "split_av"])): "train"}
    redacted = narrated and other >= 0 and not splits

    narration: dict[str, Any] | None = None
    if narrated:
        narration = {"status": "redacted" if redacted else "complete"}
        where = np.full(len(verb), place)
        middle = (start_s + end_s) / 2
        first = narrate(rng, verb, noun, where, by_other, rng.random(len(verb)) < _UNSURE)
        second = narrate(rng, verb, noun, where, by_other, rng.random(len(verb)) < _UNSURE)
        second = [a if same else b for a, b, same in zip(first, second, rng.random(len(verb)) < _COPIED, strict=True)]
        absent = rng.random()
        if absent >= _NO_FIRST_PASS or number == 0:
            narration["narration_pass_1"] = narrator_pass(rng, middle, first, duration_s)
        if absent < 1 - _NO_SECOND_PASS or number == 0:
            narration["narration_pass_2"] = narrator_pass(rng, middle, second, duration_s)
        if redacted and other % 2:
            narration = {"status": "redacted"}
    metadata = video_metadata(
        uid,
        duration_s,
        number,
        is_stereo=bool(rng.random() < _STEREO),
        redacted=redacted,
        scenario=f"Working in the {PLACES[place].name}",
        **splits,
    )
    pairs = {(int(v), int(n)) for v, n in zip(verb, noun, strict=True)}
    return EgoVideo(uid, duration_s, PLACES[place].name, performances, pairs, narration, metadata)


def _script(rng: np.random.Generator, duration_s: float, allowed: np.ndarray) -> tuple[np.ndarray, ...]:
    """Draw what is done, one action after another, about every 3.8 seconds, with the things that are in sight."""
    in_sight = rng.choice(len(NOUNS), _NOUNS_IN_SIGHT, replace=False)
    usual = 1 / (3 + rng.permutation(len(VERBS)))
    odds = allowed[:, in_sight] * usual[:, None]
    most = int(duration_s / 1.8) + 1
    drawn = rng.choice(odds.size, most, p=odds.ravel() / odds.sum())
    for i in np.flatnonzero(rng.random(most) < _REPEAT).tolist():
        drawn[i] = drawn[max(i - 1, 0)]
    length, gap = rng.uniform(1.5, 4.0, most), rng.uniform(0.3, 1.8, most)
    start_s = np.cumsum(length + gap) - length
    kept = start_s + length <= duration_s
    verb, column = drawn[kept] // _NOUNS_IN_SIGHT, drawn[kept] % _NOUNS_IN_SIGHT
    return verb, in_sight[column], start_s[kept], (start_s + length)[kept]


def narrator_pass(
    rng: np.random.Generator,
    middle_s: Float[np.ndarray, " actions"],
    texts: list[str],
    duration_s: float,
    jitter_s: float = _NARRATOR_JITTER_S,
) -> dict[str, Any]:
    """Write one narrator's pass: a little beside the action, some missed, a few said twice, not always in order."""
    said = np.flatnonzero(rng.random(len(texts)) >= _DROPPED)
    said = np.concatenate([said, said[rng.random(len(said)) < _NARRATED_TWICE]])
    second = middle_s[said] + jitter_s * rng.standard_normal(len(said))
    second = np.clip(second, 0.0, duration_s)
    order = rng.permutation(len(said)) if rng.random() < _SHUFFLED_PASS else np.argsort(second)
    return narration_pass(rng, second[order], [texts[said[i]] for i in order], duration_s)
