"""Lists of video and image files from a folder, a list file or a csv; their durations and fingerprints."""

import csv
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import nan
from pathlib import Path

from clep.errors import InputError
from clep.extraction.items import file_fingerprint, printable
from clep.files import open_input
from clep.remote import is_remote, join, list_files, parent, suffix
from clep.tables import read_table
from clep.video import expected_seconds
from clep.video.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES

CSV_COLUMNS = ("id", "path")
LIST_SUFFIXES = (".csv", ".txt", ".tsv", ".lst", ".list")
_READERS = 16
_IMAGE_S = 0.02


@dataclass(frozen=True)
class VideoItem:
    """One video to be encoded, see `Item`.

    Attributes:
        id: id in the bank.
        path: path of the file.
        left_eye: use the left half of a side-by-side stereo video.
        image: whether the file is an image, which is a video of one frame.
        duration_s: duration in seconds, NaN if unknown.
        fingerprint: set before the file is decoded, so that a file replaced meanwhile is encoded again by the next run.
        max_rows: None, unknown.
    """

    id: str
    path: str
    left_eye: bool = False
    image: bool = False
    duration_s: float | int = nan
    fingerprint: str = ""
    max_rows: int | None = None

    @property
    def cost(self) -> float | int:
        """Seconds of video."""
        return self.duration_s

    def compute_fingerprint(self) -> str:
        """Digest size, beginning and end of the file, and `left_eye`; "" if the file cannot be read."""
        found = file_fingerprint(self.path)
        return f"{found}-left" if found and self.left_eye else found


def fingerprints(items: Sequence[VideoItem]) -> dict[str, str]:
    """Return the fingerprints by id; files are read by several threads."""
    with ThreadPoolExecutor(_READERS) as threads:
        found = threads.map(lambda item: item.compute_fingerprint(), items)
        return dict(zip([item.id for item in items], found, strict=True))


def with_durations(items: Sequence[VideoItem]) -> list[VideoItem]:
    """Fill in unknown durations from the files' headers; NaN if that fails. Images get their relative cost instead."""

    def filled(item: VideoItem) -> VideoItem:
        if item.duration_s == item.duration_s:
            return item
        return replace(item, duration_s=_IMAGE_S if item.image else expected_seconds(item.path))

    with ThreadPoolExecutor(_READERS) as threads:
        return list(threads.map(filled, items))


def unique_items(items: Iterable[VideoItem]) -> tuple[list[VideoItem], dict[str, str]]:
    """Return the first item of each id, sorted by id; and for duplicate ids a note on the ignored files."""
    kept: dict[str, VideoItem] = {}
    others: dict[str, str] = {}
    for item in items:
        if item.id not in kept:
            kept[item.id] = item
        else:
            others[item.id] = f"{others[item.id]}, {item.path}" if item.id in others else item.path
    reasons = {
        name: printable(f"duplicate id: {paths} ignored, {kept[name].path} used") for name, paths in others.items()
    }
    return [kept[name] for name in sorted(kept)], reasons


def list_videos(videos: str | Path) -> list[VideoItem]:
    """List the videos and images of a folder or a list file.

    Args:
        videos: a folder, searched recursively (links are followed) for files with a video or image suffix, whose id is
            the relative path without the suffix; a text file of lines `name<TAB>path`; or a csv with the columns id and
            path. Relative paths in a file start at the file's folder. Folder, list and paths may be URLs.

    Raises:
        InputError: the path does not exist, the folder has no video, or a line lacks a name or a path.
    """
    if is_remote(videos) and suffix(videos) not in LIST_SUFFIXES + VIDEO_SUFFIXES:
        return _in_remote_folder(videos)
    videos = Path(videos)
    if videos.is_dir():
        return _in_folder(videos)
    if videos.suffix.lower() in VIDEO_SUFFIXES:
        raise InputError(f"{videos} is a single file; give its folder, or a list file with lines name<TAB>path")
    if videos.suffix.lower() == ".csv":
        table = read_table(videos, CSV_COLUMNS)
        return [_item(name, path, videos) for name, path in zip(table["id"], table["path"], strict=True)]
    return _in_list(videos)


def other_files(videos: str | Path, outputs: Collection[Path] = ()) -> dict[str, str]:
    """Return the files of a folder that `list_videos` ignores: the reason by relative path.

    These are files with another suffix, and links to missing files (such as git-annex files that were not fetched).
    Hidden files, `outputs` and files in them are not reported. Empty if `videos` is not a folder.
    """
    folder = Path(videos)
    if not folder.is_dir():
        return {}
    reasons: dict[str, str] = {}
    for path in _walk(folder):
        if {path, path.parent} & set(outputs):
            continue
        if not path.is_file():
            reasons[_name(path.relative_to(folder))] = "a link to a missing file"
        elif path.suffix.lower() not in VIDEO_SUFFIXES + IMAGE_SUFFIXES:
            suffix = path.suffix or "no suffix"
            reasons[_name(path.relative_to(folder))] = (
                f"{suffix} is not a known suffix of videos or images; to use the file, name it in a list file"
            )
    return reasons


def find_files(folder: str | Path, names: Sequence[str]) -> dict[str, Path]:
    """Find the video file of each name in a folder and its subfolders; missing ones are not in the result.

    If several files have a name, the first by path is used. The folder may be a URL.

    Raises:
        InputError: the folder does not exist.
    """
    if is_remote(folder):
        return _find_remote(folder, names)
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist or is not a folder; give the folder of the videos (videos=DIR)")
    wanted = set(names)
    found: dict[str, Path] = {}
    for path in _walk(folder):
        if path.suffix.lower() in VIDEO_SUFFIXES and path.stem in wanted and path.is_file():
            found.setdefault(path.stem, path)
    return found


