"""Reader of csv and tsv tables; errors name the file, the line and the column.

Own code instead of `pandas.read_csv`, because `read_csv` pads short rows, merges lines at a stray quotation mark, and
does not know the line number of a row.
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
_STRAY_QUOTES = 20  # after this many rows with an unclosed quotation mark, cells are assumed to have one line each
_COLUMNS_SHOWN = 20
_BLANK = " \t\r\n\ufeff"
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
# First bytes of files that are not UTF-8 text: what they are, and the remedy.
_OTHER_FORMATS: dict[bytes, str] = {
    b"\x1f\x8b": "it is compressed by gzip; unpack it with gunzip",
    b"PK\x03\x04": "it is a zip archive or an Excel file; unzip it, or save the sheet as CSV UTF-8",
    b"PAR1": "it is a parquet file; rename it to end in .parquet",
    b"\x89HDF": "it is an HDF5 file",
    b"\xff\xfe": "it is UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "it is UTF-16 text; save it as UTF-8",
    b"version https://git-lfs": "it is a pointer of Git LFS; fetch the file with `git lfs pull`",
    b"<!doctype": "it is a web page; download the file itself",
    b"<html": "it is a web page; download the file itself",
}
_ID_LIST = re.compile(r"\[\s*(?:\d{1,9}\s*(?:,\s*\d{1,9}\s*)*,?)?\s*\]|\d{1,9}|")
_CLOCK = re.compile(r"(?:(?P<hours>\d+):)?(?P<minutes>\d+):(?P<seconds>\d+(?:\.\d*)?)")

# Cells may exceed 128 kB (captions of web pages, lists of ids); the limit is global to the process.
csv.field_size_limit(sys.maxsize)


def read_table(
    path: str | Path,
    columns: Sequence[str],
    hint: str = "",
    separator: str = ",",
    optional: Sequence[str] = (),
    skipped: list[str] | None = None,
) -> pd.DataFrame:
    """Read columns of a table with a header, as stripped strings, indexed by line number.

    The names of all columns of the table are in `attrs["columns"]` of the result.

    A quoted cell may hold separators, line breaks and doubled quotation marks; in a tab-separated table an unclosed
    quotation mark is an ordinary character. Blank lines, byte order marks, Windows line ends, and empty cells beyond
    the header are ignored.

    Args:
        path: the table.
        columns: required columns.
        hint: remedy if a required column is missing.
        separator: separator of cells.
        optional: columns that are read if they exist.
        skipped: list that receives a message for each row with a wrong number of cells, which is dropped; None: such a
            row raises.

    Raises:
        InputError: the file is missing, not a regular file, not UTF-8, lacks a column, has no rows, or has a row with
            too few or too many cells or the character NUL.
    """
    return _read(Path(path), read_rows(path, separator), separator, columns, hint, optional, skipped)


def read_rows(path: str | Path, separator: str = ",") -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and the cells, not stripped, of each row of a table; blank lines are skipped.

    Raises:
        InputError: the file is missing, not a regular file, not UTF-8, or has an unclosed quotation mark or the
            character NUL.
    """
    path = Path(path)
    try:
        with open_input(path) as binary:
            if other := other_format(binary.read(64)):
                raise InputError(f"{path} is not a readable table of UTF-8 text: {other}")
            binary.seek(0)
            with TextIOWrapper(binary, encoding="utf-8-sig", newline="") as file:
                yield from _rows(path, file, separator)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not a readable table of UTF-8 text ({error}); save it as UTF-8, or fetch it again"
        ) from error
    except OSError as error:
        raise InputError(f"{path} is not a readable table of UTF-8 text ({error}); fetch it again") from error


def other_format(head: bytes) -> str:
    """Return what a file is and the remedy, by its first 64 bytes, if it is known not to be UTF-8 text; else ""."""
    start = head.lower() if head[:1] == b"<" else head
    known = next((what for signature, what in _OTHER_FORMATS.items() if start.startswith(signature)), "")
    if not known and len(head) > 8 and not any(head[1:8:2]) and all(head[:8:2]):
        return _OTHER_FORMATS[b"\xff\xfe"]
    return known


def read_lines(path: str | Path) -> list[str]:
    """Read the lines of a text file; a byte order mark is ignored.

    Raises:
        InputError: the file is missing, not a regular file, or not UTF-8.
    """
    try:
        with open_input(path) as file:
            return file.read().decode("utf-8-sig").splitlines()
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} is not a readable text file ({error}); fetch it again") from error


def split_cells(row: str, separator: str = ",", strict: bool = True) -> list[str]:
    """Split one row into cells, which may be quoted.

    Raises:
        csv.Error: `strict`, and a quotation mark is not closed.
    """
    return next(csv.reader([row], delimiter=separator, strict=strict, skipinitialspace=True))


