"""Synthetic videos whose narrations depend on an event 7 to 27 seconds earlier.

An object is introduced by a *cause*: somebody picks up the cup (the camera wearer, or another person), or the tap is
opened, or closed. 7 to 27 seconds later, with other objects introduced in between, comes the *moment* of the object:
the cup is washed, the tap is touched. Its features do not depend on the cause; its narration does: "washes the cup
another person picked up", "touches the open tap". An object is introduced again only when its last cause is outside of
every minute around its next moment, so that the minute around a moment contains one cause of its object.
"""

from dataclasses import dataclass, field

import numpy as np

from clep.datasets.choice_questions import Question
from clep.demo.encoder import ActionSpan, EncoderSettings
from clep.demo.grammar import NOUNS, VERBS, Action, verb_key, word_key
from clep.demo.narrated import Event, QuestionDataset

SHORTEST_DELAY_S, LONGEST_DELAY_S = 7.0, 27.0
_DUE_S = (SHORTEST_DELAY_S, 19.0)
_REST_S = 32.0
_LENGTH_S, _GAP_S = (1.6, 2.8), (0.3, 0.8)
_NEW_CAUSE = 0.6
_WINDOW_S = 1.5


@dataclass(frozen=True)
class ObjectKind:
    """A kind of object whose cause decides the narration of its moment.

    Attributes:
        group: group of the questions about it.
        nouns: the objects.
        causes: the two causes as (verb, third person, by another person).
        verbs: actions of its moment, as (verb, third person).
        phrases: narrations of the moment after either cause; the first of them is used in questions.
    """

    group: str
    nouns: tuple[str, ...]
    causes: tuple[tuple[str, str, bool], tuple[str, str, bool]]
    verbs: tuple[tuple[str, str], ...]
    phrases: tuple[tuple[str, ...], tuple[str, ...]]


