"""The file of a bank in an LMDB: its keys, and reading transactions that no fork and no pickle ever meets.

Values are raw little-endian arrays, never pickles. Rows lie in blocks of some 128 kB, since reading a value reads all
of it: a block is as much as a few seconds of a video. Whatever else the bank file says lies beside them; the key
`about`, written last, holds JSON: the format, the shape, and what the LMDB was made from.
"""

import importlib
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clep.errors import InputError

LMDB_SUFFIX = ".lmdb"
FORMAT, VERSION = "clep-bank-lmdb", 1
ABOUT, VIDEO_ID, FIRST_ROW, DURATION, ROW_SECOND = (
    b"about",
    b"video/id",
    b"video/first_row",
    b"video/duration",
    b"row/s",
)
BLOCK_BYTES = (1 << 17) - 16  # with LMDB's header of a value, whole pages

FileId = tuple[int, int, int]  # device, inode and size


def block_key(number: int) -> bytes:
    """Key of one block of rows; keys sort as their numbers."""
    return b"rows" + number.to_bytes(8, "big")


def lmdb_path(path: str | Path) -> Path:
    """Where the LMDB of a bank lies: `features.lmdb` beside `features.h5`, or beside the folder `features`."""
    path = Path(path)
    if path.suffix == LMDB_SUFFIX:
        return path
    return path.with_suffix(LMDB_SUFFIX) if path.suffix in (".h5", ".hdf5") else path.with_name(path.name + LMDB_SUFFIX)


def build_command(path: Path) -> str:
    """The command that builds the LMDB of a bank, or builds it again."""
    return f"python -m clep.preprocess bank_lmdb bank={path} overwrite=true"


def import_lmdb() -> Any:
    """The package `lmdb`.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module("lmdb")
    except ModuleNotFoundError as error:
        raise InputError("a bank in an LMDB needs the package lmdb: pip install 'clep[lmdb]'") from error


@dataclass
class _Environments:
    """What this process has open: an LMDB must not be open twice in a process, nor be used by the child of a fork."""

    lock: Any = field(default_factory=threading.RLock)
    opened: dict[FileId, Any] = field(default_factory=dict)
    users: dict[FileId, int] = field(default_factory=dict)

    def close(self) -> None:
        for environment in self.opened.values():
            environment.close()
        self.opened.clear()

    def release(self, identity: FileId) -> None:
        with self.lock:
            self.users[identity] -= 1
            if not self.users[identity]:
                del self.users[identity]
                if identity in self.opened:
                    self.opened.pop(identity).close()


_environments = _Environments()


def _before_fork() -> None:
    _environments.lock.acquire()
    _environments.close()


def _after_fork() -> None:
    _environments.lock.release()


def _in_child() -> None:
    _environments.lock = threading.RLock()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)


class LmdbFile:
    """One LMDB file, opened for reading, without a lock or read-ahead, once in a process and when first needed.

    Raises:
        InputError: it is missing, not an LMDB, or truncated.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.identity = self._identity()
        with _environments.lock:
            _environments.users[self.identity] = _environments.users.get(self.identity, 0) + 1
        weakref.finalize(self, _environments.release, self.identity)

    @contextmanager
    def reading(self) -> Iterator[Any]:
        """A transaction whose values are memoryviews, right until the block ends; one thread at a time.

        Raises:
            InputError: the file cannot be read, or is not the one it was when it was opened first.
        """
        lmdb = import_lmdb()
        with _environments.lock:
            try:
                with self._environment(lmdb).begin(buffers=True) as transaction:
                    yield transaction
            except lmdb.Error as error:
                raise InputError(f"{self.path} is damaged ({error})") from error

    def entries(self) -> int:
        """Keys in the file."""
        with _environments.lock:
            return self._environment(import_lmdb()).stat()["entries"]

    def _identity(self) -> FileId:
        try:
            found = self.path.stat()
        except OSError as error:
            raise InputError(f"{self.path} cannot be read: {error.strerror or error}") from error
        return found.st_dev, found.st_ino, found.st_size

    def _environment(self, lmdb: Any) -> Any:
        environment = _environments.opened.get(self.identity)
        if environment is not None:
            return environment
        if self._identity() != self.identity:
            raise InputError(f"{self.path} was written anew while it was in use: open the bank again")
        try:
            environment = lmdb.open(
                str(self.path), subdir=False, readonly=True, create=False, lock=False, readahead=False, max_dbs=0
            )
            size = bytes_used(environment)
        except (lmdb.Error, OSError) as error:
            raise InputError(f"{self.path} is not an LMDB file, or is damaged ({error})") from error
        if size > self.identity[2]:  # reading a mapped page beyond the end of its file would end the process
            environment.close()
            raise InputError(f"{self.path} is truncated")
        _environments.opened[self.identity] = environment
        return environment


def bytes_used(environment: Any) -> int:
    """Size that the file of an open environment has, or should have."""
    return (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