def _read(
    path: Path,
    rows: Iterator[tuple[int, list[str]]],
    separator: str,
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
    _refuse_other_separator(path, names, separator, (*columns, *optional))
    missing = [name for name in columns if name not in names]
    if missing:
        shown = ", ".join(names[:_COLUMNS_SHOWN]) + (f", … ({len(names):,})" if len(names) > _COLUMNS_SHOWN else "")
        raise InputError(
            f"{path} lacks the column {', '.join(map(repr, missing))}; its columns are: {shown[:1000]}. {hint}".strip()
        )
    wanted = [*columns, *(name for name in optional if name in names)]
    repeated = [name for name in wanted if names.count(name) > 1]
    if repeated:
        raise InputError(f"{path} has the duplicate column {repeated[0]!r}; remove or rename one of them")
    if not wanted:
        nothing = pd.DataFrame()
        nothing.attrs["columns"] = names
        return nothing
    indices = [names.index(name) for name in wanted]
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
                cells.append([row[index].strip(_BLANK) for index in indices])
        table = pd.DataFrame(cells, index=pd.Index(lines, dtype=np.int64), columns=wanted, dtype=str)
        chunks.append(table[(table != "").any(axis=1)])
    if not sum(map(len, chunks)):
        raise InputError(f"{path} has a header but no rows")
    table = pd.concat(chunks)
    table.attrs["columns"] = names
    return table


def _refuse_other_separator(path: Path, names: Sequence[str], separator: str, known: Sequence[str]) -> None:
    """Refuse a table whose first line shows that its cells are separated by another character."""
    if names[0].startswith("sep="):
        raise InputError(f"{path} begins with Excel's line {names[0]!r}; delete it, or save the sheet as CSV UTF-8")
    if len(names) > 1 or names[0] in known:
        return
    for other, what in _SEPARATORS.items():
        if other in names[0] and any(name.strip(_BLANK + '"') in known for name in names[0].split(other)):
            rename = {"\t": ", or rename it to end in .tsv", ",": ", or rename it to end in .csv"}.get(other, "")
            raise InputError(
                f"{path} is separated by {what}, not by {_SEPARATORS[separator]}; save it with "
                f"{_SEPARATORS[separator]}{rename}"
            )


def _rows(path: Path, file: Iterator[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number at which each row begins, and its cells; blank lines are skipped."""
    lines = _Lines(path, file)
    expected = 0
    for line in lines:
        if not line.strip(_BLANK):
            continue
        begins = lines.number
        if not expected and '"' in line and separator not in line:
            for other in _SEPARATORS:
                if f'"{other}' in line:  # which the csv module takes for a mark that is not closed
                    header = [name.strip(_BLANK + '"') for name in line.split(other)]
                    _refuse_other_separator(path, [other.join(header)], separator, header)
        row = line.split(separator) if '"' not in line else _quoted(lines, line, separator, expected)
        expected = expected or len(row)
        yield begins, row


class _Lines(Iterator[str]):
    """Lines of a file with their number; lines can be put back."""

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
    """Return the cells of a row with quotation marks, which may span several lines."""
    read = [line]
    while True:
        try:
            row = split_cells("".join(read), separator)
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
    """Convert a column to float64.

    Raises:
        InputError: a cell is not a finite number; the message names line, column and cell.
    """
    values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    _refuse(column, ~np.isfinite(values), path, "a number")
    return values


def parse_whole_seconds(column: pd.Series, path: str | Path) -> list[int]:
    """Convert a column of seconds to integers ("36", "36.0" and "000036" are 36).

    Raises:
        InputError: a cell is not a number; the message names line, column and cell.
    """
    return parse_numbers(column, path).astype(np.int64).tolist()


def parse_clock_times(column: pd.Series, path: str | Path) -> Float64[np.ndarray, " rows"]:
    """Convert a column of times such as "00:01:02.50" to seconds.

    Raises:
        InputError: a cell is not such a time; the message names line, column and cell.
    """
    seconds = clock_seconds(column)
    _refuse(column, np.isnan(seconds), path, "a time such as 00:01:02.50")
    return seconds


def clock_seconds(column: pd.Series) -> Float64[np.ndarray, " rows"]:
    """Convert times such as "00:01:02.50" to seconds; NaN where a cell is none."""
    parts = column.str.extract(f"^{_CLOCK.pattern}$")
    hours, minutes, seconds = (parts[name].fillna("0").astype(np.float64) for name in parts.columns)
    return np.where(parts["seconds"].isna(), np.nan, hours * 3600 + minutes * 60 + seconds)


def parse_id_lists(column: pd.Series, path: str | Path) -> tuple[np.ndarray, list[list[int]]]:
    """Parse a column of lists of ids: "[3, 17]", a single id, or empty.

    Returns:
        For each row the index of its list, and the distinct lists.

    Raises:
        InputError: a cell is none of these; the message names line, column and cell.
    """
    codes, distinct = pd.factorize(column)
    wrong = np.array([_ID_LIST.fullmatch(str(cell)) is None for cell in distinct], dtype=bool)
    _refuse(column, wrong[codes], path, "a list of ids such as [3, 17]")
    return codes, [[int(digits) for digits in re.findall(r"\d+", str(cell))] for cell in distinct]


def refuse_empty(column: pd.Series, path: str | Path) -> None:
    """Check that a column has no empty cell.

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
