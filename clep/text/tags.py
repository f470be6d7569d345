"""Ego4D's narration tags: who acts (`#C` the camera wearer, `#O` another person) and what annotators were unsure of."""

import re

TAG_STYLES = ("clean", "tutorial")

# Nouns for people; none that is a verb in its plural ("cooks", "guards"). A noun that is not here is still
# recognised by its article or its letter.
_NOUNS = """
man men woman women person people lady ladies guy gentleman gentlemen individual adult boy girl child children kid
baby babies toddler infant teenager teen youth friend colleague partner player teammate opponent neighbour neighbor
stranger mother father mum mom dad son daughter brother sister wife husband cousin uncle aunt grandmother grandfather
grandma grandpa cashier attendant shopkeeper storekeeper salesman saleswoman salesperson customer client vendor
seller buyer waiter waitress bartender chef barber hairdresser driver mechanic worker coworker co-worker carpenter
plumber painter builder farmer gardener instructor teacher student doctor cyclist pedestrian passerby passenger
rider musician dancer cleaner officer policeman policewoman
"""
_PERSON = "(?:" + "|".join(sorted(_NOUNS.split(), key=len, reverse=True)) + ")s?"
_ARTICLE = "(?:the|another|an|a|one|some|two|other|that|this|his|her|their)"
_END = r"(?![\w-])"
# A word that is no verb in the third person ("gives"): narrations are in the simple present.
_PLAIN = rf"(?:(?!(?:{_ARTICLE}|unsure)\b)[a-z][a-z'’-]*(?:[^\W\ds_]|ss)){_END}"
# After a noun that we do not know, C and O are people acted upon ("#O gave C a cup"), not the letter of the noun.
_LETTER = rf"\s+[ABD-NP-Z]{_END}"

# What may follow "#O", tried in this order. `who` is the noun phrase that stays; a letter after it goes.
_OTHER_PERSON = tuple(
    re.compile(pattern)
    for pattern in (
        # "A tall man B", "lady"
        rf"(?P<who>(?i:(?:{_ARTICLE}\s+)?(?:{_PLAIN}\s+){{0,2}}{_PERSON})){_END}(?:\s+[A-Zb-hj-z]{_END})?",
        # "the juggler B"
        rf"(?P<who>(?i:{_ARTICLE}\s+(?:{_PLAIN}\s+){{0,2}}?{_PLAIN})){_LETTER}",
        # "A juggler": the article tells that a noun follows
        rf"(?P<who>(?i:{_ARTICLE}))(?=\s+(?i:{_PLAIN}))",
        # "The jugglers", but not "A walks", where A is a letter
        rf"(?P<who>(?!A\b)(?i:{_ARTICLE}))(?=\s)",
        # "juggler B"
        rf"(?P<who>(?i:{_PLAIN})){_LETTER}",
        # "X walks"
        rf"(?P<who>)[A-Zb-z]{_END}",
    )
)
_TAG = re.compile(
    r"(?:#\s*)+(?:"
    rf"(?P<wearer>[cC](?:\s*[cC])?{_END})"
    rf"|(?P<unsure>(?i:unsure|unusre|nsure|usure|unsur|unsre|unure|unsrue){_END})"
    rf"|(?P<other>[oO](?={_END}|(?i:{_ARTICLE}\s|{_PERSON}{_END})))"
    rf"|(?P<person>(?=(?i:(?:an)?other\s+{_PERSON}{_END}|{_PERSON}{_END})))"
    rf")|(?P<bare>\b(?i:unsure){_END})"
)
_START = re.compile(r"[\s-]*(?P<untagged>3?\s*(?:C\s+C|c\s+c)(?![\w-])\s*)?")
_BLANKS = re.compile(r"\s*")
_CLOSING = frozenset(".,;:!?'’)\"")


def substitute_tags(text: str, style: str = "clean") -> str:
    """Put words in the place of a narration's tags.

    `"clean"`: the camera wearer, with or without the letter, becomes "Camera wearer"; another person keeps the
    noun phrase and loses the letter, or becomes "Other person" where there is no noun; every form of unsure
    becomes "something"; blanks are folded. `"tutorial"`: the literal replacement of the published tutorial
    (`#C` → "Camera wearer", `#O` → "Other person", `#unsure` → "something") and nothing else.

    A tag needs its `#`, wherever it stands. At the start of a sentence `C C` and `3C C` (a `#` typed without
    shift) count as well, and so does the bare word "unsure" anywhere. No other C or O is touched.

    Raises:
        ValueError: the style is not one of `TAG_STYLES`.
    """
    if style == "tutorial":
        return text.replace("#C", "Camera wearer").replace("#O", "Other person").replace("#unsure", "something")
    if style != "clean":
        raise ValueError(f"tag style {style!r} is not one of {', '.join(TAG_STYLES)}")
    return _replace(text, wearer="Camera wearer", other="Other person", unsure="something")


def remove_tags(text: str) -> str:
    """Remove a narration's tags and the letters of its people; blanks are folded.

    "#C C puts the Coke from the CD" → "puts the Coke from the CD"; "#O A man X opens it" → "A man opens it",
    since a noun phrase is text and not tag; "#C C holds #unsure" → "holds".
    """
    before, text = text, _replace(text, wearer="", other="", unsure="")
    while text != before:  # a tag that another one hid: "C C C C cuts"
        before, text = text, _replace(text, wearer="", other="", unsure="")
    return text


def _replace(text: str, wearer: str, other: str, unsure: str) -> str:
    """Replace every tag once, each kind by its words, and fold blanks."""
    start = _START.match(text)
    position = start.end() if start else 0
    parts = [wearer, " "] if start and start["untagged"] else []
    while tag := _TAG.search(text, position):
        before = text[position : tag.start()]
        position = tag.end()
        if tag["wearer"]:
            words = wearer
        elif tag["unsure"] or tag["bare"]:
            words = unsure
        else:
            words, position = _noun_phrase(text, position)
            words = words or other
        closing = text[position : position + 1] in _CLOSING
        if closing and not words:
            before = before.rstrip()
        elif before[-1:].isalnum():
            before += " "
        parts += [before, words, "" if closing else " "]
    parts.append(text[position:])
    return " ".join("".join(parts).split())


def _noun_phrase(text: str, position: int) -> tuple[str, int]:
    """Return the noun phrase after an `#O` that ends at `position`, and where the text goes on after it.

    The phrase is "" where there is none; the letter is skipped.
    """
    blanks = _BLANKS.match(text, position)
    position = blanks.end() if blanks else position
    for pattern in _OTHER_PERSON:
        if found := pattern.match(text, position):
            return found["who"], found.end()
    return "", position
