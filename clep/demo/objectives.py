"""Synthetic videos to compare objectives, positives, towers and samplers.

**Order.** Verbs come in inverse pairs ("opens", "closes"). Both show the same two poses of an object, each for half of
the time: opening is the closed pose and then the open one, closing the reverse. The mean of the rows is the same for
both; only their order differs.

**Near-duplicates.** Few actions, each with several verbs ("opens", "unseals") and dozens of sentences: in a batch of
hundreds most actions occur several times, mostly in other words.

**Neighbours.** A video is about a few objects, and the next action is mostly on the same object: the moments before and
after share place, object and the bias of the video, and differ in the action.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from clep.datasets.choice_questions import Question
from clep.demo.annotation_files import write_csv
from clep.demo.encoder import ActionSpan, EncoderSettings
from clep.demo.grammar import ADJECTIVES, PLACES, Action, article, word_key
from clep.demo.narrated import Event, QuestionDataset

_LENGTH_S, _GAP_S = (2.6, 3.4), (0.5, 1.0)
_SAME_OBJECT = 0.7
_WINDOW_S = 1.75
_MINUTE_S = 60.0
_MOST_CHOICES = 5


@dataclass(frozen=True)
class VerbForms:
    """A verb in its base form and its third person."""

    base: str
    third: str


def _forms(*verbs: str) -> tuple[VerbForms, ...]:
    return tuple(VerbForms(*verb.split(", ")) for verb in verbs)


INVERSE_VERBS: tuple[tuple[tuple[VerbForms, ...], tuple[VerbForms, ...]], ...] = (
    (_forms("open, opens", "unseal, unseals"), _forms("close, closes", "shut, shuts")),
    (_forms("pick up, picks up", "lift, lifts"), _forms("put down, puts down", "lower, lowers")),
    (_forms("push, pushes", "shove, shoves"), _forms("pull, pulls", "drag, drags")),
    (_forms("wrap, wraps", "cover, covers"), _forms("unwrap, unwraps", "uncover, uncovers")),
    (_forms("fill, fills", "load, loads"), _forms("empty, empties", "unload, unloads")),
    (_forms("tie, ties", "fasten, fastens"), _forms("untie, unties", "loosen, loosens")),
)
"""Pairs of inverse verbs, each with its synonyms."""
OBJECTS = ("box", "bag", "bottle", "bucket", "basket", "jar", "pan", "bowl", "cloth", "rope", "book", "shirt")
"""Nouns of the objects; every verb occurs with each."""
_SENTENCES = (
    "{verb} the {noun}",
    "{verb} {a} {noun}",
    "{verb} the {adjective} {noun}",
    "{verb} the {noun} with both hands",
    "{verb} the {noun} with the right hand",
    "{verb} the {noun} on the {surface}",
    "{verb} {a} {noun} in the {place}",
    "slowly {verb} the {noun}",
)


@dataclass(frozen=True)
class ObjectAction:
    """An action by indices: pair of verbs, side (0 or 1) of the pair, and object."""

    pair: int
    side: int
    object: int

    @property
    def sentence(self) -> str:
        """The basic narration, used in questions."""
        return f"#C C {INVERSE_VERBS[self.pair][self.side][0].third} the {OBJECTS[self.object]}"

    @property
    def inverse(self) -> "ObjectAction":
        """The inverse action on the same object."""
        return ObjectAction(self.pair, 1 - self.side, self.object)


ACTIONS = tuple(
    ObjectAction(pair, side, noun)
    for pair in range(len(INVERSE_VERBS))
    for side in range(2)
    for noun in range(len(OBJECTS))
)
"""Every action of the dataset."""


@dataclass(frozen=True)
class ActionEvent(Event):
    """An event that is one action: two poses in the order of its verb."""

    action: ObjectAction


@dataclass(frozen=True)
class SyntheticObjectives(QuestionDataset[ActionEvent]):
    """Synthetic videos to compare objectives, positives, towers and samplers, in Ego4D's format.

    Generates ego4d/{narration.json, ego4d.json, features/<uid>.pt}, ego4d/questions.json about the test videos (see
    `clep.evaluation.MultipleChoice`) and taxonomy/narration_{verb,noun}_taxonomy.csv. Questions of the group "order"
    have two choices that only the order of rows separates, those of "neighbours" the actions within a minute, and those
    of "action" all actions.

    Raises:
        InputError: a setting is out of range; the message names it.
    """

    format = "clep-synthetic-objectives"
    folders = ("ego4d", "taxonomy")
    shortest_allowed_s = 20
    seed_word = "objectives video"
    jitter_s = 0.1

    training_videos: int = 60
    """Narrated videos to train on."""
    objects_per_video: int = 4
    """Objects in a video, of 12: the fewer, the more alike are neighbours in time."""
    encoder: EncoderSettings = field(default_factory=lambda: EncoderSettings(dim=128, hidden=256, row_noise=0.3))
    """The simulated frozen encoder; of small dimension, so that a run takes seconds."""

    def check(self) -> None:
        """Check every setting."""
        super().check()
        self._check_range("objects_per_video", 1, len(OBJECTS))

    def script(self, rng: np.random.Generator, duration_s: float, place: int) -> list[ActionEvent]:
        """Draw the actions of a video and their narrations."""
        objects = rng.choice(len(OBJECTS), self.objects_per_video, replace=False)
        noun = int(objects[rng.integers(len(objects))])
        events: list[ActionEvent] = []
        second = float(rng.uniform(0.5, 1.5))
        while True:
            length = float(rng.uniform(*_LENGTH_S))
            if second + length > duration_s:
                return events
            if rng.random() >= _SAME_OBJECT:
                noun = int(objects[rng.integers(len(objects))])
            action = ObjectAction(int(rng.integers(len(INVERSE_VERBS))), int(rng.integers(2)), noun)
            poses, text = _poses(action, second, length), _narrate(rng, action, place)
            events.append(ActionEvent(second, second + length, poses, text, action))
            second += length + float(rng.uniform(*_GAP_S))

    def questions(self, rng: np.random.Generator, events: list[ActionEvent]) -> list[Question]:
        """Ask about each action of a video.

        "order": the action or its inverse. "neighbours": the action or up to four others within a minute. "action": one
        of all actions.
        """
        sentences = tuple(action.sentence for action in ACTIONS)
        asked: list[Question] = []
        for event in events:
            action, middle_s = event.action, event.middle_s
            span = (max(middle_s - _WINDOW_S, 0.0), middle_s + _WINDOW_S)
            near = {other.action for other in events if abs(other.middle_s - middle_s) <= _MINUTE_S / 2}
            others = sorted(near - {action}, key=ACTIONS.index)
            chosen = [others[i] for i in rng.permutation(len(others))[: _MOST_CHOICES - 1]]
            both = sorted((action, action.inverse), key=ACTIONS.index)
            asked.append(Question("", *span, "order", tuple(one.sentence for one in both), action.side))
            asked.append(Question("", *span, "action", sentences, ACTIONS.index(action)))
            if chosen:
                answer = int(rng.integers(len(chosen) + 1))
                chosen.insert(answer, action)
                asked.append(Question("", *span, "neighbours", tuple(one.sentence for one in chosen), answer))
        return asked

    def generate(self, folder: Path, seed: int, progress: bool) -> dict[str, Any]:
        """Write the taxonomy beside the files of Ego4D, and return the counts."""
        for kind, groups in taxonomy().items():
            # Ego4D's form: `label,group`, with a Python list in the second column.
            lines = [("_".join(group[0].split()), str(group)) for group in groups]
            write_csv(folder / "taxonomy" / f"narration_{kind}_taxonomy.csv", ("label", "group"), lines)
        return {**super().generate(folder, seed, progress), "actions": len(ACTIONS)}


def taxonomy() -> dict[str, list[list[str]]]:
    """Return the groups of verbs and of nouns: the synonyms of a verb are one group."""
    verbs = [[forms.base for forms in synonyms] for pair in INVERSE_VERBS for synonyms in pair]
    return {"verb": verbs, "noun": [[noun] for noun in OBJECTS]}


def _poses(action: ObjectAction, start_s: float, length_s: float) -> tuple[ActionSpan, ActionSpan]:
    noun, middle_s = (word_key(OBJECTS[action.object]),), start_s + length_s / 2
    poses = [Action(f"pose {side} of {INVERSE_VERBS[action.pair][0][0].base}", noun) for side in range(2)]
    first, second = poses if action.side == 0 else poses[::-1]
    return ActionSpan(start_s, middle_s, first), ActionSpan(middle_s, start_s + length_s, second)


def _narrate(rng: np.random.Generator, action: ObjectAction, place: int) -> str:
    synonyms, noun = INVERSE_VERBS[action.pair][action.side], OBJECTS[action.object]
    sentence = _SENTENCES[rng.integers(len(_SENTENCES))].format(
        verb=synonyms[rng.integers(len(synonyms))].third,
        noun=noun,
        a=article(noun),
        adjective=ADJECTIVES[rng.integers(len(ADJECTIVES))],
        surface=PLACES[place].surface,
        place=PLACES[place].name,
    )
    return f"#C C {sentence}"
