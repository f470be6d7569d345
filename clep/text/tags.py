"""Ego4D's narration tags: `#C` (camera wearer), `#O` (another person), `#unsure`; replaced or removed.

The forms come from the published tags and from a census of 355,580 real narrations. Every function takes time linear in
the length of the text: one scan from each `#` to the next, and no pattern crosses a `#`.
"""

import re
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

TagStyle = Literal["clean", "tutorial", "raw", "none"]
TAG_STYLES: tuple[str, ...] = get_args(TagStyle)

# Nouns for people, except those whose plural is also a verb ("cooks", "guards"). Other nouns are still recognised by
# their article or letter.
_NOUNS = """
man men woman women person people lady ladies guy gentleman gentlemen individual adult boy girl child children kid
baby babies toddler infant teenager teen youth friend colleague partner player teammate opponent neighbour neighbor
stranger mother father mum mom dad son daughter brother sister wife husband cousin uncle aunt grandmother grandfather
grandma grandpa cashier attendant shopkeeper storekeeper salesman saleswoman salesperson customer client vendor
seller buyer waiter waitress bartender chef barber hairdresser driver mechanic worker coworker co-worker carpenter
plumber painter builder farmer gardener instructor teacher student doctor cyclist pedestrian passerby passenger
rider musician dancer cleaner officer policeman policewoman
"""
_SINGULAR_PERSON = "(?:" + "|".join(sorted(_NOUNS.split(), key=len, reverse=True)) + ")"
_PERSON = f"{_SINGULAR_PERSON}s?"
_ARTICLE = "(?:the|another|an|a|one|some|two|other|that|this|his|her|their)"
_END = r"(?![\w-])"
# A word that is not a verb in the third person ("gives"): narrations are in the simple present.
_PLAIN = rf"(?:(?!(?:{_ARTICLE}|unsure)\b)[a-z][a-z'’-]*(?:[^\W\ds_]|ss)){_END}"
# After an unknown noun, C and O are people acted upon ("#O gave C a cup"), not the letter of the noun.
_LETTER = rf"\s[ABD-NP-Z]{_END}"
_NAMED_PERSON = rf"(?i:(?:{_ARTICLE}\s)?(?:{_PLAIN}\s){{0,2}}{_PERSON}){_END}"
_AND = r"\s?(?:,|&|and\b)\s"

# "X and Y", "X, Y and Z": several people who are named by their letters.
_SEVERAL_LETTERS = rf"[ABD-Z](?:,\s[ABD-Z]){{0,4}}{_AND}[ABD-Z]{_END}"
# What may follow "#O", tried in this order. `who` is the noun phrase that is kept; a letter after it is removed.
_OTHER_PERSON = tuple(
    re.compile(pattern)
    for pattern in (
        # "X and Y walk"
        rf"(?P<several>{_SEVERAL_LETTERS})",
        # "They talk", "He walks"
        rf"(?P<who>(?i:they|he|she|we|everyone|everybody|someone|somebody|both){_END})",
        # "men X and Y": letters stay, since they tell several people apart
        rf"(?P<who>{_NAMED_PERSON}\s{_SEVERAL_LETTERS})",
        # "A tall man B", "lady"
        rf"(?P<who>{_NAMED_PERSON})(?:\s[A-Zb-hj-z]{_END})?",
        # "the juggler B"
        rf"(?P<who>(?i:{_ARTICLE}\s(?:{_PLAIN}\s){{0,2}}?{_PLAIN})){_LETTER}",
        # "A juggler": after an article comes a noun
        rf"(?P<who>(?i:{_ARTICLE}))(?=\s(?i:{_PLAIN}))",
        # "The jugglers", but not "A walks", where A is a letter
        rf"(?P<who>(?!A\b)(?i:{_ARTICLE}))(?=\s)",
        # "juggler B", but not "hand B picks"
        rf"(?P<who>(?i:{_PLAIN})){_LETTER}",
        # "X walks"
        rf"(?P<who>)[A-Zb-z]{_END}",
    )
)
_ONE_MORE_PERSON = re.compile(rf"(?P<and>{_AND})(?P<who>{_NAMED_PERSON})(?:\s[A-Zb-hj-z]{_END})?")
# "hand picks", but not "hands C a cup", where "hands" is the verb.
_BODY_PART = re.compile(
    rf"(?i:(?:left\s|right\s)?(?:hand|arm|finger|thumb|palm|leg|foot|feet|head|face)|(?:left|right|both)\shands){_END}"
)
# A body part after the wearer's tag must be followed by a verb: in "hand cloth" (EPIC-KITCHENS) "hand" is the verb.
_BODY_PART_ACTS = re.compile(rf"{_BODY_PART.pattern}\s(?i:[a-z]+s){_END}")
# Beginning of a sentence whose subject is not the camera wearer in spite of its tag: "#C A white car passes".
_OTHER_SUBJECT = re.compile(
    rf"(?i:(?:another|an|the|some|two|three)\s[^\W\d]|a\s{_PLAIN}|{_SINGULAR_PERSON}{_END}"
    rf"|(?:they|there|someone|somebody|everyone){_END})"
)

