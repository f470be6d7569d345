"""Verb and noun groups of a taxonomy csv, found in narrations on the base forms of their words."""

import ast
import csv
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from clep.errors import InputError
from clep.text.clauses import Phrases, find_groups, words_of
from clep.text.group_numbers import GroupNumbers
from clep.text.inflection import noun_forms, verb_forms

log = logging.getLogger(__name__)

LAYOUTS = (("label", "group"), ("key", "instances"))
"""Columns for a group's name and the list of its members: Ego4D's narration taxonomy, and EPIC-KITCHENS' classes."""


class Taxonomy:
    """Groups of verbs and of nouns; a text belongs to a group that one of its verbs or nouns is a member of.

    A member may be of several words; the longest that fits counts ("turn on" before "turn"). Words are compared in
    lower case on their base forms (plural, third person, -ing, -ed), hyphens and underscores being blanks. A word that
    is listed in several groups belongs to all of them. The number of a group is its `id`, where the csv has such a
    column, else its place, from 0.

    Args:
        verbs: csv with the columns `label, group` or `id, key, instances`; the last holds a list, `['cut', 'slice']`.
        nouns: the same.
    """

    def __init__(self, verbs: str | Path, nouns: str | Path) -> None:
        self.verbs_path, self.nouns_path = Path(verbs), Path(nouns)

    def match(self, texts: Iterable[str]) -> tuple[GroupNumbers, GroupNumbers]:
        """Return the groups of the verbs and of the nouns of each text.

        Raises:
            InputError: a csv is missing, lacks a column, or has a row that cannot be read; the message names the line.
        """
        verbs, nouns = self.phrases()
        found = [find_groups(words_of(text), verbs, nouns) for text in texts]
        return GroupNumbers.of(one for one, _ in found), GroupNumbers.of(other for _, other in found)

    def phrases(self) -> tuple[Phrases, Phrases]:
        """Read both files."""
        return _phrases(self.verbs_path, verb_forms), _phrases(self.nouns_path, noun_forms)


def read_groups(path: str | Path) -> dict[int, list[str]]:
    """Read the members of each group of a taxonomy csv, by the group's number.

    Raises:
        InputError: the file is missing, lacks a column, or has a row that cannot be read; the message names the line.
    """
    groups: dict[int, list[str]] = {}
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = [str(name).strip() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            layout = next((names for names in LAYOUTS if set(names) <= set(columns)), None)
            if layout is None:
                wanted = " or ".join(", ".join(names) for names in LAYOUTS)
                raise InputError(f"{path} lacks a column: a taxonomy has {wanted}, but its columns are {columns}")
            for place, row in enumerate(reader):
                where = f"{path}, line {reader.line_num}"
                number = _number(row["id"], where) if "id" in columns else place
                if number in groups:
                    raise InputError(f"{where}: the group {number} was there before; every id must be another")
                groups[number] = _members(row[layout[1]], f"{where}, column {layout[1]!r}")
    except FileNotFoundError as error:
        raise InputError(
            f"{path} does not exist; name the taxonomy's files with data.taxonomy.verbs=CSV and data.taxonomy.nouns=CSV"
        ) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error})") from error
    if not groups:
        raise InputError(f"{path} has a header but no groups")
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


def _number(cell: str | None, where: str) -> int:
    try:
        number = int(cell or "")
    except ValueError as error:
        raise InputError(f"{where}: id is {cell!r}, not a number") from error
    if not 0 <= number < 2**31:
        raise InputError(f"{where}: id is {number}, which must not be negative")
    return number


def _members(cell: str | None, where: str) -> list[str]:
    try:
        members = ast.literal_eval(cell or "")
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise InputError(f"{where} is {str(cell)[:80]!r}, not a list such as ['cut', 'slice']") from error
    if not isinstance(members, list) or not all(isinstance(member, str) for member in members):
        raise InputError(f"{where} is {str(cell)[:80]!r}, not a list of words such as ['cut', 'slice']")
    return members
