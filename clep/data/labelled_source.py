"""Where labelled videos come from: a list to train on, and what is held out of it, or a list of its own."""

from pathlib import Path
from typing import Any, Literal, NamedTuple

from clep.data.labelled_videos import LabelledVideos, class_names
from clep.errors import InputError


class LabelledSplit(NamedTuple):
    """Videos to train on, videos to measure on, and the names of their classes."""

    train: LabelledVideos
    val: LabelledVideos
    classes: list[str]


class LabelledVideoSource:
    """Labelled videos, split into a training and a held-out part.

    Args:
        train: list of videos to train on, lines `path label` (see `LabelledVideos.read`).
        val: list of videos to measure on; None holds some of `train` out.
        val_fraction: share of the videos of `train` held out, chosen by a hash of the file's name; without `val` only.
        folder: where paths start that are not absolute; None for the folder of their list.
        classes: a text file of class names, one a line; or their number; None for as many as the labels say.
        on_error: "error" refuses files that are missing or cannot be decoded, "skip" counts them and goes on.

    Raises:
        InputError: options that make no sense.
    """

    def __init__(
        self,
        train: str | Path,
        val: str | Path | None = None,
        val_fraction: float | int = 0.1,
        folder: str | Path | None = None,
        classes: str | Path | int | None = None,
        on_error: Literal["error", "skip"] = "error",
    ) -> None:
        if val is None and not 0 < val_fraction < 1:
            raise InputError(
                f"data.source.val_fraction={val_fraction} must lie between 0 and 1, or give data.source.val=CSV"
            )
        self.train, self.val, self.val_fraction = train, val, val_fraction
        self.folder, self.classes, self.on_error = folder, classes, on_error
        self.report: dict[str, Any] = {}
        self._opened: LabelledSplit | None = None

    def open(self) -> LabelledSplit:
        """Read the lists, once.

        Raises:
            InputError: a list or a class is not as it should be, or files are missing.
        """
        if self._opened is None:
            listed = LabelledVideos.read(self.train, self.folder)
            train, missing = listed.existing(self.on_error)
            if self.val is None:
                train, val = train.hold_out(self.val_fraction)
            else:
                val, also_missing = LabelledVideos.read(self.val, self.folder).existing(self.on_error)
                missing = missing + also_missing
            classes = class_names(listed, train, val, self.classes)
            untrained = sorted(set(range(len(classes))) - set(train.labels))
            self.report = {
                "training videos": len(train),
                "held-out videos": len(val),
                "classes": len(classes),
                "classes without a training video": len(untrained),
                "files that do not exist": len(missing),
                "missing": [str(path) for path in missing],
                "not trained on": [classes[label] for label in untrained],
            }
            self._opened = LabelledSplit(train, val, classes)
        return self._opened