KINDS = (
    ObjectKind(
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
    ObjectKind(
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
# To a first-person encoder, the action of another person is another movement of the same object.
_BY_OTHER = "(seen from outside)"
_PEOPLE = ("The man X", "A woman B", "The lady A", "person X")
_KIND_NOUNS = {noun for kind in KINDS for noun in kind.nouns}
_OTHER_VERBS = tuple(
    verb for verb in VERBS if verb.base in {"fold", "cut", "paint", "measure", "tie", "stack", "shake"}
)
_OTHER_NOUNS = tuple(noun for noun in NOUNS if noun not in _KIND_NOUNS)


@dataclass(frozen=True)
class LongTermEvent(Event):
    """An event, with the questions about it where it is the moment of an object."""

    questions: tuple[Question, ...] = ()


@dataclass
class _Cause:
    kind: ObjectKind
    noun: str
    which: int
    due_s: float


@dataclass(frozen=True)
class SyntheticLongTerm(QuestionDataset[LongTermEvent]):
    """Synthetic videos whose narrations depend on an event 7 to 27 seconds earlier, in Ego4D's format.

    Generates ego4d/{narration.json, ego4d.json, features/<uid>.pt} and ego4d/questions.json about the test videos (see
    `clep.evaluation.MultipleChoice`). Questions of the groups "who_picked_it_up" and "open_or_closed" depend on the
    cause only; those of "now" on the moment itself.

    Raises:
        InputError: a setting is out of range; the message names it.
    """

    format = "clep-synthetic-long-term"
    shortest_allowed_s = 60
    seed_word = "long-term video"
    jitter_s = 0.3

    training_videos: int = 300
    """Narrated videos to train on."""
    test_videos: int = 40
    """Narrated videos with questions; Ego4D's split "val" keeps them out of training."""
    max_pending: int = 2
    """Maximal number of objects between cause and moment: how much of the context is irrelevant."""
    encoder: EncoderSettings = field(
        default_factory=lambda: EncoderSettings(dim=64, hidden=128, jitter=0.15, row_noise=0.15, bias=0.2, drift=0.1)
    )
    """The simulated frozen encoder; of small dimension, so that a minute of rows is read quickly."""

    def check(self) -> None:
        """Check every setting."""
        super().check()
        self._check_range("max_pending", 1, 6)

    def questions(self, rng: np.random.Generator, events: list[LongTermEvent]) -> list[Question]:
        """Return the questions that were drawn with the events."""
        return [question for event in events for question in event.questions]

    def script(self, rng: np.random.Generator, duration_s: float, place: int) -> list[LongTermEvent]:
        """Draw the events of a video, each cause by a fair coin.

        A moment has two questions: one that its cause answers (two choices that differ in the cause only), and one of
        the group "now" that the moment itself answers (four choices with the same cause).
        """
        events: list[LongTermEvent] = []
        pending: list[_Cause] = []
        again_s: dict[str, float] = {}
        second = float(rng.uniform(0.3, 1.0))
        while True:
            length = float(rng.uniform(*_LENGTH_S))
            end_s, middle_s = second + length, second + length / 2
            if end_s > duration_s:
                return events
            due = [cause for cause in pending if cause.due_s <= middle_s]
            if due:
                cause = min(due, key=lambda one: one.due_s)
                pending.remove(cause)
                again_s[cause.noun] = middle_s + _REST_S
                events.append(_moment(rng, cause, second, middle_s, end_s))
            elif len(pending) < self.max_pending and rng.random() < _NEW_CAUSE:
                busy = {one.noun for one in pending} | {noun for noun, until_s in again_s.items() if until_s > middle_s}
                cause = _new_cause(rng, middle_s, busy)
                pending.append(cause)
                events.append(_cause_event(rng, cause, second, end_s))
            else:
                events.append(_unrelated_event(rng, second, end_s))
            second = end_s + float(rng.uniform(*_GAP_S))


def _new_cause(rng: np.random.Generator, middle_s: float, busy: set[str]) -> _Cause:
    free = [[noun for noun in kind.nouns if noun not in busy] for kind in KINDS]
    # At most six objects are pending, and at most nine had their moment in the last half minute: one of 16 is free.
    kind = int(rng.integers(len(KINDS)))
    kind = kind if free[kind] else 1 - kind
    noun = free[kind][rng.integers(len(free[kind]))]
    return _Cause(KINDS[kind], noun, int(rng.integers(2)), middle_s + float(rng.uniform(*_DUE_S)))


def _cause_event(rng: np.random.Generator, cause: _Cause, start_s: float, end_s: float) -> LongTermEvent:
    base, third, by_other = cause.kind.causes[cause.which]
    who = f"#O {_PEOPLE[rng.integers(len(_PEOPLE))]}" if by_other else "#C C"
    return _event(start_s, end_s, base, cause.noun, f"{who} {third} the {cause.noun}", by_other)


def _moment(rng: np.random.Generator, cause: _Cause, start_s: float, middle_s: float, end_s: float) -> LongTermEvent:
    verb = int(rng.integers(len(cause.kind.verbs)))
    base, third = cause.kind.verbs[verb]
    phrases = cause.kind.phrases[cause.which]
    phrase = phrases[rng.integers(len(phrases))].format(verb=third, noun=cause.noun)
    questions = _questions(rng, cause, verb, middle_s)
    return _event(start_s, end_s, base, cause.noun, f"#C C {phrase}", questions=questions)


def _unrelated_event(rng: np.random.Generator, start_s: float, end_s: float) -> LongTermEvent:
    verb, noun = _OTHER_VERBS[rng.integers(len(_OTHER_VERBS))], _OTHER_NOUNS[rng.integers(len(_OTHER_NOUNS))]
    return _event(start_s, end_s, verb.base, noun, f"#C C {verb.third} the {noun}")


def _event(
    start_s: float,
    end_s: float,
    verb: str,
    noun: str,
    text: str,
    by_other: bool = False,
    questions: tuple[Question, ...] = (),
) -> LongTermEvent:
    key = f"{verb_key(verb)} {_BY_OTHER}" if by_other else verb_key(verb)
    span = ActionSpan(start_s, end_s, Action(key, (word_key(noun),)))
    return LongTermEvent(start_s, end_s, (span,), text, questions)


def _questions(rng: np.random.Generator, cause: _Cause, verb: int, middle_s: float) -> tuple[Question, Question]:
    def sentence(verb: int, noun: str, which: int) -> str:
        return f"#C C {cause.kind.phrases[which][0].format(verb=cause.kind.verbs[verb][1], noun=noun)}"

    span = (middle_s - _WINDOW_S, middle_s + _WINDOW_S)
    by_cause = (sentence(verb, cause.noun, 0), sentence(verb, cause.noun, 1))
    others = [noun for noun in cause.kind.nouns if noun != cause.noun]
    other_verb = (verb + 1 + int(rng.integers(len(cause.kind.verbs) - 1))) % len(cause.kind.verbs)
    other_noun, third_noun = (others[i] for i in rng.choice(len(others), 2, replace=False))
    now = [(verb, cause.noun), (other_verb, cause.noun), (verb, other_noun), (other_verb, third_noun)]
    order = rng.permutation(4)
    choices = tuple(sentence(now[i][0], now[i][1], cause.which) for i in order)
    return (
        Question("", *span, cause.kind.group, by_cause, cause.which),
        Question("", *span, "now", choices, int(np.flatnonzero(order == 0)[0])),
    )
