"""Clips of labelled videos, decoded on demand: random clips for training, fixed views for evaluation."""

import logging
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import Dataset

from clep.data.dataset import as_draw
from clep.data.sampler import Draw
from clep.datasets.labelled_videos import LabelledVideos, class_names
from clep.errors import InputError
from clep.video import ClipSpec, RandomSegment, Segments, VideoReader
from clep.video.transforms import crops_of, multi_scale_crop, random_flip


class LabelledSplit(NamedTuple):
    """Training videos, held-out videos, and class names."""

    train: LabelledVideos
    val: LabelledVideos
    classes: list[str]


class LabelledVideoSource:
    """Labelled videos, split into training and held-out videos.

    Args:
        train: list of training videos, lines `path label` (see `LabelledVideos.read`).
        val: list of held-out videos; None holds out videos of `train`.
        val_fraction: without `val`, the fraction of `train` that is held out, by a hash of the file name.
        folder: base of relative paths; None for the folder of their list.
        classes: a text file of class names, one per line; or the number of classes; None derives it from the labels.
        on_error: "error" raises on files that are missing or cannot be decoded, "skip" counts them.

    Raises:
        InputError: `val_fraction` is out of range.

    Examples:
        >>> from clep.data import LabelledVideoSource
        >>> split = LabelledVideoSource("films/train.csv", val="films/train.csv").open()
        >>> len(split.train.paths), split.classes
        (6, ['0', '1', '2'])
    """

    reads = ("train", "val", "folder", "classes")  # arguments that name files

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
                f"data.source.val_fraction={val_fraction} must be between 0 and 1; or set data.source.val=CSV"
            )
        self.train, self.val, self.val_fraction = train, val, val_fraction
        self.folder, self.classes, self.on_error = folder, classes, on_error
        self.report: dict[str, Any] = {}
        self._opened: LabelledSplit | None = None

    def open(self) -> LabelledSplit:
        """Read the lists, once.

        Raises:
            InputError: a list or a label is invalid, or files are missing.
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


log = logging.getLogger(__name__)

UNREADABLE = -1  # target of a video that could not be decoded; its pixels are zeros


@dataclass(frozen=True)
class Augmentation:
    """Augmentation of training clips, besides the random choice of frames; the same for all frames of a clip.

    Attributes:
        short_side: short side of the decoded frames, as a multiple of the encoder's crop; 256/224 is TimeSformer's
            minimum.
        scales: relative sides of the random crop, see `clep.video.transforms.multi_scale_crop`.
        flip: probability of a horizontal flip; 0 if classes differ by left and right.
        views: a clip covers one random part of this many equal parts of its video (1: the whole video).

    Raises:
        InputError: a value is out of range.

    Examples:
        >>> from clep.data import Augmentation
        >>> Augmentation(flip=0.0, views=4).scales  # no mirroring: left and right are classes
        (1.0, 0.875, 0.75, 0.66)
    """

    short_side: float | int = 256 / 224
    scales: Sequence[float | int] = (1.0, 0.875, 0.75, 0.66)
    flip: float | int = 0.5
    views: int = 1

    def __post_init__(self) -> None:
        if self.short_side < 1 or self.views < 1 or not 0 <= self.flip <= 1:
            raise InputError(
                f"data.augment: short_side={self.short_side} and views={self.views} must be at least 1, "
                f"flip={self.flip} between 0 and 1"
            )
        if not self.scales or not all(0 < scale <= 1 for scale in self.scales):
            raise InputError(f"data.augment.scales={list(self.scales)} must be above 0 and at most 1")


class VideoClips(Dataset[dict[str, Any]]):
    """Base class: a dataset that decodes a batch of clips. Subclasses define `decode` and `blank`.

    Keys of a batch: `pixels` (uint8), `target` `[b]`, `moment` `[b]` (the index in the dataset), and `unreadable`, the
    reasons why videos could not be decoded; the target of such a video is `UNREADABLE`. Errors are not raised, because
    an error in a worker would reach the user as a traceback.

    Args:
        videos: the labelled videos.
        clip: frames and size that the encoder needs.
    """

    def __init__(self, videos: LabelledVideos, clip: ClipSpec) -> None:
        self.videos, self.clip = videos, clip

    def __len__(self) -> int:
        return len(self.videos)

    @abstractmethod
    def decode(self, path: Path, seed: int) -> UInt8[Tensor, "*views frames 3 side side"]:
        """Return the pixels of one video."""

    @abstractmethod
    def blank(self) -> UInt8[Tensor, "*views frames 3 side side"]:
        """Return zeros of the shape that `decode` returns."""

    def __getitems__(self, draw: Draw | Sequence[int]) -> dict[str, Any]:
        """Return a batch; the augmentation of an example depends only on the draw's seed and the index."""
        draw = as_draw(draw)
        pixels, targets, reasons = [], [], []
        for index in draw.moments.tolist():
            try:
                pixels.append(self.decode(self.videos.paths[index], (draw.seed * 1_000_003 + index) % 2**63))
                targets.append(self.videos.labels[index])
            except Exception as error:
                known = isinstance(error, InputError)
                reasons.append(str(error) if known else f"{self.videos.paths[index]}: {type(error).__name__}: {error}")
                pixels.append(self.blank())
                targets.append(UNREADABLE)
        return {
            "pixels": torch.stack(pixels),
            "target": torch.tensor(targets),
            "moment": draw.moments,
            "unreadable": reasons,
        }


