"""What a sentence says is being done: its verb and nouns, as keys that do not depend on the form of the words."""

import re
from typing import NamedTuple

PARTICLES = frozenset({"up", "down", "on", "off", "out", "over", "away"})

_PASSED_OVER = """
    a an the and or of to from in into onto with at by near under for is are was his her their its some it them
    this that then again while both right left camera wearer someone something unsure small big old red blue white
"""
_IGNORED = frozenset(_PASSED_OVER.split())
_PEOPLE = frozenset({"man", "woman", "lady", "boy", "girl", "person", "cashier", "guy"})
_WORD = re.compile(r"#?[a-z]+")
_VOWEL = re.compile("[aeiouy]")
_MAX_NOUNS = 3


class Action(NamedTuple):
    """A verb and what it is done to, as word keys (see `word_key`)."""

    verb: str
    nouns: tuple[str, ...]
    by_other: bool = False
    """True where somebody else than the camera wearer acts, so that the action is seen from outside."""


def word_key(word: str) -> str:
    """Bring the forms of a word to one key: "slice", "slices", "sliced" and "slicing" are all "slic".

    A few suffix rules, not a dictionary: irregular forms ("cut" is fine, "took" is not) keep keys of their own.
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


def read_action(text: str) -> Action:
    """Read the action out of a narration, a class label or any short sentence.

    Tags ("#C C", "#O The man B", "#unsure"), articles, prepositions and a few adjectives are passed over. The
    first word left is the verb (with a particle right after it: "pick up" and "pick" differ), the next up to three
    are nouns. A text without any word left gives `Action("", ())`.
    """
    words = _WORD.findall(text.lower())
    by_other = any(word.startswith("#o") for word in words)
    content: list[str] = []
    for word in words:
        if word.startswith("#") or len(word) == 1 or word in _IGNORED:
            continue
        if by_other and not content and word in _PEOPLE:
            continue
        content.append(word)
    if not content:
        return Action("", (), by_other)
    verb, rest = word_key(content[0]), content[1:]
    if rest and rest[0] in PARTICLES:
        verb, rest = f"{verb} {rest[0]}", rest[1:]
    nouns = tuple(word_key(word) for word in rest if word not in PARTICLES)
    return Action(verb, nouns[:_MAX_NOUNS], by_other)