def find_videos(folder: str | Path, names: Sequence[str]) -> dict[str, Path]:
    """Find each video as a file, or as a folder of its chunks or frames; missing ones are left out.

    A folder is called by the video, with or without a suffix (`<video>.mp4/0.mp4`). It is found in `folder` and its
    subfolders, and what is in it is not searched. In a remote folder only files are found.

    Raises:
        InputError: `folder` does not exist.
    """
    if is_remote(folder):
        return _find_remote(folder, names)
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist or is not a folder; give the folder of the videos (videos=DIR)")
    wanted = set(names)
    files: dict[str, Path] = {}
    folders: dict[str, Path] = {}
    seen: set[tuple[int, int]] = set()
    for current, inside, found in os.walk(folder, onerror=_refuse, followlinks=True):
        status = Path(current).stat()
        if (status.st_dev, status.st_ino) in seen:  # a link back
            inside.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        for path in (Path(current) / name for name in sorted(found)):
            if path.stem in wanted and path.suffix.lower() in VIDEO_SUFFIXES:
                files.setdefault(path.stem, path)
        for path in (Path(current) / name for name in sorted(inside)):
            video = path.stem if path.stem in wanted and path.suffix.lower() in VIDEO_SUFFIXES else path.name
            if video in wanted:
                folders.setdefault(video, path)
        inside[:] = sorted(name for name in inside if name not in wanted and Path(name).stem not in wanted)
    return folders | files


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, over others or not
        return False


def _unreadable(error: OSError) -> InputError:
    return InputError(
        f"the folder {error.filename} cannot be read: {error.strerror or error}; correct its rights, or list the "
        f"videos to use in a file (videos=LIST)"
    )


def _refuse(error: OSError) -> None:
    raise _unreadable(error) from error


def _in_folder(folder: Path) -> list[VideoItem]:
    paths = [path for path in _walk(folder) if path.suffix.lower() in VIDEO_SUFFIXES + IMAGE_SUFFIXES]
    found = [
        VideoItem(_name(path.relative_to(folder).with_suffix("")), str(path), image=_is_image(path))
        for path in paths
        if path.is_file()
    ]
    if not found:
        raise InputError(f"{folder} holds no video: no file there ends in {', '.join(VIDEO_SUFFIXES)}")
    # A video x.mp4 sorts before its thumbnail x.jpg, so that the video is used.
    return sorted(found, key=lambda item: (item.id, item.image))


def _in_remote_folder(folder: str | Path) -> list[VideoItem]:
    files = list_files(folder, VIDEO_SUFFIXES + IMAGE_SUFFIXES)
    items = [VideoItem(_name(Path(name).with_suffix("")), url, image=_is_image(name)) for name, url in files.items()]
    return sorted(items, key=lambda item: (item.id, item.image))


def _find_remote(folder: str | Path, names: Sequence[str]) -> dict[str, Path]:
    wanted = set(names)
    found: dict[str, Path] = {}
    for name, url in list_files(folder, VIDEO_SUFFIXES).items():
        if Path(name).stem in wanted:
            found.setdefault(Path(name).stem, Path(url))
    return found


def _name(path: Path) -> str:
    return printable(path.as_posix())


def _in_list(path: Path) -> list[VideoItem]:
    with open_input(path) as file:
        try:
            text = file.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is not a text file of lines name<TAB>path ({error})") from error
    items = []
    for number, row in enumerate(
        csv.reader(text.replace("\r\n", "\n").split("\n"), delimiter="\t", quoting=csv.QUOTE_NONE), start=1
    ):
        if not row or not row[0].strip():
            continue
        if len(row) != 2 or not row[1].strip():
            raise InputError(f"{path}, line {number}: expected name<TAB>path, got {' '.join(row)!r}")
        items.append(_item(row[0].strip(), row[1].strip(), path))
    if not items:
        raise InputError(f"{path} lists no video; expected lines name<TAB>path")
    return items


def _item(name: str, path: str, listed_in: Path) -> VideoItem:
    if not name or not path:
        raise InputError(f"{listed_in}: a row has id {name!r} and path {path!r}; both are needed")
    if is_remote(path) or is_remote(listed_in):
        file = join(parent(listed_in) if is_remote(listed_in) else path, path)
    else:
        file = str(listed_in.parent / path)  # an absolute path stays as it is
    return VideoItem(name, file, image=_is_image(file))


def _is_image(path: str | Path) -> bool:
    return suffix(path) in IMAGE_SUFFIXES


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder and its subfolders in the order of their paths, including broken links.

    Links to folders are followed, except to a parent folder. Hidden files and folders are ignored.
    """
    found: list[Path] = []

    def enter(current: Path, above: frozenset[tuple[int, int]]) -> None:
        status = current.stat()
        inside = above | {(status.st_dev, status.st_ino)}
        try:
            entries = list(os.scandir(current))
        except OSError as error:
            raise _unreadable(error) from error
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if not _is_folder(entry):
                found.append(Path(entry.path))
                continue
            target = entry.stat()
            if (target.st_dev, target.st_ino) not in inside:
                enter(Path(entry.path), inside)

    enter(folder, frozenset())
    yield from sorted(found)
