"""List of labelled video files, `path label` on each line, as used by TimeSformer and others."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clep.datasets.splits import hash_fraction
from clep.errors import InputError
from clep.remote import is_remote, join, parent
from clep.tables import read_lines, split_cells

_NUMBER = re.compile(r"\d+")
_HEADERS = {"path", "file", "filename", "filepath", "video", "video_path", "clip"}
_SHOWN = 3


@dataclass(frozen=True)
class LabelledVideos:
    """Video files with one label each.

    Attributes:
        paths: paths of the files.
        labels: class indices, from 0.
        source: the list, for messages.

    Examples:
        >>> from clep.data import LabelledVideos
        >>> videos = LabelledVideos.read("films/train.csv")
        >>> videos.labels
        (0, 1, 2, 0, 1, 2)
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

        The label follows the last separator, so paths may contain blanks; a path with commas is quoted, or separated by
        a blank or a tab. The first line is a header if its label is a word, its path has no suffix, and the next line
        has a numeric label.

        Args:
            path: the list.
            folder: base folder of relative paths; None: the folder of the list.

        Raises:
            InputError: the file cannot be read, is empty, or a line has no path or an invalid label; the message names
                the line.
        """
        path = Path(path)
        base = Path(folder or (parent(path) if is_remote(path) else path.parent))
        paths: list[Path] = []
        labels: list[int] = []
        lines = [(number, line) for number, line in enumerate(read_lines(path), start=1) if line.strip()]
        for number, line in lines[1:] if _has_header([line for _, line in lines[:2]]) else lines:
            name, label = _split_line(line)
            if not name or not label:
                raise InputError(f"{path}, line {number}: expected `path label` or `path,label`, got {line.strip()!r}")
            if not _NUMBER.fullmatch(label):
                raise InputError(
                    f"{path}, line {number}: the label {label!r} is not a class index from 0; write indices, and put "
                    f"the class names into another file, one per line (data.source.classes=FILE)"
                )
            paths.append(Path(join(base, name)) if is_remote(base) or is_remote(name) else base / name)
            labels.append(int(label))
        if not paths:
            raise InputError(f"{path} is empty; expected lines `path label`")
        return cls(tuple(paths), tuple(labels), str(path))

    def select(self, indices: Sequence[int]) -> "LabelledVideos":
        """Return the videos at `indices`."""
        paths, labels = (self.paths[i] for i in indices), (self.labels[i] for i in indices)
        return LabelledVideos(tuple(paths), tuple(labels), self.source)

    def existing(self, on_error: str) -> tuple["LabelledVideos", list[Path]]:
        """Return the videos whose files exist, and the paths of the missing ones; remote ones are taken to exist.

        Args:
            on_error: "error" raises if files are missing, "skip" drops them.

        Raises:
            InputError: files are missing and `on_error` is "error", or all are missing.
        """
        absent = {index for index, path in enumerate(self.paths) if not is_remote(path) and not path.is_file()}
        missing = [self.paths[index] for index in sorted(absent)]
        if missing and (on_error == "error" or len(absent) == len(self)):
            shown = ", ".join(str(path) for path in missing[:_SHOWN]) + ", …" * (len(missing) > _SHOWN)
            raise InputError(
                f"{len(absent)} of the {len(self)} videos of {self.source} do not exist ({shown}); set the folder of "
                f"relative paths with data.source.folder=DIR, or drop such videos with data.source.on_error=skip"
            )
        return self.select([index for index in range(len(self)) if index not in absent]), missing

    def hold_out(self, fraction: float | int) -> tuple["LabelledVideos", "LabelledVideos"]:
        """Split into training and held-out videos by the hash of the file name, stable when videos are added.

        Raises:
            InputError: a side would be empty.
        """
        held = [index for index, path in enumerate(self.paths) if hash_fraction(path.name) < fraction]
        if not 0 < len(held) < len(self):
            raise InputError(
                f"data.source.val_fraction={fraction} of the {len(self)} videos of {self.source} leaves "
                f"{len(self) - len(held)} for training and {len(held)} held out; choose another fraction, or give a "
                f"validation list with data.source.val=CSV"
            )
        rest = sorted(set(range(len(self))) - set(held))
        return self.select(rest), self.select(held)


def class_names(
    listed: LabelledVideos, train: LabelledVideos, val: LabelledVideos, classes: str | Path | int | None
) -> list[str]:
    """Return the class names, "0", "1", … if there are no names, and check the labels.

    Args:
        listed: all videos of the training list, held-out and missing ones included.
        train, val: training and validation videos.
        classes: a text file of names, one per line, in the order of the labels; the number of classes; or None: the
            highest listed label + 1, and all classes must occur.

    Raises:
        InputError: a label out of range, fewer than two classes in training, or, if `classes` is None, labels with
            gaps.
    """
    present = set(listed.labels)
    if classes is None or isinstance(classes, int):
        count = max(present) + 1 if classes is None else classes
        names = [str(label) for label in range(count)]
    else:
        names = [line.strip() for line in read_lines(classes) if line.strip()]
        count = len(names)
    where = "" if classes is None else f" (data.source.classes={classes})"
    if count < 2:
        raise InputError(f"{listed.source} has videos of one class only{where}; a classifier needs two or more")
    for videos in (listed, val):
        outside = sorted({label for label in videos.labels if label >= count})
        if outside:
            raise InputError(
                f"{videos.source} has the label {outside[0]}, but there are {count} classes, 0 to {count - 1}"
                f"{where or f' in {listed.source}; set their number with data.source.classes=NUMBER'}"
            )
    if len(set(train.labels)) < 2:
        raise InputError(
            f"{train.source} has training videos of class {train.labels[0]} only; a classifier needs two or more"
        )
    absent = [str(label) for label in range(count) if label not in present]
    if absent and classes is None:
        raise InputError(
            f"the labels of {listed.source} have gaps: of 0 to {count - 1} no video has {', '.join(absent[:10])}"
            f"{', …' if len(absent) > 10 else ''}. Use labels without gaps, or set data.source.classes={count} if "
            f"these classes exist"
        )
    return names


def _split_line(line: str) -> tuple[str, str]:
    """Split a line into path and label: at a tab, comma or blank that a number follows; else at the first of these."""
    candidates = []
    if "\t" in line:
        candidates.append(line.rpartition("\t")[::2])
    if line.strip().startswith('"') and "," in line:
        cells = split_cells(line.strip(), strict=False)
        candidates.append((",".join(cells[:-1]), cells[-1]))
    elif "," in line:
        candidates.append(line.rpartition(",")[::2])
    if len(words := line.strip().rsplit(None, 1)) == 2:
        candidates.append((words[0], words[1]))
    stripped = [(name.strip().strip('"'), label.strip()) for name, label in candidates]
    numeric = [pair for pair in stripped if _NUMBER.fullmatch(pair[1])]
    return (numeric or stripped or [(line.strip(), "")])[0]


def _has_header(lines: list[str]) -> bool:
    """Whether the first of two lines is a header; a file `a.mp4` with an invalid label is an error instead."""
    (name, label), *others = [_split_line(line) for line in lines] or [("", "")]
    if name.lower() in _HEADERS:
        return not _NUMBER.fullmatch(label)
    is_word = re.fullmatch(r"[^\W\d].*", label) is not None
    return is_word and not Path(name).suffix and any(_NUMBER.fullmatch(after) for _, after in others)
