"""What happens in the long-term demo world: moments that look alike, and what made them different half a minute before.

A thing comes into play by a *cause*: somebody picks up the cup (the camera wearer, or another person), or the tap is
opened, or closed. 7 to 27 seconds later, when other things have come into play meanwhile, comes its *moment*: the cup
is washed, the tap is touched. What is seen then does not depend on the cause; what is narrated does: "washes the cup
another person picked up", "touches the open tap". A thing comes into play again only when its last cause is out of
every minute around its next moment, so that a minute around a moment holds one cause of its thing.
"""

from dataclasses import dataclass

import numpy as np

from clep.demo.action import Action, word_key
from clep.demo.frozen_encoder import Performance
from clep.demo.grammar import NOUNS, VERBS
from clep.demo.told_world import Told
from clep.evaluation.multiple_choice import Question

SHORTEST_DELAY_S, LONGEST_DELAY_S = 7.0, 27.0
_DUE_S = (SHORTEST_DELAY_S, 19.0)
_REST_S = 32.0
_LENGTH_S, _GAP_S = (1.6, 2.8), (0.3, 0.8)
_NEW_CAUSE = 0.6
_WINDOW_S = 1.5


@dataclass(frozen=True)
class Kind:
    """A kind of thing whose past decides what is said of it.

    Attributes:
        group: of the questions about it.
        things: nouns.
        causes: what the two causes are called in the words of `told`, with verb and whether another person acts.
        verbs: what may be done to it in its moment, as (base, third person).
        told: phrases for either past, the first of them the one that questions are asked in.
    """

    group: str
    things: tuple[str, ...]
    causes: tuple[tuple[str, str, bool], tuple[str, str, bool]]
    verbs: tuple[tuple[str, str], ...]
    told: tuple[tuple[str, ...], tuple[str, ...]]


KINDS = (
    Kind(
        "who_picked_it_up",
        ("cup", "knife", "brush", "hammer", "tomato", "phone", "plate", "flower"),
        (("pick up", "picks up", False), ("pick up", "picks up", True)),
        (("put down", "puts down"), ("wash", "washes")),
        (
            ("{verb} the {noun} she picked up", "{verb} the {noun} that she took herself"),
            (
                "{verb} the {noun} another person picked up",
                "{verb} the {noun} that the man took",
            ),
        ),
    ),
    Kind(
        "open_or_closed",
        ("tap", "jar", "box", "drawer", "fridge", "door", "window", "oven"),
        (("open", "opens", False), ("close", "closes", False)),
        (("touch", "touches"), ("wipe", "wipes")),
        (
            ("{verb} the open {noun}", "{verb} an open {noun}"),
            ("{verb} the closed {noun}", "{verb} a closed {noun}"),
        ),
    ),
)
# What another person does is, to a first-person encoder, another movement of the same thing.
_OUTSIDE = "(seen from outside)"
_PEOPLE = ("The man X", "A woman B", "The lady A", "person X")
_IN_PLAY = {thing for kind in KINDS for thing in kind.things}
_ELSE_VERBS = tuple(verb for verb in VERBS if verb.base in {"fold", "cut", "paint", "measure", "tie", "stack", "shake"})
_ELSE_NOUNS = tuple(noun for noun in NOUNS if noun not in _IN_PLAY)


@dataclass
class _Cause:
    kind: Kind
    thing: str
    past: int
    middle_s: float
    due_s: float


