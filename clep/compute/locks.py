"""Let one process at a time make an output."""

import errno
import fcntl
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import IO

from clep.errors import InputError

logger = logging.getLogger(__name__)

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


@contextmanager
def file_lock(output: str | Path, shared: bool = False) -> Iterator[None]:
    """Hold the lock of `output` for the block; wait while another process holds it.

    The lock is the empty file `.<output>.lock` beside it. The system frees it when the process ends, however it ends.
    Where the file system has no locks, one in this machine's folder for temporary files takes its place, which
    excludes processes of this machine and user alone; a warning says so.

    Args:
        output: what is to be made; it need not exist.
        shared: let others in that say the same, and nobody else.

    Raises:
        InputError: the folder cannot be made or written to.
    """
    output = Path(output)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        file = output.with_name(f".{output.name}.lock").open("a+")
    except OSError as error:
        raise InputError(f"cannot write to the folder {output.parent}: {error.strerror or error}") from error
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with ExitStack() as files:
        files.enter_context(file)
        try:
            _lock(file, kind, output)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise InputError(f"cannot lock {file.name}: {error.strerror or error}") from error
            _lock(files.enter_context(_substitute(output)), kind, output)
        yield


def _lock(file: IO[str], kind: int, output: Path) -> None:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        logger.info("another process is making %s; waiting for it", output)
        fcntl.flock(file, kind)


def _substitute(output: Path) -> IO[str]:
    logger.warning(
        "%s lies on a file system without locks: processes of this machine take turns all the same, but start no "
        "second run that makes it on another machine",
        output,
    )
    name = blake2b(os.fsencode(output.absolute()), digest_size=8).hexdigest()
    return (Path(tempfile.gettempdir()) / f"clep-{os.getuid()}-{name}.lock").open("a+")
