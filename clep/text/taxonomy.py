"""Verb and noun groups of a narration, found with a taxonomy csv by the base forms of the words."""

import ast
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from clep.errors import InputError
from clep.remote import exists
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
    """Return the word and its possible base forms, most likely first: third person, -ing, -ed, some irregular verbs.

    "carries" → carries, carry, carrie, carri. Some are not words; they are harmless, since they are only looked up in
    the taxonomy.
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
    """Return the word and its possible singular forms, most likely first."""
    forms = [word]
    if word in _IRREGULAR_PLURALS:
        forms.append(_IRREGULAR_PLURALS[word])
    return tuple(dict.fromkeys([*forms, *_without_s(word)]))


def _without_s(word: str) -> list[str]:
    """Return the possible forms without the -s of a plural or of the third person."""
    if not word.endswith("s") or word.endswith("ss") or len(word) < 3:
        return []
    forms = [word[:-3] + "y"] if word.endswith("ies") and len(word) > 4 else []
    sibilant = word.endswith(("ses", "xes", "zes", "ches", "shes", "oes"))
    without_s, without_es = word[:-1], word[:-2]
    if word.endswith("es"):
        # "washes" is wash, but "closes" is close: both are candidates.
        return [*forms, *([without_es, without_s] if sibilant else [without_s, without_es])]
    return [*forms, without_s]


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?|[,;.:]")
_TAGS = re.compile(r"(?:#\s*)?\b(?:camera wearer|other person)\b")
# A verb may follow these.
_BOUNDARIES = _set(", ; . : and then while as to before after when or by")
# An object may follow these as well ("takes the cup and plate").
_COORDINATING = _set(", ; and or then")
# Words between a subject and its verb, and auxiliary verbs ("starts washing").
_SKIPPED = _set(
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
    """Index of the members (words or phrases) of all groups.

    Attributes:
        groups: group ids of each member, by the member's words in base form.
        forms: function from a word to its possible base forms, the word itself first.
    """

    groups: Mapping[tuple[str, ...], frozenset[int]]
    forms: Callable[[str], tuple[str, ...]]
    _longest: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for words in self.groups:
            self._longest[words[0]] = max(len(words), self._longest.get(words[0], 0))

    def at(self, words: list[str], index: int) -> tuple[frozenset[int], int]:
        """Return the groups of the longest member that starts at `words[index]`, and its word count; 0 if none.

        The first and the last word may be inflected.
        """
        first = self.forms(words[index])
        longest = max((self._longest.get(form, 0) for form in first), default=0)
        for length in range(min(longest, len(words) - index), 0, -1):
            rest = words[index + 1 : index + length]
            for form in first:
                for last in self.forms(rest[-1]) if rest else ("",):
                    found = self.groups.get((form, *rest[:-1], last) if rest else (form,))
                    if found is not None:
                        return found, length
        return frozenset(), 0

    def with_particle(self, word: str, particle: str) -> frozenset[int] | None:
        """Return the groups of a phrasal verb ("turns … on"), None if it is not a member."""
        for form in self.forms(word):
            found = self.groups.get((form, particle))
            if found is not None:
                return found
        return None


def words_of(text: str) -> list[str]:
    """Split a text into lower-case words and punctuation; hyphens and underscores separate words."""
    return _WORD.findall(text.lower().replace("_", " ").replace("’", "'"))


def find_groups(words: list[str], verbs: Phrases, nouns: Phrases) -> tuple[set[int], set[int]]:
    """Return the verb groups and the noun groups of a narration.

    A verb is expected at the start of a clause, after its subject; other words may be nouns.
    """
    words = words_of(_TAGS.sub(" ", " ".join(words)))
    verb_groups, noun_groups = set[int](), set[int]()
    index, expects_verb, subject, third_person = 0, True, 0, False
    while index < len(words):
        word = words[index]
        if word in _BOUNDARIES:
            index, expects_verb, subject = index + 1, True, 0
            continue
        if expects_verb:
            if _precedes_verb(words, index):
                index += 1
                continue
            if word in _DETERMINERS:
                # At the start of a sentence the subject follows; after "and", another object.
                expects_verb, subject = index == 0 or subject > 0, subject + 1
                index += 1
                continue
            groups, length = verbs.at(words, index) if subject != 1 else (frozenset[int](), 0)
            if length and not (index and _is_another_object(words, index, length, third_person, nouns)):
                third_person = third_person or word.endswith("s")
                phrasal = _separated_phrasal_verb(words, index, verbs) if length == 1 else None
                verb_groups |= groups if phrasal is None else phrasal
                index, expects_verb = index + length, False
                continue
            subject += 1
            expects_verb = subject <= _SUBJECT_WORDS
        groups, length = nouns.at(words, index)
        noun_groups |= groups
        index += max(length, 1)
    return verb_groups, noun_groups


def _precedes_verb(words: list[str], index: int) -> bool:
    """Whether a word stands between a subject and its verb: a pronoun, letter, adverb, auxiliary, or the "keeps" of
    "keeps stirring"."""
    word, after = words[index], words[index + 1 : index + 2]
    if word in ("keep", "keeps"):
        return bool(after) and after[0].endswith("ing")
    return word in _SKIPPED or (len(word) == 1 and word != "a") or (word.endswith("ly") and len(word) > 4)


def _is_another_object(words: list[str], index: int, length: int, third_person: bool, nouns: Phrases) -> bool:
    """Whether a possible verb is a noun: "takes the cup and plate", "from the pan to the plate".

    A second verb has the same form as the first and is followed by an object: "takes the cup and plates the food".
    """
    before, word = words[index - 1], words[index]
    if before not in _COORDINATING and before != "to":
        return False
    if third_person and before != "to":
        return not word.endswith(("s", "ing"))
    ends = index + length == len(words) or words[index + length] in _BOUNDARIES
    return ends and nouns.at(words, index)[1] > 0


def _separated_phrasal_verb(words: list[str], index: int, verbs: Phrases) -> frozenset[int] | None:
    """Return the groups of a verb whose particle ends its clause ("turns the light on"); None if there is none."""
    end = index + 1
    while end < len(words) and words[end] not in _BOUNDARIES:
        end += 1
    return verbs.with_particle(words[index], words[end - 1]) if words[end - 1] in _PARTICLES else None


LAYOUTS = (("label", "group"), ("key", "instances"))
"""Columns with the name of a group and the list of its members, in Ego4D's taxonomy and EPIC-KITCHENS' classes."""


class Taxonomy:
    """Groups of verbs and of nouns; a text belongs to the groups of its verbs and nouns.

    A member may have several words; the longest match counts ("turn on" before "turn"). Words are compared in lower
    case by their base forms (plural, third person, -ing, -ed); hyphens and underscores count as blanks. A word that is
    listed in several groups belongs to all of them. The id of a group is the column `id` if the csv has one, else the
    row index, from 0.

    Args:
        verbs: csv with the columns `label, group` or `id, key, instances`; the last holds a list, `['cut', 'slice']`.
        nouns: csv of the same layout.

    Examples:
        `verbs.csv` and `nouns.csv` have the columns `label` and `group`, a list of words.

        >>> from clep.text import Taxonomy
        >>> verbs, nouns = Taxonomy("verbs.csv", "nouns.csv").match(["Camera wearer rinses the cup"])
        >>> verbs[0], nouns[0]
        ([1], [0])
    """

    def __init__(self, verbs: str | Path, nouns: str | Path) -> None:
        self.verbs_path, self.nouns_path = Path(verbs), Path(nouns)

    def match(self, texts: Iterable[str]) -> tuple[GroupIds, GroupIds]:
        """Return the verb groups and the noun groups of each text.

        Raises:
            InputError: a csv is missing, lacks a column, or has an invalid row; the message names the line.
        """
        verbs, nouns = self.phrases()
        found = [find_groups(words_of(text), verbs, nouns) for text in texts]
        return GroupIds.of(of_verbs for of_verbs, _ in found), GroupIds.of(of_nouns for _, of_nouns in found)

    def phrases(self) -> tuple[Phrases, Phrases]:
        """Read both files."""
        return _phrases(self.verbs_path, verb_forms), _phrases(self.nouns_path, noun_forms)


def read_groups(path: str | Path) -> dict[int, list[str]]:
    """Read the members of each group of a taxonomy csv, by the group's id.

    Raises:
        InputError: the file is missing, lacks a column, or has an invalid row; the message names the line.
    """
    if not exists(path):
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
            raise InputError(f"{where}: duplicate id {group}; give each group its own id")
        groups[group] = _members(members, f"{where}, column {layout[1]!r}")
    return groups


def _phrases(path: Path, forms: Callable[[str], tuple[str, ...]]) -> Phrases:
    """Index the members of all groups as they are written, and by their base forms if no member is written so."""
    listed: dict[tuple[str, ...], set[int]] = {}
    derived: dict[tuple[str, ...], set[int]] = {}
    for group, members in read_groups(path).items():
        for member in members:
            for words in _alternatives(member):
                listed.setdefault(words, set()).add(group)
                for base in forms(words[0])[1:]:
                    derived.setdefault((base, *words[1:]), set()).add(group)
                for base in forms(words[-1])[1:]:
                    derived.setdefault((*words[:-1], base), set()).add(group)
    ambiguous = [" ".join(words) for words, groups in listed.items() if len(groups) > 1]
    if ambiguous:
        log.info(
            "%s: %d words are in several groups and belong to all of them: %s",
            *(path, len(ambiguous), ", ".join(ambiguous[:5]) + (", …" if len(ambiguous) > 5 else "")),
        )
    return Phrases({words: frozenset(groups) for words, groups in {**derived, **listed}.items()}, forms)


def _alternatives(member: str) -> list[tuple[str, ...]]:
    """Return the spellings of a member, as tuples of words.

    "plug-in" → plug in; "increase/reduce" → increase, reduce; "spoon:wooden" (EPIC-KITCHENS) → wooden spoon.
    """
    found = []
    for choice in member.replace("#", "").split("/"):
        words = tuple(word for part in reversed(choice.split(":")) for word in words_of(part))
        if words:
            found.append(words)
    return found


def _group_id(cell: str, where: str) -> int:
    if not re.fullmatch(r"\d{1,9}", cell):
        raise InputError(f"{where}: id is {cell[:40]!r}, not a whole number from 0")
    return int(cell)


def _members(cell: str, where: str) -> list[str]:
    try:
        members = ast.literal_eval(cell)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise InputError(f"{where} is {cell[:80]!r}, not a list such as ['cut', 'slice']") from error
    if not isinstance(members, list) or not all(isinstance(member, str) for member in members):
        raise InputError(f"{where} is {cell[:80]!r}, not a list of words such as ['cut', 'slice']")
    return members
