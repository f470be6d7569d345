"""Checksums (XXH3) of what clep writes, so that a flipped bit or a lost page is an error and no wrong value.

They detect damage of disks, copies and downloads, not an attacker, who can write a matching one. XXH3 hashes 5–10 GB a
second on one core, so that checking costs less than reading.

How to use it, in a writer and in its reader:

```python
attributes["digest"] = digest(ids, first_row, seconds)        # small tables: one digest of them all
attributes["block_digests"] = block_digests(rows, block_rows)  # large arrays: one per block, each checked when read
...
check_digest(path, "its tables", attributes["digest"], digest(ids, first_row, seconds), "copy it again")
```

A file that was written before digests existed has none to compare: call `warn_unverified(path)` and read on.
"""

import json
import logging
import re
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import xxhash
from jaxtyping import Shaped, UInt64

from clep.errors import InputError
from clep.files import read_json, write_json

if TYPE_CHECKING:  # who has a tensor has loaded PyTorch; others need not wait for it
    from torch import Tensor
    from typing_extensions import TypeIs

Hashable: TypeAlias = "np.ndarray | Tensor | bytes | memoryview | str"

_FILE_BLOCK = 1 << 24

_log = logging.getLogger(__name__)
_warned: set[Path] = set()


class Digest:
    """A 128-bit digest of values, fed one after the other; type and shape of each count as well as its bytes."""

    def __init__(self) -> None:
        self._hash = xxhash.xxh3_128()

    def update(self, value: Hashable) -> "Digest":
        """Update the digest with an array or tensor (any device, strides and byte order), bytes, or a text."""
        if isinstance(value, str):
            header, content = "text", memoryview(value.encode("utf-8", "surrogatepass"))
        elif isinstance(value, np.ndarray):
            little = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<"))
            header, content = f"{little.dtype.str} {value.shape}", _array_bytes(little)
        elif _is_tensor(value):
            header, content = f"{value.dtype} {tuple(value.shape)}", _tensor_bytes(value)
        else:
            header, content = "bytes", memoryview(value)
        self._hash.update(f"{header} {content.nbytes}\n".encode())
        self._hash.update(content)
        return self

    def hexdigest(self) -> str:
        """The digest as 32 hex digits."""
        return self._hash.hexdigest()


def digest(*values: Hashable) -> str:
    """Digest of values in this order, as 32 hex digits; see `Digest.update` for what they may be."""
    whole = Digest()
    for value in values:
        whole.update(value)
    return whole.hexdigest()


def file_digest(path: str | Path) -> str:
    """Digest of the bytes of a file, as 32 hex digits.

    Raises:
        InputError: the file cannot be read.
    """
    whole = xxhash.xxh3_128()
    try:
        with Path(path).open("rb", buffering=0) as file:
            while block := file.read(_FILE_BLOCK):
                whole.update(block)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    return whole.hexdigest()


def block_digest(block: Shaped[np.ndarray, "..."] | bytes | memoryview) -> int:
    """64-bit digest of the bytes of one block; an array must be contiguous, and is little-endian in every file."""
    return xxhash.xxh3_64_intdigest(_array_bytes(block) if isinstance(block, np.ndarray) else block)


def block_digests(rows: Shaped[np.ndarray, "n ..."], block_rows: int) -> UInt64[np.ndarray, " blocks"]:
    """`block_digest` of each `block_rows` rows of a contiguous array; the last block may have fewer."""
    starts = range(0, len(rows), block_rows)
    return np.array([block_digest(rows[start : start + block_rows]) for start in starts], dtype=np.uint64)


def check_digest(path: str | Path, what: str, stored: object, found: object, remedy: str = "") -> None:
    """Compare the digest that a file stores with the digest of what was read from it.

    Args:
        path: the file, for the message.
        what: the part of it, for example "its tables" or "the rows of video 'x'".
        stored, found: both from `digest`, or both from `file_digest` or `block_digest`.
        remedy: what to do; "" for the usual: copy it again or run the job that wrote it.

    Raises:
        InputError: they differ.
    """
    if stored != found:
        remedy = remedy or "copy it again or run the job that wrote it"
        raise InputError(f"{path} is damaged: {what} does not match the stored checksum; {remedy}")


def write_checked_json(path: str | Path, content: dict[str, Any]) -> None:
    """Write a JSON object as `clep.files.write_json` does, with a `checksum` of its other members as the last one."""
    with_lists = json.loads(json.dumps(content))  # as it will be read: tuples are lists, keys are strings
    write_json(path, with_lists | {"checksum": _json_digest(with_lists)})


def read_checked_json(path: str | Path, remedy: str = "") -> dict[str, Any]:
    """Read what `write_checked_json` wrote, without its checksum; a file without one opens with a warning.

    Args:
        path: the file.
        remedy: what to do where it is damaged; "" for the usual: copy it again or run the job that wrote it.

    Raises:
        InputError: the file is missing, not strict JSON, not an object, or its checksum does not match.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a JSON object; {remedy or 'run the job that wrote it again'}")
    stored = content.pop("checksum", None)
    remedy = remedy or "copy it again or run the job that wrote it"
    if stored is None:
        key, last = next(reversed(content.items()), ("", None))
        if isinstance(last, str) and re.fullmatch("[0-9a-f]{32}", last):  # a checksum under a damaged name
            raise InputError(f"{path} is damaged: it has the key {key!r} instead of 'checksum'; {remedy}")
        warn_unverified(path)
        return content
    remedy += "; if you edited it on purpose, remove the line 'checksum'"
    check_digest(path, "its content", stored, _json_digest(content), remedy)
    return content


def _json_digest(content: dict[str, Any]) -> str:
    return digest(json.dumps(content, sort_keys=True))


def warn_unverified(path: str | Path, remedy: str = "write it again to add them") -> None:
    """Warn, once for each file and process, that a file of an older clep has no checksums and is read as it is."""
    absolute = Path(path).absolute()
    if absolute not in _warned:
        _warned.add(absolute)
        _log.warning("%s has no checksums (an older clep wrote it) and cannot be verified: %s", path, remedy)


def _array_bytes(array: np.ndarray) -> memoryview:
    if array.dtype.hasobject:
        raise TypeError("arrays of Python objects have no bytes to digest")
    return memoryview(array.reshape(-1).view(np.uint8).data) if array.size else memoryview(b"")


def _is_tensor(value: Hashable) -> "TypeIs[Tensor]":
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _tensor_bytes(tensor: "Tensor") -> memoryview:
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy().data) if flat.numel() else memoryview(b"")


def verify_zip(archive: zipfile.ZipFile) -> None:
    """Compare the records of a zip with their CRC-32, if it has checksums: `torch.save` can leave them out.

    Raises:
        zipfile.BadZipFile: a record differs.
    """
    records = archive.infolist()
    for record in records if any(record.CRC for record in records) else ():
        with archive.open(record) as content:
            while content.read(_FILE_BLOCK):
                pass
