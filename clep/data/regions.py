"""Regions of an action-detection set: for each row of a region bank its box, its person and what that person does."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int32, Int64
from torch import Tensor

from clep.bank import FeatureBank
from clep.errors import InputError
from clep.files import atomic_path

FORMAT = "clep-regions"
VERSION = 1


@dataclass(frozen=True)
class Regions:
    """The regions of a bank in the order of its rows, in one HDF5 file beside it: data, not code.

    Attributes:
        videos: of the bank, in its order.
        boxes_digest: of each video, what its boxes are told apart by.
        video: number of each region's video.
        second: of each region's key frame, as the annotations count.
        box: x1, y1, x2, y2 as fractions of the frame's width and height.
        score: of the detector; 1 where a box was annotated.
        person: number of the annotated person within the video; -1 where unknown.
        annotated: whether the box was annotated, so that its actions are known; else it was detected.
        first_action: the actions of region `i` are `action[first_action[i] : first_action[i + 1]]`.
        action: ids, as AVA numbers them.

    Raises:
        InputError: columns of unequal length, or a box without area or outside the frame.
    """

    videos: tuple[str, ...]
    boxes_digest: tuple[str, ...]
    video: Int32[np.ndarray, " n"]
    second: Float64[np.ndarray, " n"]
    box: Float32[np.ndarray, "n 4"]
    score: Float32[np.ndarray, " n"]
    person: Int32[np.ndarray, " n"]
    annotated: Bool[np.ndarray, " n"]
    first_action: Int64[np.ndarray, " bounds"]
    action: Int32[np.ndarray, " actions"]

    def __post_init__(self) -> None:
        if len(self.first_action) != len(self.video) + 1 or self.first_action[-1] != len(self.action):
            raise InputError(f"{len(self.video)} regions need as many bounds of actions and one more")
        wrong = np.any((self.box < 0) | (self.box > 1), 1) | np.any(self.box[:, :2] >= self.box[:, 2:], 1)
        if wrong.any():
            first = int(wrong.argmax())
            raise InputError(f"region {first} has the box {self.box[first].tolist()}: no area, or outside [0, 1]")

    def __len__(self) -> int:
        """Return the number of regions."""
        return len(self.video)

    def targets(self, rows: Int64[np.ndarray, " rows"], classes: Sequence[int]) -> Float32[Tensor, "rows classes"]:
        """Return 1 where a region shows an action of `classes`, else 0; other actions are passed over."""
        target = np.zeros((len(rows), len(classes)), np.float32)
        column = {action: place for place, action in enumerate(classes)}
        for place, row in enumerate(rows.tolist()):
            for action in self.action[self.first_action[row] : self.first_action[row + 1]].tolist():
                if action in column:
                    target[place, column[action]] = 1
        return torch.from_numpy(target)

    def check_bank(self, bank: FeatureBank, path: str | Path) -> None:
        """Refuse a bank of other regions.

        Raises:
            InputError: videos, rows or seconds differ; names both files.
        """
        first = np.searchsorted(self.video, np.arange(len(self.videos) + 1)).tolist()
        same = tuple(bank.videos) == self.videos and bank.n_rows == len(self)
        same = same and all(
            np.array_equal(_seconds(bank, video), self.second[start:end])
            for video, start, end in zip(self.videos, first, first[1:], strict=False)
        )
        if not same:
            raise InputError(
                f"{path} does not describe the rows of {bank.path}: they are of two runs; make both again with "
                f"`python -m clep.preprocess ava`"
            )

    def write(self, path: str | Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            InputError: the disk is full or the folder cannot be written to.
        """
        text = h5py.string_dtype("utf-8")
        with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
            file.attrs["format"], file.attrs["version"] = FORMAT, VERSION
            file.create_dataset("video/id", data=np.array(self.videos, dtype=object), dtype=text)
            file.create_dataset("video/boxes_digest", data=np.array(self.boxes_digest, dtype=object), dtype=text)
            for name in ("video", "second", "box", "score", "person", "annotated", "first_action"):
                file.create_dataset(f"region/{name}", data=getattr(self, name))
            file.create_dataset("action/id", data=self.action)

    @classmethod
    def open(cls, path: str | Path) -> "Regions":
        """Read the file; it is small beside its bank, so all of it is read.

        Raises:
            InputError: the file is missing, damaged, not of this format, or of a later version.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"{path} does not exist; make it with `python -m clep.preprocess ava`")
        try:
            with h5py.File(path, "r") as file:
                found, version = file.attrs.get("format"), int(file.attrs.get("version", 0))
                if found != FORMAT or version > VERSION:
                    raise InputError(f"{path} is not a file of regions (format {found!r}, version {version})")
                columns = {
                    name: file[f"region/{name}"][...]
                    for name in ("video", "second", "box", "score", "person", "annotated", "first_action")
                }
                return cls(
                    videos=tuple(str(name) for name in file["video/id"].asstr()[...]),
                    boxes_digest=tuple(str(name) for name in file["video/boxes_digest"].asstr()[...]),
                    action=file["action/id"][...],
                    **columns,
                )
        except (OSError, KeyError) as error:
            raise InputError(f"{path} cannot be read ({error}); make it again") from error


def _seconds(bank: FeatureBank, video: str) -> Float64[np.ndarray, " rows"]:
    seconds = bank.video_seconds(video)
    return np.empty(0) if seconds is None else seconds.cpu().numpy()