_SUMMARY = re.compile(r"\s*+#[#\s]*+summary", re.IGNORECASE)
_MARK = re.compile(r"#[#\s]*+|\bunsure(?![\w-])", re.IGNORECASE)
_WEARER = re.compile(rf"[cC](?:\s?[cC])?{_END}|CC(?=[a-z])")
# The usual beginning: no verb in the third person begins a body part or another subject; these patterns are skipped.
_WEARER_ACTS = re.compile(r"#C C (?=(?!waitress)[a-z]+s )")
_OTHER = re.compile(rf"[oO]{{1,2}}{_END}|OO(?=[a-z])|[oO](?=(?i:{_ARTICLE}\s|{_PERSON}{_END}))")
_PERSON_TAG = re.compile(rf"(?=(?i:(?:an)?other\s{_PERSON}{_END}|{_PERSON}{_END}))")
_TAG_WORD = re.compile(r"[a-z]+(?:=[a-z]+)?(?![\w-])", re.IGNORECASE)
_UNSURE_AND_MORE = re.compile(r"unsure(?=[a-z]{2,}(?![\w-]))", re.IGNORECASE)
_START = re.compile(rf"[\s-]*+(?P<untagged>(?:3?\s?(?:C\sC|c\sc){_END}\s?)+)?")
_MAY_BEGIN_WITH_A_TAG = re.compile(r"-|3?\s?[cC]\s[cC]")
_IS_UNSURE = re.compile(
    r"\b(?:looks?|looked|looking|is|are|was|were|am|be|being|seems?|seemed|appears?|appeared|feels?|felt|remains?|becomes?)"
    r"(?:\s(?:very|so|quite|rather|really|still|somewhat|slightly|a\s(?:bit|little)))?\s\Z",
    re.IGNORECASE,
)
_CLOSING = frozenset(".,;:!?'’)\"")


class _Words(NamedTuple):
    """Replacement of each kind of tag; "" removes it."""

    wearer: str
    other: str
    others: str
    unsure: str


_CLEAN = _Words("Camera wearer", "Other person", "Other people", "something")
_REMOVED = _Words("", "", "", "")


def substitute_tags(text: str, style: str = "clean") -> str:
    """Write a narration in one of the tag styles.

    - `"clean"`: every form of every tag is replaced by words, and repeated blanks become one. The camera wearer, with
      or without the letter, becomes "Camera wearer"; another person keeps the noun phrase without the letter, or
      becomes "Other person" without a noun; every spelling of unsure and unknown becomes "something". "#C" before
      another subject ("#C A white car passes") is removed.
    - `"tutorial"`: the literal replacement of the published tutorial (`#C` → "Camera wearer", `#O` → "Other person",
      `#unsure` → "something") and nothing else.
    - `"raw"`: the text as written. Published models such as LaViLa and EgoVLP were trained on it.
    - `"none"`: tags and letters are removed, see `remove_tags`.

    A tag needs its `#`, with two exceptions: `C C` and `3C C` (a `#` typed without shift) at the start of a sentence,
    and the word "unsure", unless it is an adjective after a verb such as "looks". No other C or O is changed.

    Raises:
        ValueError: the style is not one of `TAG_STYLES`.
    """
    if style == "clean":
        return _replace(text, _CLEAN)
    if style == "tutorial":
        return text.replace("#C", "Camera wearer").replace("#O", "Other person").replace("#unsure", "something")
    if style == "raw":
        return text
    if style == "none":
        return remove_tags(text)
    raise ValueError(f"tag style {style!r} is not one of {', '.join(TAG_STYLES)}")


def remove_tags(text: str) -> str:
    """Remove a narration's tags and the letters of its people; repeated blanks become one.

    "#C C puts the Coke from the CD" → "puts the Coke from the CD"; "#O A man X opens it" → "A man opens it" (the noun
    phrase is not part of the tag); "#C C holds #unsure" → "holds".
    """
    if acts := _only_the_wearer_acts(text):
        return " ".join(text[acts:].split())
    text = " ".join(text.split())
    while _may_have_a_tag(text):  # removing a tag may complete another one: "C #C C C cuts"
        before, text = text, _replace_in(text, _REMOVED)
        if text == before:
            break
    return text


def is_summary(text: str) -> bool:
    """Return whether a row is a summary of the video (`#Summary …`), which is not a narration."""
    return _SUMMARY.match(text) is not None


def _replace(text: str, words: _Words) -> str:
    """Replace every tag once; repeated blanks become one."""
    text = " ".join(text.split())
    return _replace_in(text, words) if _may_have_a_tag(text) else text


def _only_the_wearer_acts(text: str) -> int:
    """Return where the verb begins in "#C C opens …", whose only tag is the first; 0 for any other text."""
    found = _WEARER_ACTS.match(text)
    return found.end() if found and text.find("#", 1) < 0 and "unsure" not in text.casefold() else 0


