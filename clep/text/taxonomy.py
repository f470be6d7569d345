"""Verb and noun groups of a taxonomy csv, found in narrations on the base forms of their words."""

import ast
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from clep.errors import InputError
from clep.tables import read_table
from clep.text.texts import GroupIds

log = logging.getLogger(__name__)

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


LAYOUTS = (("label", "group"), ("key", "instances"))
"""Columns for a group's name and the list of its members: Ego4D's narration taxonomy, and EPIC-KITCHENS' classes."""


class Taxonomy:
    """Groups of verbs and of nouns; a text belongs to a group that one of its verbs or nouns is a member of.

    A member may be of several words; the longest that fits counts ("turn on" before "turn"). Words are compared in
    lower case on their base forms (plural, third person, -ing, -ed), hyphens and underscores being blanks. A word that
    is listed in several groups belongs to all of them. A group's id is its `id` where the csv has such a
    column, else its index, from 0.

    Args:
        verbs: csv with the columns `label, group` or `id, key, instances`; the last holds a list, `['cut', 'slice']`.
        nouns: the same.
    """

    def __init__(self, verbs: str | Path, nouns: str | Path) -> None:
        self.verbs_path, self.nouns_path = Path(verbs), Path(nouns)

    def match(self, texts: Iterable[str]) -> tuple[GroupIds, GroupIds]:
        """Return the groups of the verbs and of the nouns of each text.

        Raises:
            InputError: a csv is missing, lacks a column, or has a row that cannot be read; the message names the line.
        """
        verbs, nouns = self.phrases()
        found = [find_groups(words_of(text), verbs, nouns) for text in texts]
        return GroupIds.of(one for one, _ in found), GroupIds.of(other for _, other in found)

    def phrases(self) -> tuple[Phrases, Phrases]:
        """Read both files."""
        return _phrases(self.verbs_path, verb_forms), _phrases(self.nouns_path, noun_forms)


def read_groups(path: str | Path) -> dict[int, list[str]]:
    """Read the members of each group of a taxonomy csv, by the group's id.

    Raises:
        InputError: the file is missing, lacks a column, or has a row that cannot be read; the message names the line.
    """
    if not Path(path).exists():
        raise InputError(
            f"{path} does not exist; name the taxonomy's files with data.taxonomy.verbs=CSV and data.taxonomy.nouns=CSV"
        )
    every = {name for names in LAYOUTS for name in (*names, "id")}
    table = read_table(path, (), optional=sorted(every))
    layout = next((names for names in LAYOUTS if set(names) <= set(table.columns)), None)
    if layout is None:
        wanted = " or ".join(", ".join(names) for names in LAYOUTS)
        raise InputError(
            f"{path} lacks a column: a taxonomy has {wanted}; name its files with data.taxonomy.verbs=CSV and "
            f"data.taxonomy.nouns=CSV"
        )
    groups: dict[int, list[str]] = {}
    ids = table["id"] if "id" in table.columns else [str(index) for index in range(len(table))]
    for line, cell, members in zip(table.index, ids, table[layout[1]], strict=True):
        where = f"{path}, line {line}"
        group = _group_id(cell, where)
        if group in groups:
            raise InputError(f"{where}: the group {group} was there before; every id must be another")
        groups[group] = _members(members, f"{where}, column {layout[1]!r}")
    return groups


def _phrases(path: Path, forms: Callable[[str], tuple[str, ...]]) -> Phrases:
    """Make the members of all groups findable, first as they are written, then by their base forms."""
    listed: dict[tuple[str, ...], set[int]] = {}
    derived: dict[tuple[str, ...], set[int]] = {}
    for number, members in read_groups(path).items():
        for member in members:
            for words in _alternatives(member):
                listed.setdefault(words, set()).add(number)
                for base in forms(words[0])[1:]:
                    derived.setdefault((base, *words[1:]), set()).add(number)
                for base in forms(words[-1])[1:]:
                    derived.setdefault((*words[:-1], base), set()).add(number)
    several = [" ".join(words) for words, numbers in listed.items() if len(numbers) > 1]
    if several:
        log.info(
            "%s: %d words are in several groups and belong to all of them: %s",
            *(path, len(several), ", ".join(several[:5]) + (", …" if len(several) > 5 else "")),
        )
    return Phrases({words: frozenset(numbers) for words, numbers in {**derived, **listed}.items()}, forms)


def _alternatives(member: str) -> list[tuple[str, ...]]:
    """Return the words of a member as written: "plug-in" → plug in; "increase/reduce" → both; "spoon:wooden" → wooden
    spoon, as EPIC-KITCHENS writes the noun before what describes it."""
    found = []
    for choice in member.replace("#", "").split("/"):
        words = tuple(word for part in reversed(choice.split(":")) for word in words_of(part))
        if words:
            found.append(words)
    return found


def _group_id(cell: str, where: str) -> int:
    if not re.fullmatch(r"\d{1,9}", cell):
        raise InputError(f"{where}: id is {cell[:40]!r}, not a number from 0")
    return int(cell)


def _members(cell: str, where: str) -> list[str]:
    try:
        members = ast.literal_eval(cell)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise InputError(f"{where} is {cell[:80]!r}, not a list such as ['cut', 'slice']") from error
    if not isinstance(members, list) or not all(isinstance(member, str) for member in members):
        raise InputError(f"{where} is {cell[:80]!r}, not a list of words such as ['cut', 'slice']")
    return members
