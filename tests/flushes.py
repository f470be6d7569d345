"""Record renames, removals and flushes, and list what a power cut between two of them could undo."""

import contextlib
import os
import pathlib
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CLEP = Path(__file__).parents[1] / "clep"
_LIBRARY = {module.__file__ for module in (contextlib, os, pathlib, shutil)}
_CALLS = ("replace", "rename", "fsync", "unlink", "remove", "rmdir")


class Flushes:
    """The rules that make a result whole or absent after a power cut, checked while the calls are made.

    A file is flushed after its last change and before it is renamed to its final name, or afterwards where many small
    files are, but before one that is flushed is renamed. The folder of the final name is flushed after the renaming,
    before anything else is removed. Temporary files, whose names begin with a dot and hold
    `.tmp`, may come and go.

    Args:
        root: only files below this folder are watched.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.faults: list[str] = []
        self._flushed: dict[tuple[int, int], tuple[int, int]] = {}
        self._late: dict[tuple[int, int], Path] = {}  # files that were renamed and are to be flushed
        self._renamed: dict[Path, Path] = {}  # folder not flushed yet: the last file that was renamed there

    def before(self, call: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        """Check a call that is about to be made."""
        if call == "fsync":
            path = Path(f"/proc/self/fd/{int(arguments[0])}").readlink()
            status = os.fstat(arguments[0])
            self._flushed[status.st_dev, status.st_ino] = status.st_mtime_ns, status.st_size
            self._late.pop((status.st_dev, status.st_ino), None)
            self._renamed.pop(path, None)
            return
        path = _absolute(arguments[0], options.get("dir_fd"))
        if call in ("replace", "rename"):
            self._rename(path, _absolute(arguments[1], options.get("dst_dir_fd")))
        elif self._is_watched(path) and (path.exists() or path.is_symlink()):
            self._list_late()
            for renamed in self._renamed.values():
                self.faults.append(
                    f"{self._short(path)} is removed before the folder of {self._short(renamed)} is flushed"
                )

    def end(self) -> None:
        """List renamed files whose content or folder was never flushed."""
        self._list_late()
        self.faults += [f"the folder of {self._short(path)} is never flushed" for path in self._renamed.values()]

    def _list_late(self) -> None:
        self.faults += [f"{self._short(path)} is renamed before its content is flushed" for path in self._late.values()]
        self._late.clear()

    def _rename(self, source: Path, target: Path) -> None:
        if not self._is_watched(target) or not source.exists():
            return
        status = source.stat()
        inode = status.st_dev, status.st_ino
        if source.is_dir() or self._flushed.get(inode) == (status.st_mtime_ns, status.st_size):
            self._list_late()
        else:
            self._late[inode] = target
        self._renamed[target.parent] = target

    def _is_watched(self, path: Path) -> bool:
        temporary = path.name.startswith(".") and ".tmp" in path.name
        return path.is_relative_to(self.root) and not temporary

    def _short(self, path: Path) -> str:
        return str(path.relative_to(self.root))


def _absolute(path: Any, folder: int | None) -> Path:
    base = Path.cwd() if folder is None else Path(f"/proc/self/fd/{folder}").readlink()
    found = base / os.fsdecode(path)
    return found.parent.resolve() / found.name


def _caller() -> Path:
    """Return the file of the function that made a call, through pathlib or shutil or not."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_filename in _LIBRARY:
        frame = frame.f_back
    return Path(frame.f_code.co_filename)


@contextmanager
def recorded_flushes(root: Path, by: Path = CLEP) -> Iterator[Flushes]:
    """Check the calls of `os` in this process for the block; on systems without /proc nothing is checked.

    Args:
        root: only files below this folder are watched.
        by: folder of the code whose calls are checked.
    """
    record = Flushes(root)
    before = {name: getattr(os, name) for name in _CALLS} if Path("/proc/self/fd").exists() else {}

    def checked(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def checking(*arguments: Any, **options: Any) -> Any:
            if _caller().is_relative_to(by):
                record.before(name, arguments, options)
            return call(*arguments, **options)

        return checking

    for name, call in before.items():
        setattr(os, name, checked(name, call))
    try:
        yield record
        record.end()
    finally:
        for name, call in before.items():
            setattr(os, name, call)
