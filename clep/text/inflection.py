"""From an English word as it stands in a narration to the forms it may be listed under."""

from functools import lru_cache

_IRREGULAR_PLURALS = {
    "children": "child",
    "feet": "foot",
    "knives": "knife",
    "leaves": "leaf",
    "loaves": "loaf",
    "lives": "life",
    "men": "man",
    "mice": "mouse",
    "shelves": "shelf",
    "teeth": "tooth",
    "wives": "wife",
    "women": "woman",
}
_IRREGULAR_VERBS = {
    "bought": "buy",
    "broke": "break",
    "broken": "break",
    "brought": "bring",
    "caught": "catch",
    "does": "do",
    "drawn": "draw",
    "driven": "drive",
    "drove": "drive",
    "goes": "go",
    "gave": "give",
    "given": "give",
    "got": "get",
    "has": "have",
    "held": "hold",
    "hung": "hang",
    "laid": "lay",
    "left": "leave",
    "lying": "lie",
    "made": "make",
    "sat": "sit",
    "stood": "stand",
    "stuck": "stick",
    "swept": "sweep",
    "taken": "take",
    "threw": "throw",
    "thrown": "throw",
    "tore": "tear",
    "torn": "tear",
    "took": "take",
    "tying": "tie",
    "woven": "weave",
    "written": "write",
    "wrote": "write",
}
_VOWELS = frozenset("aeiou")


@lru_cache(maxsize=1 << 18)
def verb_forms(word: str) -> tuple[str, ...]:
    """Return the word and what it may be a form of, likeliest first: third person, -ing, -ed, a few irregular ones.

    "carries" → carries, carry, carrie, carri: some are no words, which a lookup among listed verbs passes by.
    """
    forms = [word]
    if word in _IRREGULAR_VERBS:
        forms.append(_IRREGULAR_VERBS[word])
    forms += _without_s(word)
    for ending in ("ing", "ed"):
        stem = word.removesuffix(ending)
        if stem != word and len(stem) >= 2 and not _VOWELS.isdisjoint(stem + "y" * (ending == "ing")):
            doubled = len(stem) > 2 and stem[-1] == stem[-2] and stem[-1] not in _VOWELS
            forms += [stem[:-1], stem] if doubled else [stem, stem + "e"]
            if ending == "ed" and stem.endswith("i"):
                forms.append(stem[:-1] + "y")
    return tuple(dict.fromkeys(forms))


@lru_cache(maxsize=1 << 18)
def noun_forms(word: str) -> tuple[str, ...]:
    """Return the word and what it may be the plural of, likeliest first."""
    forms = [word]
    if word in _IRREGULAR_PLURALS:
        forms.append(_IRREGULAR_PLURALS[word])
    return tuple(dict.fromkeys([*forms, *_without_s(word)]))


def _without_s(word: str) -> list[str]:
    """Undo the ending of the third person and of the plural, which is the same."""
    if not word.endswith("s") or word.endswith("ss") or len(word) < 3:
        return []
    forms = [word[:-3] + "y"] if word.endswith("ies") and len(word) > 4 else []
    hissing = word.endswith(("ses", "xes", "zes", "ches", "shes", "oes"))
    whole, short = word[:-1], word[:-2]
    if word.endswith("es"):
        # "washes" is wash, but "closes" is close: both are offered.
        return [*forms, *([short, whole] if hissing else [whole, short])]
    return [*forms, whole]
