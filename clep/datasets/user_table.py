"""Reader of users' own tables: csv, tsv, parquet or jsonl; named columns as encoded strings or as seconds."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Float64, Int32, Int64

from clep.config.check import did_you_mean
from clep.errors import InputError
from clep.files import check_input, open_input, unique_keys
from clep.remote import suffix as suffix_of
from clep.tables import clock_seconds, other_format, read_table

SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson")
_COLUMNS_SHOWN = 20


@dataclass(frozen=True, eq=False)
class EncodedStrings:
    """A column of strings: the distinct values, and which of them each row has. A null is ""."""

    index: Int32[np.ndarray, " rows"]
    values: pa.LargeStringArray

    def to_list(self) -> list[str]:
        """Return the value of each row."""
        values = self.values.to_pylist()
        return [values[i] for i in self.index.tolist()]


def column_settings(key: str, **names: str) -> str:
    """Return the settings that read columns under other names, in a training and, where it differs, in a job."""
    words, in_job = (
        " ".join(f"{one}.{name}={other}" for name, other in names.items()) for one in (key, key.removeprefix("data."))
    )
    return words if words == in_job else f"{words} (in a preprocessing job {in_job})"


@dataclass(frozen=True)
class UserTable:
    """The named columns of a table.

    Attributes:
        path: of the table, for messages.
        lines: line of each row in the file; in a parquet file the number of the row, from 1.
        found: names of all columns of the file.
        names: name in the file of each column that may be read.
        columns: those of `names` that the file has, one value a row.
        key: setting that gives a column another name, for messages: "data.columns".
    """

    path: Path
    lines: Int64[np.ndarray, " rows"]
    found: Sequence[str]
    names: Mapping[str, str]
    columns: Mapping[str, pa.Array]
    key: str

    def __len__(self) -> int:
        return len(self.lines)

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def require(self, *names: str) -> None:
        """Check that the table has columns.

        Raises:
            InputError: names the first that it lacks, its columns, and the setting for another name.
        """
        for name in names:
            if name not in self.columns:
                raise InputError(f"{self.path} lacks the column {self.names[name]!r}; {self.hint(name)}")

    def hint(self, name: str) -> str:
        """Return the columns of the file, and the setting with which `name` is read from another one."""
        more = ", …" if len(self.found) > _COLUMNS_SHOWN else ""
        return (
            f"its columns are {', '.join(self.found[:_COLUMNS_SHOWN])}{more}; if it has another name, give it: "
            f"{column_settings(self.key, **{name: 'NAME'})}"
        )

    def error(self, row: int, problem: str) -> InputError:
        """Return the error for a row, which names its line."""
        return InputError(f"{self.path}, line {self.lines[row]}: {problem}")

    def strings(self, name: str) -> EncodedStrings:
        """Return a column as strings; whole numbers are written without a fraction, lists with `|`.

        Raises:
            InputError: the column has another type.
        """
        column = self.columns[name]
        if pa.types.is_dictionary(column.type):
            encoded = column
        else:
            try:
                encoded = pc.dictionary_encode(_as_strings(column))
            except (pa.ArrowException, ValueError) as error:
                raise InputError(
                    f"{self.path}: the column {self.names[name]!r} has the type {column.type}, which is not text; "
                    f"write it as text"
                ) from error
        index = encoded.indices.fill_null(-1).cast(pa.int32()).to_numpy(zero_copy_only=False)
        return _compact(index, encoded.dictionary.cast(pa.large_string()))

    def filled(self, name: str) -> EncodedStrings:
        """Return a column as strings, each with a text.

        Raises:
            InputError: a cell is empty; names the line.
        """
        strings = self.strings(name)
        empty = is_blank(strings.values)[strings.index]
        if empty.any():
            raise self.error(int(empty.argmax()), f"{self.names[name]} is empty ({int(empty.sum()):,} such rows)")
        return strings

    def sentences(self, name: str) -> EncodedStrings:
        """Return a column of sentences as strings; cells may be empty.

        Raises:
            InputError: every cell is a number, so that this is another column.
        """
        strings = self.strings(name)
        if are_numbers(strings.values):
            raise InputError(
                f"{self.path}: the column {self.names[name]!r} should hold sentences, but all of its cells are numbers "
                f"({strings.values[0].as_py()!r}, …); {self.hint(name)}"
            )
        return strings

    def seconds(self, name: str, negative: bool = False) -> Float64[np.ndarray, " rows"]:
        """Return a column of seconds, given as numbers or as `hh:mm:ss.ms`.

        Args:
            name: of the column.
            negative: whether seconds below 0 are returned too, instead of refused.

        Raises:
            InputError: a cell is not a time; names the line.
        """
        values = self._numbers(name, clock=True)
        wrong = ~np.isfinite(values) | ((values < 0) & (not negative))
        if wrong.any():
            row = int(wrong.argmax())
            cell = self.columns[name][row].as_py()
            raise self.error(
                row,
                f"{self.names[name]} is {str('' if cell is None else cell)[:100]!r}, not seconds such as 12.5 or "
                f"00:01:02.50 ({int(wrong.sum()):,} such rows)",
            )
        return values

    def numbers(self, name: str) -> Float64[np.ndarray, " rows"]:
        """Return a column of numbers from 0 on.

        Raises:
            InputError: a cell is not such a number; names the line.
        """
        values = self._numbers(name)
        wrong = ~np.isfinite(values) | (values < 0)
        if wrong.any():
            row = int(wrong.argmax())
            cell = self.columns[name][row].as_py()
            raise self.error(row, f"{self.names[name]} is {cell!r}, not a number from 0 on")
        return values

    def _numbers(self, name: str, clock: bool = False) -> Float64[np.ndarray, " rows"]:
        """Return a column as float64, NaN where a cell is not a number or, with `clock`, a time."""
        column = self.columns[name]
        kind = column.type
        if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        if pa.types.is_duration(kind):
            nanoseconds = column.cast(pa.duration("ns")).cast(pa.int64())
            return nanoseconds.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False) / 1e9
        strings = self.strings(name)
        cells = pd.Series(strings.values.to_pylist(), dtype=str)
        values = pd.to_numeric(cells, errors="coerce").to_numpy(np.float64).copy()
        if clock:
            values = np.where(np.isnan(values), clock_seconds(cells), values)
        return values[strings.index]


def read_user_table(
    path: str | Path, names: Sequence[str], columns: Mapping[str, str | None] | None = None, key: str = "columns"
) -> UserTable:
    """Read the named columns of a csv, tsv, parquet or jsonl file, those that it has.

    Args:
        path: its suffix is the format.
        names: columns to read.
        columns: names in the file where they differ, `{"text": "caption"}`.
        key: setting that `columns` comes from, for messages.

    Raises:
        InputError: the file cannot be read or has no rows, or `columns` has a key that is not among `names`.
    """
    path = Path(path)
    columns = columns or {}
    for name in columns:
        if name not in names:
            raise InputError(f"{key}.{name}: there is no such column. {did_you_mean(name, names)}")
    wanted = {name: str(columns.get(name) or name) for name in names}
    suffix = suffix_of(path)
    if suffix not in SUFFIXES:
        remedy = {".gz": "; unpack it with gunzip", ".xlsx": "; save the sheet as CSV UTF-8"}.get(suffix, "")
        raise InputError(f"{path} cannot be read as a table; its name should end in {', '.join(SUFFIXES)}{remedy}")
    if suffix == ".parquet":
        lines, found, values = _read_parquet(path, wanted)
    elif suffix in (".jsonl", ".ndjson"):
        lines, found, values = _read_jsonl(path, wanted)
    else:
        frame = read_table(path, (), "", "\t" if suffix == ".tsv" else ",", tuple(dict.fromkeys(wanted.values())))
        lines, found = frame.index.to_numpy(np.int64), frame.attrs["columns"]
        values = {name: pa.array(frame[name].tolist(), pa.large_string()) for name in frame.columns}
    return UserTable(
        path, lines, found, wanted, {name: values[one] for name, one in wanted.items() if one in values}, key
    )


_Read = tuple[Int64[np.ndarray, " rows"], list[str], dict[str, pa.Array]]


def _read_parquet(path: Path, wanted: Mapping[str, str]) -> _Read:
    """Read a parquet file; strings stay encoded by its dictionaries, which costs little memory where they repeat."""
    local = check_input(path)
    try:
        schema = pq.read_schema(local)
        chosen = sorted({column for column in wanted.values() if column in schema.names})
        encoded = [one for one in chosen if _is_string(schema.field(one).type)]
        table = pq.read_table(local, columns=chosen, read_dictionary=encoded).unify_dictionaries()
    except (pa.ArrowException, OSError) as error:
        with open_input(path) as file:
            other = other_format(file.read(64))
        problem = f": {other}" if other and "parquet" not in other else f" ({error}); write it again"
        raise InputError(f"{path} is not a readable parquet file{problem}") from error
    if not len(table) and chosen:
        raise InputError(f"{path} has no rows")
    values = {}
    for name in chosen:
        column = table.column(name)
        values[name] = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return np.arange(1, len(table) + 1), list(schema.names), values


def _read_jsonl(path: Path, wanted: Mapping[str, str]) -> _Read:
    cells: dict[str, list[Any]] = {column: [] for column in wanted.values()}
    lines, found = [], dict[str, None]()
    with open_input(path) as file:
        if other := other_format(file.read(64)):
            raise InputError(f"{path} is not a readable table of JSON lines: {other}")
        file.seek(0)
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            if line.lstrip(b"\xef\xbb\xbf \t").startswith(b"["):
                raise InputError(f"{path}, line {number} is not a JSON object but an array; write one object a line")
            try:
                row = json.loads(line.decode("utf-8-sig"), object_pairs_hook=unique_keys)
            except ValueError as error:
                raise InputError(f"{path}, line {number} is not valid JSON ({error}); correct the line") from error
            if not isinstance(row, dict):
                raise InputError(f"{path}, line {number} is not a JSON object; write one object a line")
            lines.append(number)
            found.update(dict.fromkeys(row))
            for column, values in cells.items():
                try:
                    values.append(_cell(row.get(column)))
                except ValueError as error:
                    raise InputError(f"{path}, line {number}: {column} is {error}, not text or a number") from error
    if not lines:
        raise InputError(f"{path} has no rows")
    columns = {column: pa.array(values, pa.large_string()) for column, values in cells.items() if column in found}
    return np.array(lines, np.int64), list(found), columns


def _cell(value: Any) -> str:
    """Return a value of JSON as the text of a cell; of an object: raise ValueError."""
    if value is None:
        return ""
    if isinstance(value, list):
        return "|".join(map(_cell, value))
    if isinstance(value, dict):
        raise ValueError(str(value)[:100])
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).encode("utf-8", "replace").decode()  # a lone surrogate becomes "?"


def _is_string(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _as_strings(column: pa.Array) -> pa.Array:
    """Return a column of text, numbers, truth values or lists as large strings, nulls as ""."""
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.array([_cell(value) for value in column.to_pylist()], pa.large_string())
    if pa.types.is_floating(kind) and bool(pc.all(pc.equal(pc.floor(column), column)).as_py()):
        column = column.cast(pa.int64())
    if not (_is_string(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        column = column.cast(pa.string())
    return column.cast(pa.large_string()).fill_null("")


def _compact(index: np.ndarray, values: pa.LargeStringArray) -> EncodedStrings:
    """Return strings whose values are distinct and all used; index -1 becomes ""."""
    values = values.fill_null("")
    if (index < 0).any():
        index = np.where(index < 0, len(values), index).astype(np.int32)
        values = pa.concat_arrays([values, pa.array([""], pa.large_string())])
    distinct = pc.dictionary_encode(values)
    if len(distinct.dictionary) < len(values):
        index, values = distinct.indices.to_numpy()[index].astype(np.int32), distinct.dictionary
    used = np.zeros(len(values), bool)
    used[index] = True
    if not used.all():
        index = (np.cumsum(used, dtype=np.int32) - 1)[index]
        values = values.filter(pa.array(used))
    return EncodedStrings(index, values)


def is_blank(values: pa.LargeStringArray) -> np.ndarray:
    """Mask of the strings that are empty or white space."""
    return pc.equal(pc.utf8_trim_whitespace(values), "").to_numpy(zero_copy_only=False)


def are_numbers(values: pa.LargeStringArray) -> bool:
    """Whether there are strings that are not blank, and all of these are numbers."""
    filled = values.filter(pa.array(~is_blank(values)))
    return bool(len(filled)) and bool(pc.all(pc.match_substring_regex(filled, _NUMBER)).as_py())


_NUMBER = r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"
