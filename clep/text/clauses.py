"""Where the verbs and the nouns of a narration stand: a simple sentence in the present tense.

Narrations are short and of one shape, "[who] [does] [what], and [does] [what]", so the verb's place tells it from a
noun of the same spelling ("covers the pan", "takes the cover") without a part-of-speech tagger.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?|[,;.:]")
_TAGS = re.compile(r"(?:#\s*)?\b(?:camera wearer|other person)\b")
# After these another verb may come.
_BOUNDARIES = _set(", ; . : and then while as to before after when or by")
# After these an object may come as well ("takes the cup and plate").
_COORDINATING = _set(", ; and or then")
# Between the subject and its verb, and verbs that only lead to the next one ("starts washing").
_PASSED_BY = _set(
    """
    he she they it who also again still now just slowly quickly gently carefully properly is are was were be been being
    has have had starts start started begins begin continues continue continued stops stop stopped finishes finish tries
    try proceeds proceed resumes resume together both
    """
)
_DETERMINERS = _set(
    "a an the his her its their some another other one two three more both this that these those each all"
)
_PARTICLES = _set("on off up down out in away back aside over apart together")
_SUBJECT_WORDS = 6


@dataclass(frozen=True)
class Phrases:
    """Members of groups, findable by their words.

    Attributes:
        groups: of each member, its words one after the other, in base form.
        forms: what a word may be a form of, the word itself first.
    """

    groups: Mapping[tuple[str, ...], frozenset[int]]
    forms: Callable[[str], tuple[str, ...]]
    _longest: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for words in self.groups:
            self._longest[words[0]] = max(len(words), self._longest.get(words[0], 0))

    def at(self, words: list[str], place: int) -> tuple[frozenset[int], int]:
        """Return the groups of the longest member that starts at `place`, and its number of words; 0 if none does.

        Its first word, or its last one, may be inflected.
        """
        first = self.forms(words[place])
        longest = max((self._longest.get(form, 0) for form in first), default=0)
        for length in range(min(longest, len(words) - place), 0, -1):
            rest = words[place + 1 : place + length]
            for form in first:
                for last in self.forms(rest[-1]) if rest else ("",):
                    found = self.groups.get((form, *rest[:-1], last) if rest else (form,))
                    if found is not None:
                        return found, length
        return frozenset(), 0

    def with_particle(self, word: str, particle: str) -> frozenset[int] | None:
        """Return the groups of a phrasal verb ("turns … on"), None where it is no member."""
        for form in self.forms(word):
            found = self.groups.get((form, particle))
            if found is not None:
                return found
        return None


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case, and its punctuation; hyphens and underscores separate words."""
    return _WORD.findall(text.lower().replace("_", " ").replace("’", "'"))


def find_groups(words: list[str], verbs: Phrases, nouns: Phrases) -> tuple[set[int], set[int]]:
    """Return the groups of the verbs and of the nouns of a narration.

    A verb stands at the start of a clause, after its subject; what is no verb may be a noun.
    """
    words = words_of(_TAGS.sub(" ", " ".join(words)))
    verb_groups, noun_groups = set[int](), set[int]()
    place, expects_verb, subject, third_person = 0, True, 0, False
    while place < len(words):
        word = words[place]
        if word in _BOUNDARIES:
            place, expects_verb, subject = place + 1, True, 0
            continue
        if expects_verb:
            if _leads_to_the_verb(words, place):
                place += 1
                continue
            if word in _DETERMINERS:
                # A sentence begins with its subject; after "and" it is one more object.
                expects_verb, subject = place == 0 or subject > 0, subject + 1
                place += 1
                continue
            groups, length = verbs.at(words, place) if subject != 1 else (frozenset[int](), 0)
            if length and not (place and _is_one_more_object(words, place, length, third_person, nouns)):
                third_person = third_person or word.endswith("s")
                phrasal = _separated(words, place, verbs) if length == 1 else None
                verb_groups |= groups if phrasal is None else phrasal
                place, expects_verb = place + length, False
                continue
            subject += 1
            expects_verb = subject <= _SUBJECT_WORDS
        groups, length = nouns.at(words, place)
        noun_groups |= groups
        place += max(length, 1)
    return verb_groups, noun_groups


def _leads_to_the_verb(words: list[str], place: int) -> bool:
    """Whether a word stands between a subject and its verb: a pronoun, letter, adverb, auxiliary, "keeps" of "keeps
    stirring"."""
    word, after = words[place], words[place + 1 : place + 2]
    if word in ("keep", "keeps"):
        return bool(after) and after[0].endswith("ing")
    return word in _PASSED_BY or (len(word) == 1 and word != "a") or (word.endswith("ly") and len(word) > 4)


def _is_one_more_object(words: list[str], place: int, length: int, third_person: bool, nouns: Phrases) -> bool:
    """Whether what could be a verb at `place` is a noun: "takes the cup and plate", "from the pan to the plate".

    A second verb is of the first one's form ("takes the cup and plates the food"), and something follows it.
    """
    before, word = words[place - 1], words[place]
    if before not in _COORDINATING and before != "to":
        return False
    if third_person and before != "to":
        return not word.endswith(("s", "ing"))
    ends = place + length == len(words) or words[place + length] in _BOUNDARIES
    return ends and nouns.at(words, place)[1] > 0


def _separated(words: list[str], place: int, verbs: Phrases) -> frozenset[int] | None:
    """Return the groups of a verb at `place` whose particle ends its clause: "turns the light on"."""
    end = place + 1
    while end < len(words) and words[end] not in _BOUNDARIES:
        end += 1
    return verbs.with_particle(words[place], words[end - 1]) if words[end - 1] in _PARTICLES else None
