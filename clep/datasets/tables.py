"""Read a CSV of others as text columns, with errors that name the file, the column and the line."""

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float64

from clep.errors import InputError


def read_csv(path: str | Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a CSV with a header; every cell is a string, stripped, and empty where nothing is written.

    Raises:
        InputError: the file is missing, is not CSV, has no rows, or lacks one of `columns`.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True, encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; check the path, or pass another (csv=PATH)") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} is not a readable CSV file ({error}); fetch it again") from error
    table.columns = [str(name).strip() for name in table.columns]
    missing = [name for name in columns if name not in table.columns]
    if missing:
        wanted = ", ".join(repr(name) for name in missing)
        raise InputError(f"{path} lacks the column {wanted}; its columns are: {', '.join(map(str, table.columns))}")
    if table.empty:
        raise InputError(f"{path} has a header but no rows")
    return table.apply(lambda column: column.str.strip())


def whole_seconds(table: pd.DataFrame, column: str, path: str | Path) -> list[int]:
    """Return a column of seconds as integers ("36", "36.0" and "000036" are 36).

    Raises:
        InputError: a cell is not a number; the message names the file, the line and the cell.
    """
    seconds = []
    for row, cell in enumerate(table[column]):
        try:
            seconds.append(int(float(cell)))
        except (ValueError, OverflowError) as error:
            raise InputError(
                f"{path}, row {row + 1} after the header: {column} is {cell!r}, not a number of seconds"
            ) from error
    return seconds


_LIST = re.compile(r"\[\s*(?:\d+\s*(?:,\s*\d+\s*)*,?)?\s*\]|\d+|")
_CLOCK = re.compile(r"(?:(?P<hours>\d+):)?(?P<minutes>\d+):(?P<seconds>\d+(?:\.\d*)?)")


def read_rows(
    path: str | Path,
    columns: Sequence[str],
    hint: str,
    separator: str = ",",
    quoted: bool = True,
    option: str = "csv",
) -> pd.DataFrame:
    """Read a table with a header: strings without blanks around them, indexed by their line in the file.

    Empty lines are left out.

    Args:
        path: of the table.
        columns: that must be there.
        hint: what to do where one is not.
        separator: between cells.
        quoted: whether quotation marks enclose cells; else they are letters like others.
        option: of the job that names the file, for messages.

    Raises:
        InputError: the file is missing, is no such table, lacks a column, has no rows, or has a row with too few or too
            many cells.
    """
    try:
        _check_cells(path, separator, quoted)
        table = pd.read_csv(
            path,
            sep=separator,
            quoting=0 if quoted else 3,
            index_col=False,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
            skip_blank_lines=False,
        )
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; check the path, or pass another ({option}=PATH)") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, csv.Error, OSError) as error:
        raise InputError(f"{path} is not a readable table ({error}); fetch it again") from error
    table.columns = [str(name).strip() for name in table.columns]
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise InputError(
            f"{path} lacks the column {', '.join(map(repr, missing))}; its columns are: {', '.join(table.columns)}. "
            f"{hint}"
        )
    table.index = pd.RangeIndex(2, len(table) + 2)
    table = table[list(columns)]
    table = table[(table != "").any(axis=1)]
    if table.empty:
        raise InputError(f"{path} has a header but no rows")
    return table.apply(lambda column: column.str.strip())


def _check_cells(path: str | Path, separator: str, quoted: bool) -> None:
    """Refuse a row with too few cells, which pandas would fill up: the file may have been cut off."""
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        rows: Iterator[tuple[int, int]]
        if quoted:
            reader = csv.reader(file, delimiter=separator)
            rows = ((reader.line_num, len(row)) for row in reader)
        else:
            rows = ((line, text.count(separator) + 1 if text.strip() else 0) for line, text in enumerate(file, 1))
        expected = 0
        for line, cells in rows:
            expected = expected or cells
            if cells not in (0, expected):
                raise InputError(
                    f"{path}, line {line} has {cells} cells, but the header has {expected}; fetch it again"
                )


def numbers(column: pd.Series, path: str | Path) -> Float64[np.ndarray, " rows"]:
    """Return a column of numbers.

    Raises:
        InputError: a cell is not a finite number; the message names the line and the cell.
    """
    values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    _refuse(column, ~np.isfinite(values), path, "a number")
    return values


def clock_times(column: pd.Series, path: str | Path) -> Float64[np.ndarray, " rows"]:
    """Return a column of times of day, "00:01:02.50", in seconds.

    Raises:
        InputError: a cell is not such a time; the message names the line and the cell.
    """
    parts = column.str.extract(f"^{_CLOCK.pattern}$")
    _refuse(column, parts["seconds"].isna().to_numpy(), path, "a time such as 00:01:02.50")
    hours, minutes, seconds = (parts[name].fillna("0").astype(np.float64) for name in parts.columns)
    return (hours * 3600 + minutes * 60 + seconds).to_numpy(np.float64)


def number_sets(column: pd.Series, path: str | Path) -> tuple[np.ndarray, list[list[int]]]:
    """Return, for a column of lists like "[3, 17]" (or single numbers, or nothing), its distinct lists and which is
    where.

    Raises:
        InputError: a cell is none of these; the message names the line and the cell.
    """
    codes, distinct = pd.factorize(column)
    wrong = np.array([_LIST.fullmatch(str(cell)) is None for cell in distinct], dtype=bool)
    _refuse(column, wrong[codes], path, "a list of numbers such as [3, 17]")
    return codes, [[int(number) for number in re.findall(r"\d+", str(cell))] for cell in distinct]


def _refuse(column: pd.Series, wrong: np.ndarray, path: str | Path, expected: str) -> None:
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"{path}, line {column.index[first]}: {column.name} is {column.iloc[first]!r}, not {expected} "
            f"({int(wrong.sum())} such lines)"
        )
