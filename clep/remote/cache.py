"""Remote files fetched whole into a cache: each version once, going on where an interrupted download ended."""

import errno
import io
import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from clep.errors import InputError
from clep.remote.address import check_protocol, file_name, is_remote, short_digest, shown, suffix, url_of
from clep.remote.store import (
    PAUSES_S,
    NoRangesError,
    NotFoundError,
    RemoteInfo,
    UnreachableError,
    explain,
    filesystem_of,
    list_files,
    read_range,
    stat,
)

logger = logging.getLogger(__name__)

_CHUNK_BYTES = 8 << 20
_THREADS = 8
_RESTARTS = 3
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
_FETCHED: set[Path] = set()


def user_cache() -> Path:
    """Return the folder of what can be made again: `$CLEP_CACHE`, or `clep` in `$XDG_CACHE_HOME` (`~/.cache`)."""
    own, home = os.environ.get("CLEP_CACHE"), os.environ.get("XDG_CACHE_HOME")
    return Path(own).expanduser().absolute() if own else Path(home or Path.home() / ".cache").absolute() / "clep"


def cache_folder() -> Path:
    """Return the folder of fetched files."""
    return user_cache() / "remote"


def exists(path: str | Path) -> bool:
    """Whether a local or remote file or folder exists.

    Raises:
        InputError: the protocol is unknown, or the store refuses to answer.
    """
    if not is_remote(path):
        check_protocol(path)
        return Path(path).exists()
    try:
        stat(path)
    except UnreachableError:
        if _kept(url_of(path)) is None:
            raise
    except NotFoundError:
        return False
    return True


def local_path(path: str | Path, suffixes: Sequence[str] = ()) -> Path:
    """Return the local path of a file: a remote one is fetched into the cache, unless it is there in this version.

    Args:
        path: a local path, which is returned unchanged, or a URL.
        suffixes: a remote folder is accepted too; its files with these suffixes are fetched.

    Raises:
        InputError: the protocol is unknown, the file does not exist, is refused, or cannot be fetched, or the disk is
            full.
    """
    if not is_remote(path):
        return check_protocol(path)
    url = url_of(path)
    try:
        info = stat(url)
    except UnreachableError as error:
        kept = _kept(url)
        if kept is None:
            raise
        logger.warning("%s; the copy of an earlier run is used: %s", error, kept)
        return kept
    if info.is_folder or (suffixes and suffix(url) not in suffixes):
        if not suffixes:
            raise InputError(f"{shown(url)} is a folder; give a file")
        return _fetch_folder(url, suffixes)
    return _fetch(info)


def _fetch(info: RemoteInfo) -> Path:
    for _ in range(_RESTARTS):
        target = _cache_of(info.url) / short_digest(info.version + str(info.size)) / file_name(info.url)
        if _is_complete(target, info):
            return target
        with _disk_errors(target), _lock(target):
            if _is_complete(target, info):
                return target
            if _download(info, target):
                return target
        info = stat(info.url)
    raise UnreachableError(f"{shown(info.url)} changes while it is fetched; try again when nobody writes it")


def _is_complete(target: Path, info: RemoteInfo) -> bool:
    """Whether a fetched file is there; without a version, only what this process fetched counts."""
    if not target.is_file() or (info.size is not None and target.stat().st_size != info.size):
        return False
    return bool(info.version) or target in _FETCHED


def _download(info: RemoteInfo, target: Path) -> bool:
    """Fetch a file under a temporary name, going on where an earlier attempt ended; False if it changed meanwhile.

    The temporary name lies in the folder of the file's version, so it never holds parts of two versions.
    """
    part = target.with_name(f".{target.name}.part")
    logger.info("fetching %s (%s)", shown(info.url), "?" if info.size is None else f"{info.size / 1e6:,.1f} MB")
    for pause in (*PAUSES_S, None):
        try:
            with part.open("r+b" if part.exists() else "w+b") as out:
                _receive(info, out)
                out.flush()
                os.fsync(out.fileno())
            break
        except Exception as error:
            if type(error).__name__ == "FileExpired":  # s3fs: another ETag than at opening
                part.unlink(missing_ok=True)
                return False
            if isinstance(error, OSError) and error.errno in _DISK:
                raise
            explained = explain(info.url, error)
            if pause is None or not isinstance(explained, UnreachableError):
                raise explained from error
            logger.warning("%s; trying again in %s s", explained, pause)
            time.sleep(pause)
    if stat(info.url).version != info.version:
        part.unlink(missing_ok=True)
        return False
    part.replace(target)
    _sync_folder(target.parent)
    _FETCHED.add(target)
    return True


def _receive(info: RemoteInfo, out: io.BufferedRandom) -> None:
    """Append the missing bytes of a file, by ranges where the server has them; else all of them from the start.

    Raises:
        ConnectionError: the server broke off.
    """
    filesystem, inside = filesystem_of(info.url)
    done = out.seek(0, os.SEEK_END)
    if not info.version or info.size is None or done > info.size:
        done = out.truncate(0)
    try:
        if info.size is None:
            raise NoRangesError
        with filesystem.open(inside, "rb", block_size=_CHUNK_BYTES, cache_type="none") as content:
            out.seek(done)
            while done < info.size:
                block = read_range(content, done, min(_CHUNK_BYTES, info.size - done))
                out.write(block)
                out.flush()
                os.fsync(out.fileno())  # what a later run goes on from
                done += len(block)
    except NoRangesError:
        out.seek(0)
        out.truncate(0)
        filesystem.get_file(inside, out)
        done = out.tell()
    if info.size is not None and done != info.size:
        raise ConnectionError(f"it ended after {done:,} of {info.size:,} bytes")


def _fetch_folder(url: str, suffixes: Sequence[str]) -> Path:
    """Fetch the files of a remote folder, and return a local folder of links to them; another one if a file changes."""
    files = list_files(url, suffixes)
    with ThreadPoolExecutor(_THREADS) as threads:
        paths = list(threads.map(local_path, files.values()))
    contents = "\n".join(f"{name} {path}" for name, path in zip(files, paths, strict=True))
    folder = _cache_of(url) / short_digest(contents) / file_name(url)
    if folder.is_dir():
        return folder
    with _disk_errors(folder):
        temporary = folder.with_name(f".{uuid.uuid4().hex}")
        for name, path in zip(files, paths, strict=True):
            link = temporary / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
        try:
            temporary.rename(folder)
        except OSError:  # another process was faster
            shutil.rmtree(temporary, ignore_errors=True)
            if not folder.is_dir():
                raise
    return folder


def _cache_of(url: str) -> Path:
    return cache_folder() / short_digest(url)


def _kept(url: str) -> Path | None:
    """Return the newest complete copy of a remote file, of any version."""
    kept = [path for path in _cache_of(url).glob("*/*") if not path.name.startswith(".")]
    return max(kept, key=lambda path: path.stat().st_mtime_ns, default=None)


@contextmanager
def _lock(target: Path) -> Iterator[None]:
    """Hold the lock of a file that is fetched; processes that want the same file wait."""
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(target.with_name(f".{target.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("waiting for another process that is fetching %s", target.name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _disk_errors(target: Path) -> Iterator[None]:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise InputError(
            f"cannot write {target}: {error.strerror or error}; free some space, or name another folder for fetched "
            f"files with CLEP_CACHE=DIR"
        ) from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    with suppress(OSError):
        os.fsync(descriptor)
    os.close(descriptor)
