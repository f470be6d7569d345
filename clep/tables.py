"""The reader of every csv and tsv with a header, whoever wrote it; errors name the file, the line and the column.

Written here rather than left to `pandas.read_csv`, which fills up rows that are too short, merges lines at a stray
quotation mark, and does not know on which line of the file a row is.
"""

import csv
import re
import sys
from collections.abc import Iterator, Sequence
from io import TextIOWrapper
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float64

from clep.errors import InputError
from clep.files import open_input

_ROWS_AT_ONCE = 1 << 14
_LINES_OF_A_CELL = 100
_STRAY_QUOTES = 20  # rows with one after which a table's cells are taken to be of one line each
_COLUMNS_SHOWN = 20
_BLANK = " \t\r\n\ufeff"
_ID_LIST = re.compile(r"\[\s*(?:\d{1,9}\s*(?:,\s*\d{1,9}\s*)*,?)?\s*\]|\d{1,9}|")
_CLOCK = re.compile(r"(?:(?P<hours>\d+):)?(?P<minutes>\d+):(?P<seconds>\d+(?:\.\d*)?)")

# Cells of more than 128 kB exist: captions of web pages, lists of ids. The limit is one of the whole process.
csv.field_size_limit(sys.maxsize)


def read_table(
    path: str | Path,
    columns: Sequence[str],
    hint: str = "",
    separator: str = ",",
    optional: Sequence[str] = (),
    skipped: list[str] | None = None,
) -> pd.DataFrame:
    """Read the columns of a table with a header: strings without blanks around them, indexed by their line.

    A quoted cell may hold separators, line breaks and doubled quotation marks; in a table that is separated by tabs, a
    quotation mark that is not closed is a letter. Empty lines are left out. Byte order marks, Windows' line ends, and
    empty cells beyond the header are ignored.

    Args:
        path: of the table.
        columns: that must be there.
        hint: what to do where one is not.
        separator: between cells.
        optional: columns that are read where they are there.
        skipped: takes the message of each row with a wrong number of cells, which is then left out; None refuses them.

    Raises:
        InputError: the file is missing, no regular file, not UTF-8, lacks a column, has no rows, or has a row with too
            few or too many cells or the character NUL.
    """
    path = Path(path)
    try:
        with open_input(path) as binary, TextIOWrapper(binary, encoding="utf-8-sig", newline="") as file:
            return _read(path, _rows(path, file, separator), columns, hint, optional, skipped)
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} is not a readable table of UTF-8 text ({error}); fetch it again") from error


def _read(
    path: Path,
    rows: Iterator[tuple[int, list[str]]],
    columns: Sequence[str],
    hint: str,
    optional: Sequence[str],
    skipped: list[str] | None,
) -> pd.DataFrame:
    _, header = next(rows, (0, []))
    names = [name.strip(_BLANK) for name in header]
    while names and not names[-1]:
        names.pop()
    if not names:
        raise InputError(f"{path} is not a readable table: it is empty; fetch it again")
    missing = [name for name in columns if name not in names]
    if missing:
        shown = ", ".join(names[:_COLUMNS_SHOWN]) + (f", … ({len(names):,})" if len(names) > _COLUMNS_SHOWN else "")
        raise InputError(
            f"{path} lacks the column {', '.join(map(repr, missing))}; its columns are: {shown[:1000]}. {hint}".strip()
        )
    wanted = [*columns, *(name for name in optional if name in names)]
    twice = [name for name in wanted if names.count(name) > 1]
    if twice:
        raise InputError(f"{path} has the column {twice[0]!r} twice; leave one of them out")
    if not wanted:
        return pd.DataFrame()
    places = [names.index(name) for name in wanted]
    chunks: list[pd.DataFrame] = []
    while some := list(islice(rows, _ROWS_AT_ONCE)):
        lines, cells = [], []
        for line, row in some:
            if len(row) < len(names) or any(map(str.strip, row[len(names) :])):
                message = f"{path}, line {line} has {len(row)} cells, but the header has {len(names)}"
                if skipped is None:
                    raise InputError(f"{message}; fetch it again, or correct the line")
                skipped.append(message)
            else:
                lines.append(line)
                cells.append([row[place].strip(_BLANK) for place in places])
        table = pd.DataFrame(cells, index=pd.Index(lines, dtype=np.int64), columns=wanted, dtype=str)
        chunks.append(table[(table != "").any(axis=1)])
    if not sum(map(len, chunks)):
        raise InputError(f"{path} has a header but no rows")
    return pd.concat(chunks)


