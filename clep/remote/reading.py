"""A remote file read in place, with range requests."""

import errno
import io
import logging
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from clep.errors import InputError
from clep.remote.address import shown, url_of
from clep.remote.cache import local_path
from clep.remote.store import PAUSES_S, NoRangesError, UnreachableError, explain, filesystem_of, read_range, stat

logger = logging.getLogger(__name__)

_BLOCK_BYTES = 4 << 20
_BLOCKS = 16


class RemoteFile(io.RawIOBase):
    """A remote file for reading in place, by range requests of blocks, the last of which are kept.

    A request that fails is tried again. A server without range requests makes it a local copy in the cache.

    Args:
        path: the URL.

    Attributes:
        url: its URL.
        size: bytes.
        failure: the error after which reading was given up; decoders may hide what is raised.

    Raises:
        InputError: as `stat`. Reading raises UnreachableError where the server does not answer or the file changed.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.url = url_of(path)
        self.failure: InputError | None = None
        self._at = 0
        self._content: Any = None
        self._info = stat(self.url, fresh=False)
        if self._info.is_folder:
            raise InputError(f"{shown(self.url)} is a folder; give a file")
        if self._info.size is None:
            self._content = self._copy()
        self.size: int = self._content.seek(0, os.SEEK_END) if self._info.size is None else self._info.size

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position, without a request."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        if start + offset < 0:
            raise OSError(errno.EINVAL, "the position is before the start of the file")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read up to `len(buffer)` bytes; returns their count, 0 at the end."""
        count = min(len(buffer), self.size - self._at)
        if count <= 0:
            return 0
        block = self._read(count)
        buffer[: len(block)] = block
        self._at += len(block)
        return len(block)

    def close(self) -> None:
        """Close the file; closing again has no effect."""
        if not self.closed:
            self._forget()
        super().close()

    def _read(self, count: int) -> bytes:
        for pause in (*PAUSES_S, None):
            try:
                if self._content is None:
                    filesystem, inside = filesystem_of(self.url)
                    options = {"cache_type": "blockcache", "cache_options": {"maxblocks": _BLOCKS}}
                    self._content = filesystem.open(inside, "rb", block_size=_BLOCK_BYTES, **options)
                return read_range(self._content, self._at, count)
            except NoRangesError:
                self._forget()
                self._content = self._copy()
                return read_range(self._content, self._at, count)
            except Exception as error:
                self._forget()
                if type(error).__name__ == "FileExpired":
                    self.failure = UnreachableError(f"{shown(self.url)} changed while it was read; run again")
                    raise self.failure from error
                explained = explain(self.url, error)
                if pause is None or not isinstance(explained, UnreachableError):
                    self.failure = explained
                    raise explained from error
                time.sleep(pause)
        raise AssertionError

    def _copy(self) -> io.BufferedReader:
        logger.info("%s: the server has no range requests, so the file is fetched whole", shown(self.url))
        try:
            return local_path(self.url).open("rb")
        except InputError as error:
            self.failure = error
            raise

    def _forget(self) -> None:
        if self._content is not None:
            with suppress(Exception):
                self._content.close()
        self._content = None
