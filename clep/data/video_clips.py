"""Clips of labelled videos, decoded when they are asked for: random ones to train on, fixed views to measure on."""

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


log = logging.getLogger(__name__)

UNREADABLE = -1

"""Target of a video that could not be decoded; its pixels are zeros."""


@dataclass(frozen=True)
class Augmentation:
    """What is random in a training clip besides its frames, one choice a clip.

    Attributes:
        short_side: short side of the decoded frames, in sides of the encoder's square; 256/224 as TimeSformer's least.
        scales: sides of the rectangle that is cut out, see `clep.video.transforms.multi_scale_crop`.
        flip: chance to mirror a clip; 0 where left and right tell classes apart.
        views: a training clip covers this part of its video (1: all of it), wherever in it.

    Raises:
        InputError: a value is out of range.
    """

    short_side: float | int = 256 / 224
    scales: Sequence[float | int] = (1.0, 0.875, 0.75, 0.66)
    flip: float | int = 0.5
    views: int = 1

    def __post_init__(self) -> None:
        if self.short_side < 1 or self.views < 1 or not 0 <= self.flip <= 1:
            raise InputError(
                f"data.augment: short_side={self.short_side} and views={self.views} must be at least 1, "
                f"flip={self.flip} a chance"
            )
        if not self.scales or not all(0 < scale <= 1 for scale in self.scales):
            raise InputError(f"data.augment.scales={list(self.scales)} must lie above 0 and at most at 1")


class VideoClips(Dataset[dict[str, Any]]):
    """Clips by the number of their video; a whole batch is fetched at once.

    A batch has `pixels` (uint8), `target` `[b]`, `moment` `[b]` (the numbers), and `unreadable`, why videos of it could
    not be decoded; their target is `UNREADABLE`. Nothing is raised: a worker's error would reach the user as a
    traceback.

    Args:
        videos: what there is.
        clip: the pixels that the encoder wants.
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
        """Return zeros of that shape."""

    def __getitems__(self, draw: Draw | Sequence[int]) -> dict[str, Any]:
        """Return a batch; what is random in an example depends on the draw's seed and the example alone."""
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
    """One random clip a video, `pixels` `[b, frames, 3, side, side]`: random instants, crop and mirroring.

    Args:
        videos, clip: see `VideoClips`.
        augment: what is random.
    """

    def __init__(self, videos: LabelledVideos, clip: ClipSpec, augment: Augmentation) -> None:
        super().__init__(videos, clip)
        self.augment = augment

    def decode(self, path: Path, seed: int) -> UInt8[Tensor, "frames 3 side side"]:
        """Return a clip; equal seeds give equal ones."""
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
    """The same views of a video each time, `pixels` `[b, views * crops, frames, 3, side, side]`.

    Args:
        videos, clip: see `VideoClips`.
        views: equal parts of the video, of each of which a clip is made, TimeSformer's rule (`Segments`).
        crops: "centre", "three" or "ten" crops of each.
    """

    def __init__(self, videos: LabelledVideos, clip: ClipSpec, views: int = 1, crops: str = "three") -> None:
        super().__init__(videos, clip)
        self.sampling, self.crops = Segments(views), crops
        self._crops = len(crops_of(self._frame(clip), crops, clip.crop_px))

    def decode(self, path: Path, seed: int) -> UInt8[Tensor, "views frames 3 side side"]:
        """Return all views; nothing is random."""
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
    """Count a video that could not be decoded, and tell of it once.

    Raises:
        InputError: `on_error` is "error".
    """
    if on_error == "error":
        raise InputError(f"{reason} (data.source.on_error=skip goes on without such videos)")
    if reason not in seen:
        log.warning("left out: %s", reason)
    seen[reason] = seen.get(reason, 0) + 1
