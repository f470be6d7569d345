"""Verbs, nouns and places of the synthetic datasets; writing actions as sentences and parsing them.

Verbs, nouns and places are referred to by their index in `VERBS`, `NOUNS` and `PLACES`.
"""

import re
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int


class Action(NamedTuple):
    """A verb and its objects, as word keys (see `word_key`)."""

    verb: str
    nouns: tuple[str, ...]
    by_other: bool = False
    """True where another person than the camera wearer acts, so that the action is seen from outside."""


class Verb(NamedTuple):
    """A verb in the three forms that narrations and labels use; a particle ("up") belongs to the verb."""

    base: str
    third: str
    ing: str

    @property
    def key(self) -> str:
        """The key that `read_action` finds for every form of the verb."""
        return verb_key(self.base)


class Place(NamedTuple):
    """A place, and the surface there that objects are taken from and put on."""

    name: str
    surface: str


_VERB_FORMS = """
    pick up, picks up, picking up; put down, puts down, putting down; hold, holds, holding; carry, carries, carrying;
    lift, lifts, lifting; move, moves, moving; push, pushes, pushing; pull, pulls, pulling; turn, turns, turning;
    shake, shakes, shaking; throw, throws, throwing; drop, drops, dropping; wash, washes, washing;
    wipe, wipes, wiping; dry, dries, drying; cover, covers, covering; wrap, wraps, wrapping; open, opens, opening;
    close, closes, closing; cut, cuts, cutting; break, breaks, breaking; press, presses, pressing;
    paint, paints, painting; measure, measures, measuring; touch, touches, touching; tie, ties, tying;
    stack, stacks, stacking; fold, folds, folding; inspect, inspects, inspecting; pass, passes, passing
"""
VERBS = tuple(Verb(*forms.strip().split(", ")) for forms in _VERB_FORMS.split(";"))
_NOUN_WORDS = """
    cup bowl plate bottle jar box bag bucket basket pan lid knife spoon brush hammer screwdriver drill shovel rope
    hose cloth towel sponge paper book pillow shirt hat glove shoe tomato onion carrot potato apple bun plank pipe
    flower phone
"""
NOUNS = tuple(_NOUN_WORDS.split())
_PLACE_WORDS = """
    kitchen counter, garden bench, workshop workbench, garage shelf, bathroom sink, bedroom bed, balcony railing,
    basement cabinet, office desk, barn crate
"""
PLACES = tuple(Place(*words.split()) for words in _PLACE_WORDS.split(","))
ADJECTIVES = ("small", "big", "old", "red", "blue", "white")
PEOPLE = ("The man X", "A man Y", "The woman B", "A lady A", "person X", "The boy A")
CAMERA_TAGS = ("#C C", "#c c", "#C  C", "# C C")

_SENTENCES = (
    ("{verb} the {noun}", 0.30),
    ("{verb} {a} {noun}", 0.18),
    ("{verb} the {noun} from the {surface}", 0.09),
    ("{verb} {a} {noun} from the {surface}", 0.06),
    ("{verb} the {noun} on the {surface}", 0.08),
    ("{verb} the {adjective} {noun}", 0.09),
    ("{verb} the {noun} with both hands", 0.05),
    ("{verb} the {noun} with the right hand", 0.04),
    ("{verb} the {noun} with the left hand", 0.03),
    ("{verb} the {noun} in the {place}", 0.05),
    ("{verb} the {noun} again", 0.03),
)
_TEMPLATES = tuple(template for template, _ in _SENTENCES)
_TEMPLATE_ODDS = np.array([odds for _, odds in _SENTENCES]) / sum(odds for _, odds in _SENTENCES)
_UNSURE_TEMPLATES = tuple(
    re.sub(r"(the|\{a\})( \{adjective\})? \{noun\}", "#unsure", template) for template in _TEMPLATES
)
_TAG_ODDS = np.array([0.94, 0.03, 0.015, 0.015])

_PARTICLES = frozenset({"up", "down", "on", "off", "out", "over", "away"})
_STOP_WORD_LIST = """
    a an the and or of to from in into onto with at by near under for is are was his her their its some it them
    this that then again while both right left camera wearer someone something unsure small big old red blue white
"""
_STOP_WORDS = frozenset(_STOP_WORD_LIST.split())
_PERSON_WORDS = frozenset({"man", "woman", "lady", "boy", "girl", "person", "cashier", "guy"})
_WORD = re.compile(r"#?[a-z]+")
_VOWEL = re.compile("[aeiouy]")
_MAX_NOUNS = 3


def word_key(word: str) -> str:
    """Reduce the forms of a word to one key: "slice", "slices", "sliced" and "slicing" all become "slic".

    A few suffix rules, not a dictionary: irregular forms such as "took" have separate keys.
    """
    key = word.lower()
    for suffix in ("ing", "ed", "s"):
        stem = key.removesuffix(suffix)
        if stem != key and _VOWEL.search(stem) and not key.endswith(("ss", "eed")):
            key = stem
            break
    if len(key) > 1 and key.endswith(("i", "ie")):
        key = key.removesuffix("e").removesuffix("i") + "y"
    key = key.removesuffix("e") if len(key) > 2 else key
    if len(key) > 2 and key[-1] == key[-2]:
        key = key[:-1]
    return key


