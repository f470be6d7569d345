"""Read a CSV of others as text columns, with errors that name the file, the column and the line."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

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
