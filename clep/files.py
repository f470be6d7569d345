"""Read input files safely, and write output files atomically: a file is whole or absent, after a power cut too."""

import contextlib
import errno
import functools
import hashlib
import json
import os
import re
import socket
import stat
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

import yaml

from clep.errors import InputError
from clep.remote import is_remote, local_path

# Bytes of the parts of a temporary name; file systems take 255 in all, and 29 more are the token and ".tmp".
_LONGEST_PREFIX = 180
_LONGEST_SUFFIX = 16
_TEMPORARY = re.compile(r"[0-9a-f]{8,}\.tmp(\..*)?")
_TOKEN = re.compile(r"(?P<machine>[0-9a-f]{8})(?P<pid>[0-9a-f]{8})[0-9a-f]{8}")
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_INT64 = range(-(2**63), 2**64)


def check_input(path: str | Path) -> Path:
    """Return `path` if it is a regular file, without opening it; of a URL, the path of its copy in the cache.

    Links to files are followed.

    Readers that open files by name (h5py, PyAV, safetensors) would wait for ever at a named pipe, and read a device or
    a file of `/proc` without end.

    Raises:
        InputError: it is missing, a dangling link, a folder, a pipe, a device, a socket, or a file of the system; or
            it is remote and cannot be fetched.
    """
    path = local_path(path)
    with _input_errors(path):
        _check_regular(path, path.stat())
    return path


def open_input(path: str | Path) -> BufferedReader:
    """Open a regular file, or the copy of a remote one, for reading bytes.

    Raises:
        InputError: as `check_input`, or it cannot be read.
    """
    path = local_path(path)
    with _input_errors(path):
        _check_regular(path, path.stat())
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe put there meanwhile: no waiting
        try:
            _check_regular(path, os.fstat(descriptor))
            return os.fdopen(descriptor, "rb")
        except BaseException:
            os.close(descriptor)
            raise


def read_json(path: str | Path) -> Any:
    """Read strict JSON (a byte order mark is skipped).

    Raises:
        InputError: the file is missing or cannot be read, is not JSON, has a key twice in one object, is nested too
            deeply, or holds an integer beyond 64 bits, a lone surrogate, or the character NUL.
    """
    path = Path(path)
    with open_input(path) as file, _input_errors(path):
        content = file.read()
    try:
        text = content.decode("utf-8-sig")
        value = json.loads(text, object_pairs_hook=unique_keys, parse_int=int64)
        if re.search(r"\\u0000|\\u[dD][89a-fA-F]", text):
            check_characters(value)
    except RecursionError as error:
        raise InputError(f"{path} is not valid JSON: it is nested too deeply; fetch or write it again") from error
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError too
        raise InputError(f"{path} is not valid JSON ({error}); it may be truncated: fetch it again") from error
    return value


def read_yaml(path: str | Path) -> Any:
    """Read YAML as plain data.

    Raises:
        InputError: the file is missing or cannot be read, or is not YAML.
    """
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error


@contextmanager
def _input_errors(path: Path) -> Iterator[None]:
    """Name the path and a remedy where it cannot be read."""
    try:
        yield
    except FileNotFoundError as error:
        if path.is_symlink():
            message = f"{path} is a link to {path.readlink()}, which does not exist; restore that file, or pass another"
        else:
            message = f"{path} does not exist; check the path, or pass another (paths.data=DIR moves all of them)"
        raise InputError(message) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}; check the path and its rights") from error
    except InputError:
        raise
    except ValueError as error:  # a NUL in the name
        raise InputError(f"{str(path)!r} is not the name of a file: {error}") from error


def _check_regular(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{path} cannot be read: it is a folder; pass a file")
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "no regular file")
        raise InputError(f"{path} cannot be read: it is {kind}; copy its content into a regular file, and pass that")
    if status.st_dev in _system_devices():
        raise InputError(f"{path} cannot be read: it belongs to the operating system; pass a file on a disk")


@functools.cache
def _system_devices() -> frozenset[int]:
    """Return the device numbers of /proc and /sys, whose files look regular and may have no end."""
    devices = set()
    for folder in ("/proc", "/sys"):
        with contextlib.suppress(OSError):
            devices.add(Path(folder).stat().st_dev)
    with contextlib.suppress(OSError):
        devices.discard(Path("/").stat().st_dev)  # not mounted: ordinary folders of these names
    return frozenset(devices)


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make the dict of a JSON object (`object_pairs_hook`); ValueError for a duplicate key."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice!r} occurs twice in one object")
    return found


def int64(digits: str) -> int:
    """Read a JSON integer (`parse_int`); ValueError where it has more than 64 bits."""
    if len(digits) > 20 or (value := int(digits)) not in _INT64:
        raise ValueError(f"the integer {digits[:12]}… has more than 64 bits")
    return value