def _replace_in(text: str, words: _Words) -> str:
    """Replace every tag once in a text without repeated blanks."""
    if acts := _only_the_wearer_acts(text):
        return f"{words.wearer} {text[acts:]}".lstrip()
    may_be_unsure = "unsure" in text.casefold()
    start = _START.match(text)
    position = start.end() if start else 0
    parts: list[str] = []
    if start and start["untagged"]:
        replacement, position = _camera_wearer(text, position, words, begins_sentence=True)
        parts += [replacement, " "]
    while (may_be_unsure or text.find("#", position) >= 0) and (mark := _MARK.search(text, position)):
        found = _tag(text, mark, words, begins_sentence=not parts and mark.start() == position)
        if found is None:
            parts.append(text[position : mark.end()])
            position = mark.end()
            continue
        before = text[position : mark.start()]
        replacement, position = found
        closing = text[position : position + 1] in _CLOSING
        if closing and not replacement:
            before = before.rstrip()
        elif before[-1:].isalnum():
            before += " "
        parts += [before, replacement, "" if closing else " "]
    parts.append(text[position:])
    return " ".join("".join(parts).split())


def _may_have_a_tag(text: str) -> bool:
    """Whether a text without repeated blanks may have a tag: cheap, as most texts have none."""
    return "#" in text or _MAY_BEGIN_WITH_A_TAG.match(text) is not None or "unsure" in text.casefold()


def _tag(text: str, mark: re.Match[str], words: _Words, begins_sentence: bool) -> tuple[str, int] | None:
    """Return the replacement of the tag that begins at a mark, and the position after it; None if there is no tag."""
    position = mark.end()
    if not mark[0].startswith("#"):
        if _IS_UNSURE.search(text, max(0, mark.start() - 40), mark.start()):
            return None
        return words.unsure, position
    if tag := _WEARER.match(text, position):
        return _camera_wearer(text, tag.end(), words, begins_sentence)
    if (tag := _TAG_WORD.match(text, position)) and _means_unsure(tag[0].lower()):
        return words.unsure, tag.end()
    if tag := _UNSURE_AND_MORE.match(text, position):
        return words.unsure, tag.end()
    if tag := _OTHER.match(text, position) or _PERSON_TAG.match(text, position):
        return _other_person(text, tag.end(), words)
    return None


def _camera_wearer(text: str, position: int, words: _Words, begins_sentence: bool) -> tuple[str, int]:
    """Return the replacement of a `#C` that ends at `position`, and the position after it."""
    after = position + text.startswith(" ", position)
    if _BODY_PART_ACTS.match(text, after):
        return words.wearer and f"{words.wearer}'s", after
    if begins_sentence and _OTHER_SUBJECT.match(text, after):
        return _noun_phrase(text, after)[:2]
    return words.wearer, position


def _other_person(text: str, position: int, words: _Words) -> tuple[str, int]:
    """Return the replacement of an `#O` that ends at `position`, and the position after it."""
    position += text.startswith(" ", position)
    if _BODY_PART.match(text, position):
        return words.other and f"{words.other}'s", position
    who, position, several = _noun_phrase(text, position)
    if several:
        return words.others, position
    after = position + text.startswith(" ", position)
    if not who and _BODY_PART.match(text, after):  # "#O X hand picks"
        return words.other and f"{words.other}'s", position
    return who or words.other, position


def _noun_phrase(text: str, position: int) -> tuple[str, int, bool]:
    """Return the noun phrase at `position`, "" if none, its end, and whether it was a list of letters ("X and Y").

    The letter of a single person is skipped.
    """
    for pattern in _OTHER_PERSON:
        if found := pattern.match(text, position):
            groups = found.groupdict()
            if groups.get("several"):
                return "", found.end(), True
            who, position = groups["who"], found.end()
            while who and (more := _ONE_MORE_PERSON.match(text, position)):  # "man X and lady Y"
                who, position = who + more["and"] + more["who"], more.end()
            return who, position, False
    return "", position, False


@lru_cache(maxsize=4096)
def _means_unsure(word: str) -> bool:
    """Return whether the word after a `#` is "unsure" or "unknown", with at most two or one typing errors."""
    if not 4 <= len(word) <= 9:
        return False
    return _edit_distance(word, "unsure") <= 2 or _edit_distance(word, "unknown") <= 1


def _edit_distance(word: str, target: str) -> int:
    """Return the Damerau–Levenshtein distance: insertions, deletions, substitutions, swaps of neighbours."""
    rows = [list(range(len(target) + 1))]
    for i, letter in enumerate(word, start=1):
        row = [i]
        for j, other in enumerate(target, start=1):
            cost = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == target[j - 2] and word[i - 2] == other:
                cost = min(cost, rows[-2][j - 2] + 1)
            row.append(cost)
        rows.append(row)
    return rows[-1][-1]
