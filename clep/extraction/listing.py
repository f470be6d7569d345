"""Video and image files: their lengths and fingerprints, and finding them in a folder, a list file or a csv."""

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
from clep.tables import read_table
from clep.video import expected_seconds
from clep.video.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES

CSV_COLUMNS = ("id", "path")
_READERS = 16
_IMAGE_S = 0.02


@dataclass(frozen=True)
class VideoItem:
    """One video to be encoded, see `Item`.

    Attributes:
        id: in the bank.
        path: its file.
        left_eye: it is a stereo video, side by side, of which the left half is taken.
        image: the file is an image, a video of one frame.
        duration_s: its length where that is known; NaN otherwise.
        fingerprint: set by the engine's caller before the file is decoded, so that a file that is replaced meanwhile is
            encoded again by the next run.
        max_rows: unknown.
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
        """Digest size, beginning and end of the file, and which half is taken; "" where there is no file to read."""
        found = file_fingerprint(self.path)
        return f"{found}-left" if found and self.left_eye else found


def fingerprints(items: Sequence[VideoItem]) -> dict[str, str]:
    """Return the fingerprint of each item's file by its id; several threads read the files."""
    with ThreadPoolExecutor(_READERS) as threads:
        found = threads.map(lambda item: item.compute_fingerprint(), items)
        return dict(zip([item.id for item in items], found, strict=True))


def with_durations(items: Sequence[VideoItem]) -> list[VideoItem]:
    """Fill in unknown lengths from the files' headers; NaN stays where that fails.

    An image gets its cost relative to a second of video.
    """

    def filled(item: VideoItem) -> VideoItem:
        if item.duration_s == item.duration_s:
            return item
        return replace(item, duration_s=_IMAGE_S if item.image else expected_seconds(item.path))

    with ThreadPoolExecutor(_READERS) as threads:
        return list(threads.map(filled, items))


def unique_items(items: Iterable[VideoItem]) -> tuple[list[VideoItem], dict[str, str]]:
    """Return the first item of each id, sorted by id; and for duplicate ids, which files are left out."""
    kept: dict[str, VideoItem] = {}
    others: dict[str, str] = {}
    for item in items:
        if item.id not in kept:
            kept[item.id] = item
        else:
            others[item.id] = f"{others[item.id]}, {item.path}" if item.id in others else item.path
    reasons = {
        name: printable(f"duplicate id, left out: {paths}; {kept[name].path} is used") for name, paths in others.items()
    }
    return [kept[name] for name in sorted(kept)], reasons


def list_videos(videos: str | Path) -> list[VideoItem]:
    """List the videos and images of a folder or a list file.

    Args:
        videos: a folder, searched with its subfolders, linked ones included: every file with the suffix of a video or
            an image, its id is its path in the folder without the suffix; a text file of lines `name<TAB>path`; or a
            csv with the columns id and path. Relative paths in a file start at the file's own folder.

    Raises:
        InputError: there is nothing there, no video in the folder, or a line without a name and a path.
    """
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
    """Return the files of a folder that `list_videos` does not take, by their path in it, with the reason.

    These are files with another suffix, and links to files that are not there (as git-annex leaves for files that were
    not fetched). Hidden files do not count, nor do `outputs` and files in them; where `videos` is no folder, there are
    none.
    """
    folder = Path(videos)
    if not folder.is_dir():
        return {}
    reasons: dict[str, str] = {}
    for path in _walk(folder):
        if {path, path.parent} & set(outputs):
            continue
        if not path.is_file():
            reasons[_name(path.relative_to(folder))] = "a link to a file that is not there"
        elif path.suffix.lower() not in VIDEO_SUFFIXES + IMAGE_SUFFIXES:
            suffix = path.suffix or "no suffix"
            reasons[_name(path.relative_to(folder))] = (
                f"{suffix} is no suffix of a video or an image; a list file can name it all the same"
            )
    return reasons


def find_files(folder: str | Path, names: Sequence[str]) -> dict[str, Path]:
    """Find the video file of each name in a folder or its subfolders (sorted by class); missing ones are left out.

    Of several files with one name the first by path is taken.

    Raises:
        InputError: the folder does not exist.
    """
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
    subfolders, and what is in it is not searched.

    Raises:
        InputError: `folder` does not exist.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist or is not a folder; give the folder of the videos (videos=DIR)")
    wanted = set(names)
    files: dict[str, Path] = {}
    folders: dict[str, Path] = {}
    seen: set[tuple[int, int]] = set()
    for current, inside, found in os.walk(folder, followlinks=True):
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


def _in_folder(folder: Path) -> list[VideoItem]:
    paths = [path for path in _walk(folder) if path.suffix.lower() in VIDEO_SUFFIXES + IMAGE_SUFFIXES]
    found = [
        VideoItem(_name(path.relative_to(folder).with_suffix("")), str(path), image=_is_image(path))
        for path in paths
        if path.is_file()
    ]
    if not found:
        raise InputError(f"{folder} holds no video: no file there ends in {', '.join(VIDEO_SUFFIXES)}")
    # Of x.mp4 and its thumbnail x.jpg the video counts.
    return sorted(found, key=lambda item: (item.id, item.image))


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
    file = listed_in.parent / path  # an absolute path stays as it is
    return VideoItem(name, str(file), image=_is_image(file))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder and its subfolders in the order of their paths, links that lead nowhere included.

    Links to folders are followed, but not back into a folder that they lie in. Hidden files and folders are left out.
    """
    found: list[Path] = []

    def enter(current: Path, above: frozenset[tuple[int, int]]) -> None:
        status = current.stat()
        inside = above | {(status.st_dev, status.st_ino)}
        for entry in os.scandir(current):
            if entry.name.startswith("."):
                continue
            if not entry.is_dir():
                found.append(Path(entry.path))
                continue
            target = entry.stat()
            if (target.st_dev, target.st_ino) not in inside:
                enter(Path(entry.path), inside)

    enter(folder, frozenset())
    yield from sorted(found)
