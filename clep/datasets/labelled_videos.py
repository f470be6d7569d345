"""A list of labelled video files, one `path label` a line, as TimeSformer's training and others' take it."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clep.datasets.splits import hash_fraction
from clep.errors import InputError

_NUMBER = re.compile(r"\d+")
_HEADERS = {"path", "file", "filename", "filepath", "video", "video_path", "clip"}
_SHOWN = 3


@dataclass(frozen=True)
class LabelledVideos:
    """Video files with one label each.

    Attributes:
        paths: of the files.
        labels: numbers of classes, from 0.
        source: the file that lists them, for messages.
    """

    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    source: str

    def __len__(self) -> int:
        """Return the number of videos."""
        return len(self.paths)

    @classmethod
    def read(cls, path: str | Path, folder: str | Path | None = None) -> "LabelledVideos":
        """Read lines `path label`, `path<TAB>label` or `path,label`, with or without a header.

        The label is what stands after the last separator, so that a path may have blanks; one that has commas too is
        quoted, or separated by a blank or a tab. A header is a first line whose label is a word and whose path has no
        ending, before a line whose label is a number.

        Args:
            path: of the list.
            folder: where paths start that are not absolute; None for the folder of the list.

        Raises:
            InputError: the file cannot be read, lists nothing, or a line has no path or a label that is no number from
                0; the message names the line.
        """
        path = Path(path)
        start = Path(folder) if folder else path.parent
        paths: list[Path] = []
        labels: list[int] = []
        lines = [(number, line) for number, line in enumerate(_lines(path), start=1) if line.strip()]
        for number, line in lines[1:] if _has_header([line for _, line in lines[:2]]) else lines:
            name, label = _cut(line)
            if not name or not label:
                raise InputError(f"{path}, line {number}: expected `path label` or `path,label`, got {line.strip()!r}")
            if not _NUMBER.fullmatch(label):
                raise InputError(
                    f"{path}, line {number}: the label {label!r} is not a number from 0; number the classes, and put "
                    f"their names into a file of their own (data.source.classes=FILE, one a line)"
                )
            paths.append(start / name)
            labels.append(int(label))
        if not paths:
            raise InputError(f"{path} lists no video; expected lines `path label`")
        return cls(tuple(paths), tuple(labels), str(path))

    def select(self, which: Sequence[int]) -> "LabelledVideos":
        """Return the videos of these numbers."""
        return LabelledVideos(tuple(self.paths[i] for i in which), tuple(self.labels[i] for i in which), self.source)

    def existing(self, on_error: str) -> tuple["LabelledVideos", list[Path]]:
        """Return the videos whose files are there, and the paths of the others.

        Args:
            on_error: "error" refuses a list with missing files, "skip" leaves them out.

        Raises:
            InputError: files are missing and `on_error` is "error", or none is there.
        """
        gone = {index for index, path in enumerate(self.paths) if not path.is_file()}
        missing = [self.paths[index] for index in sorted(gone)]
        if missing and (on_error == "error" or len(gone) == len(self)):
            shown = ", ".join(str(path) for path in missing[:_SHOWN]) + ", …" * (len(missing) > _SHOWN)
            raise InputError(
                f"{len(gone)} of the {len(self)} videos of {self.source} do not exist ({shown}); say where paths "
                f"start with data.source.folder=DIR, or leave such videos out with data.source.on_error=skip"
            )
        return self.select([index for index in range(len(self)) if index not in gone]), missing

    def hold_out(self, fraction: float | int) -> tuple["LabelledVideos", "LabelledVideos"]:
        """Split by the hash of the file's name: adding videos moves none from one side to the other.

        Raises:
            InputError: a side would be empty.
        """
        held = [index for index, path in enumerate(self.paths) if hash_fraction(path.name) < fraction]
        if not 0 < len(held) < len(self):
            raise InputError(
                f"data.source.val_fraction={fraction} of the {len(self)} videos of {self.source} leaves "
                f"{len(self) - len(held)} for training and {len(held)} held out; choose another, or give a list of its "
                f"own with data.source.val=CSV"
            )
        rest = sorted(set(range(len(self))) - set(held))
        return self.select(rest), self.select(held)


def class_names(
    listed: LabelledVideos, train: LabelledVideos, val: LabelledVideos, classes: str | Path | int | None
) -> list[str]:
    """Return the names of the classes, "0", "1", … where there are none, with the labels checked against them.

    Args:
        listed: all videos of the list to train on, those that are held out or missing too.
        train, val: what is left of them to train on, and what is measured.
        classes: a text file of names, one a line, in the order of the labels; their number; or None for as many as the
            listed labels say, which must then all occur.

    Raises:
        InputError: a label outside the classes, fewer than two classes that are trained on, or, without
            `classes`, labels with gaps.
    """
    present = set(listed.labels)
    if classes is None or isinstance(classes, int):
        count = max(present) + 1 if classes is None else classes
        names = [str(label) for label in range(count)]
    else:
        names = [line.strip() for line in _lines(Path(classes)) if line.strip()]
        count = len(names)
    where = "" if classes is None else f" (data.source.classes={classes})"
    if count < 2:
        raise InputError(f"{listed.source} has videos of one class only{where}; there is nothing to tell apart")
    for videos in (listed, val):
        outside = sorted({label for label in videos.labels if label >= count})
        if outside:
            raise InputError(
                f"{videos.source} has the label {outside[0]}, but there are {count} classes, 0 to {count - 1}"
                f"{where or f', by {listed.source}; say how many there are with data.source.classes=NUMBER'}"
            )
    if len(set(train.labels)) < 2:
        raise InputError(
            f"{train.source} has videos of class {train.labels[0]} only to train on; there is nothing to tell apart"
        )
    absent = [str(label) for label in range(count) if label not in present]
    if absent and classes is None:
        raise InputError(
            f"the labels of {listed.source} have gaps: of 0 to {count - 1} no video has {', '.join(absent[:10])}"
            f"{', …' if len(absent) > 10 else ''}. Number the classes without gaps, or say data.source.classes={count} "
            f"where such classes are meant"
        )
    return names


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a readable text file ({error})") from error


def _cut(line: str) -> tuple[str, str]:
    """Split a line at the separator that leaves a number behind it; at the likeliest where none does."""
    ways = []
    if "\t" in line:
        ways.append(line.rpartition("\t")[::2])
    if "," in line:
        cells = next(csv.reader([line.strip()], skipinitialspace=True))
        ways.append((",".join(cells[:-1]), cells[-1]) if line.strip().startswith('"') else line.rpartition(",")[::2])
    if len(words := line.strip().rsplit(None, 1)) == 2:
        ways.append((words[0], words[1]))
    stripped = [(name.strip().strip('"'), label.strip()) for name, label in ways]
    whole = [way for way in stripped if _NUMBER.fullmatch(way[1])]
    return (whole or stripped or [(line.strip(), "")])[0]


def _has_header(lines: list[str]) -> bool:
    """Tell whether the first of two lines names the columns; a file `a.mp4` with a wrong label is a mistake instead."""
    (name, label), *others = [_cut(line) for line in lines] or [("", "")]
    if name.lower() in _HEADERS:
        return not _NUMBER.fullmatch(label)
    is_word = re.fullmatch(r"[^\W\d].*", label) is not None
    return is_word and not Path(name).suffix and any(_NUMBER.fullmatch(after) for _, after in others)
