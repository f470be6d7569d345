"""Columns in an Arrow IPC file: memory-mapped, opened without reading them, each checked at its first use.

The file opens in every Arrow reader (`pandas.read_feather`, `polars.read_ipc`, `datasets`). What it stores beside the
columns is in the metadata of its schema: a JSON header (`clep`) with format, version and a checksum of each column,
further JSON texts, and a checksum of the header (`clep.checksum`).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from clep.checksums import check_digest, digest
from clep.errors import InputError
from clep.files import atomic_path

_HEADER, _CHECKSUM, _TEXT = b"clep", b"clep.checksum", "clep."
_ERRORS = (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError, RecursionError)


def write_columns(
    path: str | Path, columns: Mapping[str, pa.Array], header: Mapping[str, Any], texts: Mapping[str, str]
) -> None:
    """Write columns of one length as one record batch, whole or not at all.

    Args:
        path: of the file.
        columns: numbers, dictionaries of large strings, or large lists of numbers; without nulls.
        header: small values that are read when the file is opened, `format` and `version` among them.
        texts: larger JSON texts, each read at its first use.
    """
    checksums = {name: digest(*buffers(column)) for name, column in columns.items()}
    checksums |= {f"{_TEXT}{name}": digest(text) for name, text in texts.items()}
    encoded = json.dumps({**header, "checksums": checksums}, allow_nan=False)
    metadata: dict[str | bytes, str | bytes] = {_HEADER: encoded, _CHECKSUM: digest(encoded)}
    metadata |= {f"{_TEXT}{name}": text for name, text in texts.items()}
    schema = pa.schema(
        [pa.field(name, column.type, nullable=False) for name, column in columns.items()], metadata=metadata
    )
    batch = pa.record_batch(list(columns.values()), schema=schema)
    with (
        atomic_path(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, schema) as writer,
    ):
        writer.write_batch(batch)


class ColumnFile:
    """An open file of `write_columns`.

    Args:
        path: of the file.
        file_format, version: that its header must have.
        types: the columns that must be there.
        optional: columns that may be there.
        remedy: how to make the file again, for messages.

    Raises:
        InputError: the file is missing, cut off, damaged, of another format or version, or lacks a column.
    """

    def __init__(
        self,
        path: Path,
        file_format: str,
        version: int,
        types: Mapping[str, pa.DataType],
        optional: Mapping[str, pa.DataType],
        remedy: str,
    ) -> None:
        self.path, self._remedy = path, remedy
        if not path.is_file():
            raise InputError(f"{path} does not exist or is not a file. {remedy}")
        try:
            # Mapped now, not at the first use: the columns stay those of this file when another one replaces it.
            self._reader = pa.ipc.open_file(
                pa.memory_map(str(path)), options=pa.ipc.IpcReadOptions(use_threads=False, ensure_alignment=False)
            )
            self._metadata: dict[bytes, bytes] = dict(self._reader.schema.metadata or {})
            header = self._read_header(file_format, version)
            batches = self._reader.num_record_batches
            self._batch = self._reader.get_batch(0)
            self._batch.validate()
        except InputError:
            raise
        except _ERRORS as error:
            raise InputError(f"{path} cannot be read as Arrow IPC ({error}); it may be cut off. {remedy}") from error
        self._checksums: dict[str, str] = header.pop("checksums")
        self.header = header
        self._checked: dict[str, pa.Array] = {}
        self._names = set(self._batch.schema.names)
        if batches != 1 or len(self._names) != self._batch.num_columns:
            raise InputError(
                f"{path} has {batches} record batches or a column twice, but one of each is needed. {remedy}"
            )
        for name, expected in {**types, **optional}.items():
            if name not in self._names:
                if name in optional:
                    continue
                raise InputError(f"{path} has no column {name!r}. {remedy}")
            found = self._batch.schema.field(name).type
            if found != expected or name not in self._checksums:
                raise InputError(
                    f"{path}: column {name!r} is {found}, but {expected} with a checksum is needed. {remedy}"
                )

    def _read_header(self, file_format: str, version: int) -> dict[str, Any]:
        encoded = self._metadata.get(_HEADER, b"").decode()
        header = json.loads(encoded) if encoded else {}
        if not isinstance(header, dict) or (header.get("format"), header.get("version")) != (file_format, version):
            found = header if isinstance(header, dict) else {}
            raise InputError(
                f"{self.path} has format {found.get('format')!r} version {found.get('version')!r}, but {file_format!r} "
                f"version {version} is needed. {self._remedy}"
            )
        check_digest(
            self.path, "its header", self._metadata.get(_CHECKSUM, b"").decode(), digest(encoded), self._remedy
        )
        if not isinstance(header.get("checksums"), dict):
            raise InputError(f"{self.path} has no checksums in its header. {self._remedy}")
        return header

    def __len__(self) -> int:
        return self._batch.num_rows

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def column(self, name: str) -> pa.Array:
        """Return a column; its checksum is compared at the first call.

        Raises:
            InputError: the column is damaged: its checksum, offsets, indices or UTF-8 are wrong.
        """
        if name not in self._checked:
            try:
                column = self._batch.column(name)
                parts = buffers(column)
                check_digest(self.path, f"column {name!r}", self._checksums[name], digest(*parts), self._remedy)
                column.validate(full=True)
            except InputError:
                raise
            except _ERRORS as error:
                raise InputError(f"{self.path} is damaged: column {name!r}: {error}. {self._remedy}") from error
            self._checked[name] = column
        return self._checked[name]

    def numeric(self, name: str) -> np.ndarray:
        """Return a column of numbers as a read-only view of the file."""
        return buffers(self.column(name))[0]

    def text(self, name: str) -> Any:
        """Return what a JSON text of the metadata holds.

        Raises:
            InputError: it is missing or damaged.
        """
        key = f"{_TEXT}{name}"
        try:
            encoded = self._metadata[key.encode()].decode()
            check_digest(self.path, f"its list of {name}", self._checksums.get(key), digest(encoded), self._remedy)
            return json.loads(encoded)
        except InputError:
            raise
        except _ERRORS as error:
            raise InputError(f"{self.path} has no readable list of {name} ({error}). {self._remedy}") from error

    def wrong(self, name: str, problem: str) -> InputError:
        """Return the error for a column whose values are not what they must be."""
        return InputError(f"{self.path}: column {name!r} {problem}. {self._remedy}")


def buffers(array: pa.Array) -> list[np.ndarray]:
    """Return views of an array's buffers, each checked against the length that the array needs.

    Numbers have one; strings offsets and bytes; lists offsets and values; dictionaries the indices and what their
    values have.

    Raises:
        ValueError: a buffer is too short, offsets do not ascend from 0, or there are nulls.
    """
    if array.null_count:
        raise ValueError(f"{array.null_count} values are null")
    if isinstance(array, pa.DictionaryArray):
        return [*buffers(array.indices), *buffers(array.dictionary)]
    if isinstance(array, pa.LargeStringArray | pa.LargeListArray):
        offsets = _view(array.buffers()[1], np.dtype("<i8"), array.offset, len(array) + 1) if len(array) else _NONE
        if offsets[0] != 0 or (np.diff(offsets) < 0).any():
            raise ValueError("offsets do not ascend from 0")
        if isinstance(array, pa.LargeListArray):
            values = buffers(array.values)[0]
            if offsets[-1] != len(values):
                raise ValueError("offsets do not end where the values end")
            return [offsets, values]
        return [offsets, _view(array.buffers()[2], np.dtype("u1"), 0, int(offsets[-1]))]
    dtype = np.dtype(array.type.to_pandas_dtype()).newbyteorder("<")
    return [_view(array.buffers()[1], dtype, array.offset, len(array))]


_NONE = np.zeros(1, dtype=np.int64)


def _view(buffer: pa.Buffer | None, dtype: np.dtype, first: int, count: int) -> np.ndarray:
    if not count:
        return np.empty(0, dtype)
    end = (first + count) * dtype.itemsize
    if buffer is None or buffer.size < end:
        raise ValueError(f"{end} bytes are needed, but there are {0 if buffer is None else buffer.size}")
    return np.frombuffer(buffer, dtype, count, first * dtype.itemsize)


def string_array(offsets: np.ndarray, blob: np.ndarray) -> pa.LargeStringArray:
    """Make a column of strings, which are a blob of UTF-8 with `[n + 1]` offsets; shares their memory."""
    return pa.LargeStringArray.from_buffers(
        len(offsets) - 1,
        pa.py_buffer(np.ascontiguousarray(offsets, "<i8")),
        pa.py_buffer(np.ascontiguousarray(blob, np.uint8)),
    )


def string_dictionary(indices: np.ndarray, offsets: np.ndarray, blob: np.ndarray) -> pa.DictionaryArray:
    """Make a dictionary column: `[rows]` indices into the strings of `string_array`."""
    indices = pa.array(np.ascontiguousarray(indices, np.int32))
    return pa.DictionaryArray.from_arrays(indices, string_array(offsets, blob))