class RandomClips(VideoClips):
    """One random clip per video, `pixels` `[b, frames, 3, side, side]`: random frames, crop and flip.

    Args:
        videos, clip: see `VideoClips`.
        augment: augmentation.
    """

    def __init__(self, videos: LabelledVideos, clip: ClipSpec, augment: Augmentation) -> None:
        super().__init__(videos, clip)
        self.augment = augment

    def decode(self, path: Path, seed: int) -> UInt8[Tensor, "frames 3 side side"]:
        """Return a clip; equal seeds give equal clips."""
        side = self.clip.crop_px
        reader = VideoReader(path, max(self.clip.short_side_px, round(side * self.augment.short_side)), threads=1)
        (sampled,) = reader.clips(RandomSegment(views=self.augment.views, seed=seed), self.clip.frames)
        random = torch.Generator().manual_seed(seed)
        clips = multi_scale_crop(torch.stack(sampled.frames)[None], side, random, self.augment.scales)
        return random_flip(clips, random, self.augment.flip)[0]

    def blank(self) -> UInt8[Tensor, "frames 3 side side"]:
        """Return a black clip."""
        return torch.zeros(self.clip.frames, 3, self.clip.crop_px, self.clip.crop_px, dtype=torch.uint8)


class FixedViews(VideoClips):
    """Fixed views of each video, `pixels` `[b, views * crops, frames, 3, side, side]`.

    Args:
        videos, clip: see `VideoClips`.
        views: number of equal parts of the video, with one clip each, as in TimeSformer (`Segments`).
        crops: "centre", "three" or "ten" crops of each clip.
    """

    def __init__(self, videos: LabelledVideos, clip: ClipSpec, views: int = 1, crops: str = "three") -> None:
        super().__init__(videos, clip)
        self.sampling, self.crops = Segments(views), crops
        self._crops = len(crops_of(self._frame(clip), crops, clip.crop_px))

    def decode(self, path: Path, seed: int) -> UInt8[Tensor, "views frames 3 side side"]:
        """Return all views; `seed` is ignored."""
        reader = VideoReader(path, self.clip.short_side_px, threads=1)
        parts = [torch.stack(sampled.frames) for sampled in reader.clips(self.sampling, self.clip.frames)]
        return torch.cat([crops_of(part, self.crops, self.clip.crop_px) for part in parts])

    def blank(self) -> UInt8[Tensor, "views frames 3 side side"]:
        """Return black views."""
        views = self.sampling.rows * self._crops
        return self._frame(self.clip).expand(views, self.clip.frames, -1, -1, -1).clone()

    @staticmethod
    def _frame(clip: ClipSpec) -> UInt8[Tensor, "3 side side"]:
        return torch.zeros(3, clip.crop_px, clip.crop_px, dtype=torch.uint8)


def note_unreadable(reason: str, on_error: str, seen: dict[str, int]) -> None:
    """Count a video that could not be decoded, and log it once.

    Raises:
        InputError: `on_error` is "error".
    """
    if on_error == "error":
        raise InputError(f"{reason} (data.source.on_error=skip skips such videos)")
    if reason not in seen:
        log.warning("skipped: %s", reason)
    seen[reason] = seen.get(reason, 0) + 1
