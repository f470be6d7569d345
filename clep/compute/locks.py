"""Locks between processes, so that one at a time writes an output.

Own code instead of filelock, which has no shared locks with flock (its shared lock is an SQLite database), and whose
fallback for file systems without locks is a file that remains after a killed process.
"""

import errno
import fcntl
import functools
import logging
import os
import pwd
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import IO

from clep.errors import InputError
from clep.files import check_output, make_folder

logger = logging.getLogger(__name__)

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
_LONGEST_NAME = 240


class LockedError(InputError):
    """Another process holds a lock for longer than the caller waits."""


@contextmanager
def file_lock(output: str | Path, shared: bool = False, wait_s: float | None = None) -> Iterator[None]:
    """Hold the lock of `output` for the block; wait while another process holds it.

    The lock is on the empty file `.<output>.lock` beside the output. The operating system releases it when the process
    ends in any way. On a file system without locks, a file in this machine's folder for temporary files is used
    instead, which excludes only processes of this machine and user; this is logged as a warning.

    Args:
        output: the file or folder to make; it need not exist.
        shared: take a shared lock: other processes may hold a shared lock at the same time, but not an exclusive one.
        wait_s: maximum seconds to wait; None for no limit.

    Raises:
        LockedError: another process still holds the lock after `wait_s`.
        InputError: the folder cannot be made or written to, the lock cannot be opened, or `output` is a link, a device
            or a pipe.
    """
    output = Path(output)
    make_folder(output.parent)
    check_output(output)
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with ExitStack() as files:
        file = files.enter_context(_open(_lock_path(output)))
        try:
            _lock(file, kind, output, wait_s)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise InputError(f"cannot lock {file.name}: {error.strerror or error}") from error
            _lock(files.enter_context(_substitute(output)), kind, output, wait_s)
        yield


def _lock_path(output: Path) -> Path:
    name = output.name
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = blake2b(os.fsencode(name), digest_size=16).hexdigest()
    return output.with_name(f".{name}.lock")


def _open(path: Path) -> IO[bytes]:
    """Open a lock file, created if it does not exist; a readable file of another user is fine.

    Raises:
        InputError: it cannot be opened, or is not a regular file.
    """
    error: OSError | None = None
    # A file of another user may be read-only; in a shared folder such as /tmp Linux refuses O_CREAT for it.
    for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):
        opener = functools.partial(_open_nowait, flags=flags)
        try:
            file = open(path, "rb", opener=opener)  # noqa: SIM115 - the caller closes it
        except OSError as refused:
            error = error or refused
            continue
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file
        file.close()
        raise InputError(f"{path} must be an empty file, the lock of an output, and is something else; remove it")
    assert error is not None
    if path.is_symlink():
        raise InputError(f"{path} must be an empty file, the lock of an output, and is a link; remove it") from error
    if path.exists():
        raise InputError(
            f"cannot open the lock {path} of user {_owner(path)}: {error.strerror}; ask them to run `chmod a+r` on it, "
            f"remove it while no process writes that output, or choose another folder"
        ) from error
    raise InputError(
        f"cannot write to the folder {path.parent}: {error.strerror or error}; choose another one"
    ) from error


def _open_nowait(path: str, _: int, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)


def _owner(path: Path) -> str:
    with suppress(OSError, KeyError):
        uid = path.stat().st_uid
        with suppress(KeyError):
            return pwd.getpwuid(uid).pw_name
        return str(uid)
    return "unknown"


def _lock(file: IO[bytes], kind: int, output: Path, wait_s: float | None) -> None:
    deadline = None if wait_s is None else time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if deadline is None:
                logger.info("waiting for another process that is writing %s", output)
                fcntl.flock(file, kind)
                return
            if time.monotonic() >= deadline:
                raise LockedError(
                    f"{output} is locked: another process is writing it; wait until it has ended"
                ) from error
        time.sleep(0.05)


def _substitute(output: Path) -> IO[bytes]:
    logger.warning(
        "%s is on a file system without locks: it is locked on this machine only, so do not start a run that writes it "
        "on another machine",
        output,
    )
    name = blake2b(os.fsencode(output.absolute()), digest_size=8).hexdigest()
    return _open(Path(tempfile.gettempdir()) / f"clep-{os.getuid()}-{name}.lock")
