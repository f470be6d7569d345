"""Find the videos that a user means: a folder, a list file, or a csv."""

import csv
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from clep.datasets.tables import read_csv
from clep.errors import InputError
from clep.extraction.items import VideoItem
from clep.files import open_input
from clep.video.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES

CSV_COLUMNS = ("id", "path")


def list_videos(videos: str | Path) -> list[VideoItem]:
    """Read what `videos` names as items, in the order of the file or of the names in the folder.

    Args:
        videos: a folder, looked through with the folders in it: every file with the suffix of a video or an image, its
            id is its path in the folder without the suffix; a text file of lines `name<TAB>path`; or a csv with the
            columns id and path. Paths in a file that are not absolute start at the file's own folder.

    Raises:
        InputError: there is nothing there, no video in the folder, or a line without a name and a path.
    """
    videos = Path(videos)
    if videos.is_dir():
        return _in_folder(videos)
    if videos.suffix.lower() in VIDEO_SUFFIXES:
        raise InputError(f"{videos} is a single file; give its folder, or a list file with lines name<TAB>path")
    if videos.suffix.lower() == ".csv":
        table = read_csv(videos, CSV_COLUMNS)
        return [_item(name, path, videos) for name, path in zip(table["id"], table["path"], strict=True)]
    return _in_list(videos)


def other_files(videos: str | Path, ours: Collection[Path] = ()) -> dict[str, str]:
    """Return the files of a folder, by their path in it, whose suffix is none of a video or an image; with the reason.

    Hidden files do not count, nor do `ours` and what is in them; where `videos` is no folder, there are none.
    """
    folder = Path(videos)
    if not folder.is_dir():
        return {}
    return {
        _name(path.relative_to(folder)): (
            f"{path.suffix or 'no suffix'} is no suffix of a video or an image; a list file can name it all the same"
        )
        for path in _files(folder, None)
        if path.suffix.lower() not in VIDEO_SUFFIXES + IMAGE_SUFFIXES and not {path, path.parent} & set(ours)
    }


def find_files(folder: str | Path, names: Sequence[str]) -> dict[str, Path]:
    """Find the video file of each name in a folder or the folders in it (sorted by class); missing ones are left out.

    Of several files of one name the first by path is taken.

    Raises:
        InputError: the folder does not exist.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist or is not a folder; give the folder of the videos (videos=DIR)")
    wanted = set(names)
    found: dict[str, Path] = {}
    for path in _files(folder, VIDEO_SUFFIXES):
        if path.stem in wanted:
            found.setdefault(path.stem, path)
    return found


def _in_folder(folder: Path) -> list[VideoItem]:
    found = [
        VideoItem(_name(path.relative_to(folder).with_suffix("")), str(path), image=_is_image(path))
        for path in _files(folder, VIDEO_SUFFIXES + IMAGE_SUFFIXES)
    ]
    if not found:
        raise InputError(f"{folder} holds no video: no file there ends in {', '.join(VIDEO_SUFFIXES)}")
    return found


def _name(path: Path) -> str:
    """Write a path as an id; bytes that are not UTF-8 as `\\xff`."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


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


def _files(folder: Path, suffixes: tuple[str, ...] | None) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if (suffixes is None or path.suffix.lower() in suffixes) and not hidden and path.is_file():
            yield path
