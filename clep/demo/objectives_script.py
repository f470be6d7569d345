"""What happens in the objectives demo world: one action in many words, actions that differ in order alone, neighbours.

**Order.** Verbs come in pairs that undo each other ("opens", "closes"). Either one shows the same two poses of a thing,
each for half of its time: opening is the closed pose and then the open one, closing the other way round. The mean of an
action's rows is the same for both; the order of the rows tells them apart.

**Near-duplicates.** A few actions, each with several names ("opens", "unseals") and told in dozens of sentences: in a
batch of hundreds most actions are there several times, mostly in other words.

**Neighbours.** A video is about a few things, and what is done next is mostly done to the same thing: the moments
before and after share place, thing and bias of the video, and differ in what is done.
"""

from dataclasses import dataclass

import numpy as np

from clep.demo.action import Action, word_key
from clep.demo.frozen_encoder import Performance
from clep.demo.grammar import ADJECTIVES, PLACES, article
from clep.demo.told_world import Told
from clep.evaluation.multiple_choice import Question

_LENGTH_S, _GAP_S = (2.6, 3.4), (0.5, 1.0)
_SAME_THING = 0.7
_WINDOW_S = 1.75
_MINUTE_S = 60.0
_MOST_CHOICES = 5


@dataclass(frozen=True)
class Name:
    """A verb as its base form and its third person."""

    base: str
    third: str


TWINS: tuple[tuple[tuple[Name, ...], tuple[Name, ...]], ...] = (
    ((Name("open", "opens"), Name("unseal", "unseals")), (Name("close", "closes"), Name("shut", "shuts"))),
    ((Name("pick up", "picks up"), Name("lift", "lifts")), (Name("put down", "puts down"), Name("lower", "lowers"))),
    ((Name("push", "pushes"), Name("shove", "shoves")), (Name("pull", "pulls"), Name("drag", "drags"))),
    ((Name("wrap", "wraps"), Name("cover", "covers")), (Name("unwrap", "unwraps"), Name("uncover", "uncovers"))),
    ((Name("fill", "fills"), Name("load", "loads")), (Name("empty", "empties"), Name("unload", "unloads"))),
    ((Name("tie", "ties"), Name("fasten", "fastens")), (Name("untie", "unties"), Name("loosen", "loosens"))),
)
"""Pairs of verbs that undo each other, each with its names."""
THINGS = ("box", "bag", "bottle", "bucket", "basket", "jar", "pan", "bowl", "cloth", "rope", "book", "shirt")
"""Nouns that everything is done to."""
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
class Deed:
    """An action: pair of verbs, which of the two, and thing, as numbers."""

    pair: int
    side: int
    thing: int

    def plainly(self) -> str:
        """Tell it in the sentence that questions are asked in."""
        return f"#C C {TWINS[self.pair][self.side][0].third} the {THINGS[self.thing]}"


def deeds() -> list[Deed]:
    """List every action there is."""
    return [Deed(pair, side, thing) for pair in range(len(TWINS)) for side in range(2) for thing in range(len(THINGS))]


def taxonomy() -> dict[str, list[list[str]]]:
    """Give the groups of verbs and nouns: the names of one verb are a group."""
    verbs = [[name.base for name in names] for pair in TWINS for names in pair]
    return {"verb": verbs, "noun": [[thing] for thing in THINGS]}


def happenings(rng: np.random.Generator, duration_s: float, place: int, in_sight: int) -> list[tuple[Deed, Told]]:
    """Draw what happens in a video of `duration_s` seconds with `in_sight` things."""
    things = rng.choice(len(THINGS), in_sight, replace=False)
    thing = int(things[rng.integers(in_sight)])
    happens: list[tuple[Deed, Told]] = []
    second = float(rng.uniform(0.5, 1.5))
    while True:
        length = float(rng.uniform(*_LENGTH_S))
        if second + length > duration_s:
            return happens
        if rng.random() >= _SAME_THING:
            thing = int(things[rng.integers(in_sight)])
        deed = Deed(int(rng.integers(len(TWINS))), int(rng.integers(2)), thing)
        happens.append((deed, Told(second, second + length, _seen(deed, second, length), _tell(rng, deed, place))))
        second += length + float(rng.uniform(*_GAP_S))


def questions(rng: np.random.Generator, happens: list[tuple[Deed, Told]]) -> list[Question]:
    """Ask about each action of a video (`video` is left empty).

    "order": the action or its twin. "neighbours": the action or up to four others that are done within a minute.
    "action": which of all actions.
    """
    everything = deeds()
    sentences = tuple(deed.plainly() for deed in everything)
    asked: list[Question] = []
    for deed, told in happens:
        span = (max(told.middle_s - _WINDOW_S, 0.0), told.middle_s + _WINDOW_S)
        near = {other for other, one in happens if abs(one.middle_s - told.middle_s) <= _MINUTE_S / 2}
        others = sorted(near - {deed}, key=everything.index)
        chosen = [others[i] for i in rng.permutation(len(others))[: _MOST_CHOICES - 1]]
        twins = (Deed(deed.pair, 0, deed.thing).plainly(), Deed(deed.pair, 1, deed.thing).plainly())
        asked.append(Question("", *span, "order", twins, deed.side))
        asked.append(Question("", *span, "action", sentences, everything.index(deed)))
        if chosen:
            place = int(rng.integers(len(chosen) + 1))
            choices = [one.plainly() for one in chosen]
            choices.insert(place, deed.plainly())
            asked.append(Question("", *span, "neighbours", tuple(choices), place))
    return asked


def _seen(deed: Deed, start_s: float, length_s: float) -> tuple[Performance, ...]:
    noun, middle_s = (word_key(THINGS[deed.thing]),), start_s + length_s / 2
    poses = [Action(f"pose {side} of {TWINS[deed.pair][0][0].base}", noun) for side in range(2)]
    first, second = poses if deed.side == 0 else poses[::-1]
    return Performance(start_s, middle_s, first), Performance(middle_s, start_s + length_s, second)


def _tell(rng: np.random.Generator, deed: Deed, place: int) -> str:
    names, noun = TWINS[deed.pair][deed.side], THINGS[deed.thing]
    sentence = _SENTENCES[rng.integers(len(_SENTENCES))].format(
        verb=names[rng.integers(len(names))].third,
        noun=noun,
        a=article(noun),
        adjective=ADJECTIVES[rng.integers(len(ADJECTIVES))],
        surface=PLACES[place].surface,
        place=PLACES[place].name,
    )
    return f"#C C {sentence}"