def verb_key(base: str) -> str:
    """Return the key of a verb in its base form; a particle ("pick up") stays as it is."""
    first, *particle = base.split()
    return " ".join([word_key(first), *particle])


def read_action(text: str) -> Action:
    """Parse the action out of a narration, a class label or any short sentence.

    Tags ("#C C", "#O The man B", "#unsure"), articles, prepositions and a few adjectives are skipped. The first word
    left is the verb (with a particle right after it: "pick up" and "pick" differ), the next up to three are nouns. A
    text without any word left gives `Action("", ())`.
    """
    words = _WORD.findall(text.lower())
    by_other = any(word.startswith("#o") for word in words)
    content: list[str] = []
    for word in words:
        if word.startswith("#") or len(word) == 1 or word in _STOP_WORDS:
            continue
        if by_other and not content and word in _PERSON_WORDS:
            continue
        content.append(word)
    if not content:
        return Action("", (), by_other)
    verb, rest = word_key(content[0]), content[1:]
    if rest and rest[0] in _PARTICLES:
        verb, rest = f"{verb} {rest[0]}", rest[1:]
    nouns = tuple(word_key(word) for word in rest if word not in _PARTICLES)
    return Action(verb, nouns[:_MAX_NOUNS], by_other)


def action_of(verb: int, noun: int, by_other: bool = False) -> Action:
    """Return the action of a verb on a noun (indices), as `read_action` would read it."""
    return Action(VERBS[verb].key, (word_key(NOUNS[noun]),), by_other)


def article(noun: str) -> str:
    """Return "a" or "an", by the first letter, which is right for every noun of the grammar."""
    return "an" if noun[0] in "aeiou" else "a"


def kinetics_label(verb: int, noun: int) -> str:
    """Return a class name in the style of Kinetics: "opening bottle"."""
    return f"{VERBS[verb].ing} {NOUNS[noun]}"


def charades_class(verb: int, noun: int, someone: bool = False) -> str:
    """Return a class name in the style of Charades: "Opening a bottle", or "Someone is opening a bottle"."""
    phrase = f"{VERBS[verb].ing} {article(NOUNS[noun])} {NOUNS[noun]}"
    return f"Someone is {phrase}" if someone else phrase.capitalize()


def narrate(
    rng: np.random.Generator,
    verb: Int[np.ndarray, " n"],
    noun: Int[np.ndarray, " n"],
    place: Int[np.ndarray, " n"],
    by_other: Bool[np.ndarray, " n"],
    unsure: Bool[np.ndarray, " n"],
) -> list[str]:
    """Write actions as Ego4D narrators would, each in one of several phrasings, tag in front.

    Basic phrasings are the most likely, so that exact repeats are common, as in Ego4D. If `by_other`, the subject is
    another person ("#O The man X"); if `unsure`, "#unsure" replaces the noun.
    """
    count = len(verb)
    template = rng.choice(len(_TEMPLATES), count, p=_TEMPLATE_ODDS)
    tag = rng.choice(len(CAMERA_TAGS), count, p=_TAG_ODDS)
    person = rng.integers(len(PEOPLE), size=count)
    adjective = rng.integers(len(ADJECTIVES), size=count)
    written = []
    for i in range(count):
        name, where = NOUNS[noun[i]], PLACES[place[i]]
        sentence = (_UNSURE_TEMPLATES if unsure[i] else _TEMPLATES)[template[i]].format(
            verb=VERBS[verb[i]].third,
            noun=name,
            a=article(name),
            surface=where.surface,
            place=where.name,
            adjective=ADJECTIVES[adjective[i]],
        )
        written.append(f"#O {PEOPLE[person[i]]} {sentence}" if by_other[i] else f"{CAMERA_TAGS[tag[i]]} {sentence}")
    return written


def unseen_pairs(
    rng: np.random.Generator, per_verb: int = 7, n_verbs: int = len(VERBS), n_nouns: int = len(NOUNS)
) -> list[tuple[int, int]]:
    """Draw the (verb, noun) pairs to hold out: no narration mentions them and no training video shows them.

    Every verb loses `per_verb` nouns and every noun about as many verbs as any other, so that each word still occurs in
    training, with most of its partners. With 30 verbs and 7 nouns each that is 210 pairs of 1,200. Indices are below
    `n_verbs` and `n_nouns`.

    Raises:
        ValueError: `per_verb` leaves some verb without a noun.
    """
    if not 0 < per_verb < n_nouns:
        raise ValueError(f"per_verb must be in 1 … {n_nouns - 1}, got {per_verb}")
    verbs, nouns = rng.permutation(n_verbs), rng.permutation(n_nouns)
    pairs = [
        (int(verb), int(nouns[(row * per_verb + column) % n_nouns]))
        for row, verb in enumerate(verbs)
        for column in range(per_verb)
    ]
    return sorted(pairs)
