"""Regions of an action-detection dataset: box, person and actions of each row of a region bank."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int32, Int64
from torch import Tensor
from torch.utils.data import Dataset

from clep.bank import FeatureBank
from clep.data.dataset import Batch, as_draw
from clep.data.key_frame_clips import KeyFrameClips
from clep.data.long_term import LongTerm
from clep.data.sampler import Draw
from clep.datasets.ava import AVA_ACTIONS, read_label_map
from clep.errors import InputError
from clep.hdf5 import read_table_file, write_table_file
from clep.metrics.ava import AVA_60

FORMAT = "clep-regions"
VERSION = 2
COLUMNS = ("video", "second", "box", "score", "person", "annotated", "first_action")


@dataclass(frozen=True)
class Regions:
    """The regions of a bank, in the order of its rows; stored in one HDF5 file beside the bank.

    Attributes:
        videos: ids of the bank's videos, in its order.
        boxes_digest: digest of each video's boxes, to detect changed boxes.
        video: index of each region's video.
        second: second of each region's key frame in the annotations.
        box: x1, y1, x2, y2 as fractions of the frame's width and height.
        score: confidence of the detector; 1 for annotated boxes.
        person: id of the annotated person within the video; -1 if unknown.
        annotated: whether the box was annotated, with its actions, or detected.
        first_action: the actions of region `i` are `action[first_action[i] : first_action[i + 1]]`.
        action: action ids of AVA.

    Raises:
        InputError: columns of unequal length, or a box without area or outside the frame.

    Examples:
        >>> import numpy as np
        >>> from clep.data import Regions
        >>> regions = Regions(
        ...     videos=("kitchen",),
        ...     boxes_digest=("",),
        ...     video=np.array([0, 0], np.int32),
        ...     second=np.array([902.0, 903.0]),
        ...     box=np.array([[0.1, 0.2, 0.5, 0.9], [0.1, 0.2, 0.6, 0.9]], np.float32),
        ...     score=np.ones(2, np.float32),
        ...     person=np.array([1, 1], np.int32),
        ...     annotated=np.array([True, True]),
        ...     first_action=np.array([0, 2, 3]),
        ...     action=np.array([12, 80, 12], np.int32),
        ... )
        >>> regions.targets(np.array([0, 1]), classes=[12, 80])
        tensor([[1., 1.],
                [1., 0.]])
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
        bounds = self.first_action
        ordered = len(bounds) == len(self.video) + 1 and bounds[0] == 0 and bool(np.all(np.diff(bounds) >= 0))
        if not ordered or bounds[-1] != len(self.action):
            raise InputError(
                f"{len(self.video)} regions need {len(self.video) + 1} offsets of actions that end at "
                f"{len(self.action)}, not {len(self.first_action)}; make the file again with "
                f"`python -m clep.preprocess ava`"
            )
        lengths = {len(column) for column in (self.second, self.box, self.score, self.person, self.annotated)}
        known = bool(np.all((self.video >= 0) & (self.video < len(self.videos)) & np.isfinite(self.second)))
        if lengths != {len(self.video)} or not known or len(self.boxes_digest) != len(self.videos):
            raise InputError(
                f"the columns of {len(self.video)} regions have other lengths, a second that is not finite, or a video "
                f"that is not in the list; make the file again with `python -m clep.preprocess ava`"
            )
        inside = np.all((self.box >= 0) & (self.box <= 1), 1)  # False for NaN
        wrong = ~inside | np.any(self.box[:, :2] >= self.box[:, 2:], 1)
        if wrong.any():
            first = int(wrong.argmax())
            raise InputError(
                f"region {first} has the box {self.box[first].tolist()}, without area or outside [0, 1]; correct the "
                f"annotations and run `python -m clep.preprocess ava` again"
            )

    def __len__(self) -> int:
        """Return the number of regions."""
        return len(self.video)

    def targets(self, rows: Int64[np.ndarray, " rows"], classes: Sequence[int]) -> Float32[Tensor, "rows classes"]:
        """Return 1 where a region shows an action of `classes`, else 0; other actions are ignored."""
        target = np.zeros((len(rows), len(classes)), np.float32)
        column = {action: index for index, action in enumerate(classes)}
        for index, row in enumerate(rows.tolist()):
            for action in self.action[self.first_action[row] : self.first_action[row + 1]].tolist():
                if action in column:
                    target[index, column[action]] = 1
        return torch.from_numpy(target)

    def check_bank(self, bank: FeatureBank, path: str | Path) -> None:
        """Check that a bank holds these regions.

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
                f"{path} does not describe the rows of {bank.path}: they come from different runs; make both again "
                f"with `python -m clep.preprocess ava`"
            )

    def write(self, path: str | Path) -> None:
        """Write the file atomically.

        Raises:
            InputError: the disk is full or the folder cannot be written to.
        """
        columns = {f"region/{name}": getattr(self, name) for name in COLUMNS}
        texts = {"video/id": self.videos, "video/boxes_digest": self.boxes_digest}
        write_table_file(path, FORMAT, VERSION, {}, {**texts, **columns, "action/id": self.action})

    @classmethod
    def open(cls, path: str | Path) -> "Regions":
        """Read the whole file.

        Raises:
            InputError: the file is missing, damaged, of another format, or of a later version.
        """
        remedy = "make it again with `python -m clep.preprocess ava`"
        columns: dict[str, Any] = read_table_file(path, FORMAT, VERSION, 1, "a file of regions", remedy).columns
        try:
            return cls(
                videos=tuple(columns["video/id"]),
                boxes_digest=tuple(columns["video/boxes_digest"]),
                action=columns["action/id"],
                **{name: columns[f"region/{name}"] for name in COLUMNS},
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise InputError(f"{path} is damaged ({type(error).__name__}: {error}); {remedy}") from error


def _seconds(bank: FeatureBank, video: str) -> Float64[np.ndarray, " rows"]:
    seconds = bank.video_seconds(video)
    return np.empty(0) if seconds is None else seconds.cpu().numpy()


class RegionDataset(Dataset[Batch]):
    """Regions of a bank as examples of action detection.

    Keys of a batch: `video` `[b, d]`, the regions' rows, or with clips `clips`, `boxes` and `clip_of_box`, see
    `clep.models.RegionEncoder`; `context` with `context_mask`, gathered from the long-term bank; `target`
    `[b, classes]`; and `moment` `[b]`, the index in the dataset.

    Args:
        regions: regions of the bank.
        bank: bank with one row per region.
        rows: indices of the regions that are examples.
        classes: action ids, one per column of the target.
        context: rule for the long-term context of a region.
        context_bank: the bank of the context; None for `bank`. A region whose video is not in it has an empty context.
        clips: source of pixels, for models with a trainable short-term encoder; None for the rows of the bank.
        augment: crop and mirror clips at random.
    """

    def __init__(
        self,
        regions: Regions,
        bank: FeatureBank,
        rows: Int64[np.ndarray, " rows"],
        classes: Sequence[int],
        context: LongTerm,
        context_bank: FeatureBank | None = None,
        clips: KeyFrameClips | None = None,
        augment: bool = False,
    ) -> None:
        self.regions, self.bank, self.context, self.clips = regions, bank, context, clips
        self.augment = augment
        self.context_bank = context_bank or bank
        self._row = torch.from_numpy(rows)
        self._second = torch.from_numpy(regions.second[rows])
        self._box = torch.from_numpy(regions.box[rows])
        in_context_bank = self.context_bank.index(regions.videos).cpu()
        self._video = torch.from_numpy(regions.video[rows]).long()
        self._context_video = in_context_bank[self._video]
        self.without_context = sorted(regions.videos[index] for index in np.flatnonzero(in_context_bank.numpy() < 0))
        self.target = regions.targets(rows, classes)

    def __len__(self) -> int:
        return len(self._row)

    @property
    def rows(self) -> Int64[np.ndarray, " rows"]:
        """Index of each example's region."""
        return self._row.numpy()

    def __getitem__(self, index: int) -> Batch:
        """Return one region as a batch of one."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"region {index} of {len(self)}")
        return self.__getitems__([index % len(self)])

    def __getitems__(self, draw: Draw | Sequence[int]) -> Batch:
        """Return a whole batch; the seed of a `Draw` is that of its random samples and augmentation."""
        draw = as_draw(draw)
        return self.gather(self.indices(draw.moments, draw.seed), draw.seed)

    def indices(self, index: Int64[Tensor, " batch"], seed: int | None = None) -> Batch:
        """Return the part of a batch that needs no bank: indices, targets, and the pixels of clips."""
        batch = {
            "moment": index,
            "row": self._row[index],
            "context_video": self._context_video[index],
            "second": self._second[index],
            "target": self.target[index],
        }
        return batch if self.clips is None else batch | self._pixels(index, seed)

    def gather(self, indices: Batch, seed: int | None = None) -> Batch:
        """Return the batch with the rows of the banks, on their device; with a seed, the context is a random sample."""
        batch = dict(indices)
        row, video, second = (batch.pop(name) for name in ("row", "context_video", "second"))
        batch |= self.context.gather(self.context_bank, video, second, seed, on_missing="skip")
        if self.clips is None:
            batch["video"] = self.bank.take(row)
        return batch

    def _pixels(self, index: Int64[Tensor, " batch"], seed: int | None) -> Batch:
        """Decode the clip of each key frame of a batch once, video by video, and augment it with its boxes."""
        assert self.clips is not None
        frames = list(zip(self._video[index].tolist(), self._second[index].tolist(), strict=True))
        clip_index = {frame: index for index, frame in enumerate(dict.fromkeys(frames))}
        clip_of_box = torch.tensor([clip_index[frame] for frame in frames], dtype=torch.int64)
        boxes = self._box[index].clone()
        clips: list[Tensor] = [torch.empty(0)] * len(clip_index)
        for video in dict.fromkeys(video for video, _ in clip_index):
            seconds = [second for other, second in clip_index if other == video]
            for second, clip in self.clips.read(self.regions.videos[video], seconds).items():
                clips[clip_index[video, second]] = clip
        if self.augment and seed is not None:
            generator = torch.Generator().manual_seed(seed)
            for clip_number in range(len(clips)):
                own = clip_of_box == clip_number
                clips[clip_number], boxes[own] = self.clips.augment(clips[clip_number], boxes[own], generator)
        return {"clips": torch.stack(clips), "boxes": boxes, "clip_of_box": clip_of_box}


Which = Literal["annotated", "detected"]


class RegionSource:
    """The regions of one split.

    Args:
        bank: path of a bank of the job `ava`, e.g. train.h5.
        regions: path of its regions file; None for `X.regions.h5` beside `X.h5`.
        context_bank: path of the bank of the long-term context; None for `bank`. With a bank of detected boxes,
            training sees the same kind of context as evaluation.
        boxes: which regions are examples: "annotated" or "detected".

    Examples:
        >>> from clep.data import LongTerm, RegionSource
        >>> source = RegionSource("ava/train.h5")
        >>> dataset = source.open(classes=[79, 80], context=LongTerm(window_s=10, per_second=1))
        >>> batch = dataset.__getitems__([0, 1, 2])
        >>> batch["video"].shape, batch["context"].shape, batch["target"].shape
        (torch.Size([3, 12]), torch.Size([3, 6, 12]), torch.Size([3, 2]))
    """

    reads = ("bank", "regions", "context_bank")  # arguments that name files

    def __init__(
        self,
        bank: str | Path,
        regions: str | Path | None = None,
        context_bank: str | Path | None = None,
        boxes: Which = "annotated",
    ) -> None:
        self.bank_path = Path(bank)
        self.regions_path = Path(regions) if regions else self.bank_path.with_suffix(".regions.h5")
        self.context_path = Path(context_bank) if context_bank else self.bank_path
        self.boxes = boxes

    @property
    def encoders(self) -> tuple[str, str]:
        """Names of the encoders of the bank and of the context bank."""
        return FeatureBank.open(self.bank_path).encoder, FeatureBank.open(self.context_path).encoder

    @property
    def dims(self) -> tuple[int, int]:
        """Feature dimensions of the bank and of the context bank."""
        return FeatureBank.open(self.bank_path).dim, FeatureBank.open(self.context_path).dim

    def open(
        self,
        classes: Sequence[int],
        context: LongTerm,
        device: str = "disk",
        clips: KeyFrameClips | None = None,
        augment: bool = False,
    ) -> RegionDataset:
        """Open the banks and return the dataset; the arguments are those of `RegionDataset`.

        Raises:
            InputError: a file is missing or from another run, there are no such boxes, or no video has a context.
        """
        bank = FeatureBank.open(self.bank_path, device)
        regions = Regions.open(self.regions_path)
        regions.check_bank(bank, self.regions_path)
        same = self.context_path == self.bank_path
        other = None if same else FeatureBank.open(self.context_path, device)
        found = RegionDataset(regions, bank, self.rows(regions), classes, context, other, clips, augment)
        if len(found.without_context) == len(regions.videos):
            raise InputError(
                f"{self.context_path} has no rows of any of the {len(regions.videos)} videos of {self.bank_path}, such "
                f"as {regions.videos[0]!r}; is it the bank of this split?"
            )
        return found

    def rows(self, regions: Regions) -> Int64[np.ndarray, " rows"]:
        """Return the indices of the regions that are examples.

        Raises:
            InputError: there are no such regions; the message names the job that makes them.
        """
        rows = np.flatnonzero(regions.annotated if self.boxes == "annotated" else ~regions.annotated)
        if not len(rows):
            raise InputError(
                f"{self.regions_path} has no {self.boxes} boxes; `python -m clep.preprocess ava boxes={self.boxes}` "
                f"makes a bank of them"
            )
        return rows


def action_classes(label_map: str | Path | None) -> list[int]:
    """Return the action ids to learn: None for the challenge's 60, "all" for AVA's 80, or those of a label map."""
    if label_map is None:
        return list(AVA_60)
    return list(AVA_ACTIONS) if str(label_map) == "all" else list(read_label_map(label_map))