def happenings(rng: np.random.Generator, duration_s: float, in_play: int) -> tuple[list[Told], list[Question]]:
    """Draw what happens in a video, and the questions about its moments (their `video` is left empty).

    Each past is a fair coin. A moment gives two questions: one that its cause answers (two choices that differ in the
    past alone), and one of the group "now" that the moment itself answers (four choices with the same past).

    Args:
        rng: the source of all that is drawn.
        duration_s: of the video.
        in_play: at most so many things wait for their moment at once.
    """
    told: list[Told] = []
    questions: list[Question] = []
    waiting: list[_Cause] = []
    again_s: dict[str, float] = {}
    second = float(rng.uniform(0.3, 1.0))
    while True:
        length = float(rng.uniform(*_LENGTH_S))
        end_s, middle_s = second + length, second + length / 2
        if end_s > duration_s:
            return told, questions
        due = [cause for cause in waiting if cause.due_s <= middle_s]
        if due:
            cause = min(due, key=lambda one: one.due_s)
            waiting.remove(cause)
            again_s[cause.thing] = middle_s + _REST_S
            verb = int(rng.integers(len(cause.kind.verbs)))
            told.append(_moment(rng, cause, verb, second, end_s))
            questions += _questions(rng, cause, verb, middle_s)
        elif len(waiting) < in_play and rng.random() < _NEW_CAUSE:
            busy = {one.thing for one in waiting} | {thing for thing, until_s in again_s.items() if until_s > middle_s}
            cause = _new_cause(rng, middle_s, busy)
            waiting.append(cause)
            told.append(_told_cause(rng, cause, second, end_s))
        else:
            told.append(_something_else(rng, second, end_s))
        second = end_s + float(rng.uniform(*_GAP_S))


def _new_cause(rng: np.random.Generator, middle_s: float, busy: set[str]) -> _Cause:
    free = [[thing for thing in kind.things if thing not in busy] for kind in KINDS]
    # At most six things wait, and at most nine came to rest in the last half minute: one of 16 is always free.
    kind = int(rng.integers(len(KINDS)))
    kind = kind if free[kind] else 1 - kind
    thing = free[kind][rng.integers(len(free[kind]))]
    return _Cause(KINDS[kind], thing, int(rng.integers(2)), middle_s, middle_s + float(rng.uniform(*_DUE_S)))


def _told_cause(rng: np.random.Generator, cause: _Cause, start_s: float, end_s: float) -> Told:
    base, third, by_other = cause.kind.causes[cause.past]
    who = f"#O {_PEOPLE[rng.integers(len(_PEOPLE))]}" if by_other else "#C C"
    return _told(start_s, end_s, base, cause.thing, f"{who} {third} the {cause.thing}", by_other)


def _moment(rng: np.random.Generator, cause: _Cause, verb: int, start_s: float, end_s: float) -> Told:
    base, third = cause.kind.verbs[verb]
    phrases = cause.kind.told[cause.past]
    phrase = phrases[rng.integers(len(phrases))].format(verb=third, noun=cause.thing)
    return _told(start_s, end_s, base, cause.thing, f"#C C {phrase}")


def _something_else(rng: np.random.Generator, start_s: float, end_s: float) -> Told:
    verb, noun = _ELSE_VERBS[rng.integers(len(_ELSE_VERBS))], _ELSE_NOUNS[rng.integers(len(_ELSE_NOUNS))]
    return _told(start_s, end_s, verb.base, noun, f"#C C {verb.third} the {noun}")


def _told(start_s: float, end_s: float, base: str, thing: str, text: str, by_other: bool = False) -> Told:
    first, *particle = base.split()
    verb = " ".join([word_key(first), *particle, *([_OUTSIDE] if by_other else [])])
    action = Action(verb, (word_key(thing),))
    return Told(start_s, end_s, (Performance(start_s, end_s, action),), text)


def _questions(rng: np.random.Generator, cause: _Cause, verb: int, middle_s: float) -> list[Question]:
    def sentence(verb: int, thing: str, past: int) -> str:
        return f"#C C {cause.kind.told[past][0].format(verb=cause.kind.verbs[verb][1], noun=thing)}"

    span = (middle_s - _WINDOW_S, middle_s + _WINDOW_S)
    by_past = (sentence(verb, cause.thing, 0), sentence(verb, cause.thing, 1))
    others = [thing for thing in cause.kind.things if thing != cause.thing]
    other_verb = (verb + 1 + int(rng.integers(len(cause.kind.verbs) - 1))) % len(cause.kind.verbs)
    other_thing, third = (others[i] for i in rng.choice(len(others), 2, replace=False))
    now = [(verb, cause.thing), (other_verb, cause.thing), (verb, other_thing), (other_verb, third)]
    order = rng.permutation(4)
    choices = tuple(sentence(now[i][0], now[i][1], cause.past) for i in order)
    return [
        Question("", *span, cause.kind.group, by_past, cause.past),
        Question("", *span, "now", choices, int(np.flatnonzero(order == 0)[0])),
    ]