def check_characters(value: Any) -> None:
    """Refuse NUL, at which C libraries cut a string, and lone surrogates, which are no text."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += [*one, *one.values()]
        elif isinstance(one, list):
            waiting += one
        elif isinstance(one, str):
            if "\0" in one:
                raise ValueError(f"the string {one[:40]!r} holds the character NUL")
            if any("\ud800" <= character <= "\udfff" for character in one):
                raise ValueError(f"the string {one[:40]!r} holds half of a surrogate pair")


@contextmanager
def atomic_path(path: str | Path, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; rename it to `path` when the block succeeds, else delete it.

    Any exception, Ctrl-C and a full disk included, leaves a previous file at `path` untouched. The temporary name keeps
    the suffix of `path` and starts with a dot, so no reader takes it for a finished file. Temporaries of writers that
    were killed on this machine are removed when the same file is written again.

    Args:
        path: the file to write.
        durable: flush the file before it is renamed and the folder afterwards, so that neither is lost or empty after a
            power cut. It costs some milliseconds a file; without it, thousands of small files are written faster.

    Raises:
        InputError: the disk is full, the folder cannot be written to, or `path` is a link, device, pipe or folder.
    """
    path = Path(path)
    check_output(path)
    if stat.S_ISDIR(_mode(path)):
        raise InputError(f"cannot write {path}: it is a folder; remove it, or choose another name")
    make_folder(path.parent)
    remove_temporaries(path, abandoned_only=True)
    temporary = _temporary_path(path)
    try:
        yield temporary
        if durable:
            flush(temporary)
        temporary.replace(path)
        if durable:
            flush(path.parent)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}. Nothing was left there; free some space or "
            f"choose another folder, then run the same command again."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all. NaN and infinities become null, since JSON has neither.

    Bytes of a file name that are not UTF-8 (Python's surrogates) are written as JSON escapes.
    """
    with atomic_path(path) as temporary:
        text = json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        temporary.write_bytes(text.encode("utf-8", errors="backslashreplace"))


def check_output(path: str | Path) -> None:
    """See that writing `path` would not replace what is no file of data.

    Raises:
        InputError: it is a link, a device, a named pipe or a socket.
    """
    path = Path(path)
    _refuse_remote(path)
    mode = _mode(path)
    if stat.S_ISLNK(mode) and not path.is_dir():
        raise InputError(
            f"cannot write {path}: it is a link to {path.readlink()}; pass the path of that file, or remove the link"
        )
    if (kind := _KINDS.get(stat.S_IFMT(mode))) is not None:
        raise InputError(f"cannot write {path}: it is {kind}; choose the path of a file")


def make_folder(folder: str | Path) -> None:
    """Make a folder with its parents, each of them flushed, where it does not exist.

    Raises:
        InputError: it cannot be made.
    """
    folder = Path(folder)
    _refuse_remote(folder)
    try:
        if folder.is_dir():
            return
        missing = [folder, *(parent for parent in folder.parents if not parent.exists())]
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot make the folder {folder}: {reason}; choose another one") from error
    for made in missing:
        flush(made.parent)


def _refuse_remote(path: Path) -> None:
    if is_remote(path):
        raise InputError(f"cannot write {path}: remote files are only read; give a local path, and copy the result")


def _mode(path: Path) -> int:
    """Return the type and rights of what lies at `path`, a link itself; 0 for nothing."""
    try:
        return path.lstat().st_mode
    except (OSError, ValueError):
        return 0


def flush(path: str | Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk; nothing to do on a file system that cannot.

    Raises:
        OSError: the file cannot be opened, or the disk cannot take it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def flush_files(paths: Iterable[str | Path]) -> None:
    """Flush many files that were written with `durable=False`, and their folders: before a file says they are whole.

    Raises:
        OSError: a file cannot be opened, or the disk cannot take it.
    """
    folders = set()
    for path in paths:
        flush(path)
        folders.add(Path(path).parent)
    for folder in folders:
        flush(folder)


def temporaries(path: str | Path) -> list[Path]:
    """Return the temporary files of `path`: left beside it by a killed writer, or being written now."""
    path = Path(path)
    prefix = _prefix(path)
    try:
        names = [entry.name for entry in os.scandir(path.parent) if entry.name.startswith(prefix)]
    except OSError:
        return []
    return sorted(path.with_name(name) for name in names if _TEMPORARY.fullmatch(name.removeprefix(prefix)))


def temporaries_in(folder: str | Path) -> list[Path]:
    """Return the temporary files of all outputs in a folder; none where the folder cannot be read."""
    try:
        names = [entry.name for entry in os.scandir(folder) if entry.name.startswith(".")]
    except OSError:
        return []
    rests = {name: [name[at + 1 :] for at, letter in enumerate(name) if letter == "." and at] for name in names}
    return sorted(Path(folder) / name for name in names if any(map(_TEMPORARY.fullmatch, rests[name])))


def remove_temporaries(path: str | Path, abandoned_only: bool = False) -> None:
    """Remove the temporary files of `path`. The caller holds the lock of `path`, so that nobody writes it now.

    Args:
        path: the file that they would have become.
        abandoned_only: only those whose writer ran on this machine and is dead; needs no lock.
    """
    for one in temporaries(path):
        if not abandoned_only or is_abandoned(one.name.removeprefix(_prefix(Path(path)))):
            with contextlib.suppress(OSError):
                one.unlink(missing_ok=True)


def writer_token() -> str:
    """Return 24 hex digits for a file of this process: its machine, its id, and random ones; see `is_abandoned`."""
    return f"{_machine()}{os.getpid():08x}{uuid.uuid4().hex[:8]}"


def _temporary_path(path: Path) -> Path:
    token = writer_token()
    suffix = path.suffix if len(os.fsencode(path.suffix)) <= _LONGEST_SUFFIX else ""
    return path.with_name(f"{_prefix(path)}{token}.tmp{suffix}")


def _prefix(path: Path) -> str:
    """Return what the names of all temporaries of `path` begin with; a long name is cut and gets a digest."""
    encoded = os.fsencode(path.name)
    if len(encoded) <= _LONGEST_PREFIX:
        return f".{path.name}."
    return f".{os.fsdecode(encoded[:_LONGEST_PREFIX])}-{hashlib.sha256(encoded).hexdigest()[:8]}."


def is_abandoned(token: str) -> bool:
    """Whether the process whose `writer_token` a text begins with ran on this machine and is dead."""
    found = _TOKEN.match(token)
    if found is None or found["machine"] != _machine():
        return False
    try:
        os.kill(int(found["pid"], 16), 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


@functools.cache
def _machine() -> str:
    """Return 8 hex digits for this machine since it was started and, in a container, its own process ids."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
    with contextlib.suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