def _rows(path: Path, file: Iterator[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line on which each row begins, and its cells; empty lines are left out."""
    lines = _Lines(path, file)
    expected = 0
    for line in lines:
        if not line.strip(_BLANK):
            continue
        begins = lines.number
        row = line.split(separator) if '"' not in line else _quoted(lines, line, separator, expected)
        expected = expected or len(row)
        yield begins, row


class _Lines(Iterator[str]):
    """Lines of a file with their number; one that was looked at can be put back."""

    def __init__(self, path: Path, file: Iterator[str]) -> None:
        self.path, self.file, self.number = path, file, 0
        self.waiting: list[str] = []
        self.stray_quotes = 0

    def __next__(self) -> str:
        line = self.waiting.pop() if self.waiting else next(self.file)
        self.number += 1
        if "\0" in line:
            raise InputError(f"{self.path}, line {self.number} holds the character NUL; fetch it again")
        return line.removeprefix("\ufeff")

    def put_back(self, lines: list[str]) -> None:
        self.waiting += reversed(lines)
        self.number -= len(lines)


def _quoted(lines: _Lines, line: str, separator: str, expected: int) -> list[str]:
    """Return the cells of a row with quotation marks, which may go on for some lines."""
    read = [line]
    while True:
        try:
            row = next(csv.reader(["".join(read)], delimiter=separator, strict=True, skipinitialspace=True))
            break
        except csv.Error as error:
            open_ended = "unexpected end" in str(error)
        goes_on = open_ended and len(read) < _LINES_OF_A_CELL and lines.stray_quotes < _STRAY_QUOTES
        following = next(lines, None) if goes_on else None
        if following is None:
            row = []
            break
        read.append(following)
    literal = line.split(separator)
    if row and (len(read) == 1 or not expected or len(row) >= expected):
        return row
    if separator == "\t" and len(literal) == (expected or len(literal)):
        lines.put_back(read[1:])
        lines.stray_quotes += 1
        return literal
    begins = lines.number - len(read) + 1
    raise InputError(
        f"{lines.path}, line {begins}: a quotation mark is not closed; close it, or double it within a cell"
    )


def parse_numbers(column: pd.Series, path: str | Path) -> Float64[np.ndarray, " rows"]:
    """Return a column of numbers.

    Raises:
        InputError: a cell is not a finite number; the message names line, column and cell.
    """
    values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    _refuse(column, ~np.isfinite(values), path, "a number")
    return values


def parse_whole_seconds(column: pd.Series, path: str | Path) -> list[int]:
    """Return a column of seconds as integers ("36", "36.0" and "000036" are 36).

    Raises:
        InputError: a cell is not a number; the message names line, column and cell.
    """
    return parse_numbers(column, path).astype(np.int64).tolist()


def parse_clock_times(column: pd.Series, path: str | Path) -> Float64[np.ndarray, " rows"]:
    """Return a column of times of day, "00:01:02.50", in seconds.

    Raises:
        InputError: a cell is not such a time; the message names line, column and cell.
    """
    parts = column.str.extract(f"^{_CLOCK.pattern}$")
    _refuse(column, parts["seconds"].isna().to_numpy(), path, "a time such as 00:01:02.50")
    hours, minutes, seconds = (parts[name].fillna("0").astype(np.float64) for name in parts.columns)
    return (hours * 3600 + minutes * 60 + seconds).to_numpy(np.float64)


def parse_id_lists(column: pd.Series, path: str | Path) -> tuple[np.ndarray, list[list[int]]]:
    """Return the distinct lists of ids of a column, and for each row the index of its list.

    A cell is a list such as "[3, 17]", a single id, or empty.

    Raises:
        InputError: a cell is none of these; the message names line, column and cell.
    """
    codes, distinct = pd.factorize(column)
    wrong = np.array([_ID_LIST.fullmatch(str(cell)) is None for cell in distinct], dtype=bool)
    _refuse(column, wrong[codes], path, "a list of ids such as [3, 17]")
    return codes, [[int(digits) for digits in re.findall(r"\d+", str(cell))] for cell in distinct]


def refuse_empty(column: pd.Series, path: str | Path) -> None:
    """Refuse empty cells.

    Raises:
        InputError: a cell is empty; the message names its line and column.
    """
    empty = np.flatnonzero(column == "")
    if len(empty):
        raise InputError(f"{path}, line {column.index[empty[0]]}: {column.name} is empty ({len(empty)} such lines)")


def _refuse(column: pd.Series, wrong: np.ndarray, path: str | Path, expected: str) -> None:
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"{path}, line {column.index[first]}: {column.name} is {str(column.iloc[first])[:100]!r}, not {expected} "
            f"({int(wrong.sum())} such lines)"
        )
