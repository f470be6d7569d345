"""Regions with their short-term features, the minute around them and their actions, a whole batch at once."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils.data import Dataset

from clep.bank import FeatureBank
from clep.data.dataset import Batch, as_draw
from clep.data.key_frame_clips import KeyFrameClips
from clep.data.long_term import LongTerm
from clep.data.regions import Regions
from clep.data.sampler import Draw


class RegionDataset(Dataset[Batch]):
    """Some regions of a bank as examples.

    Keys of a batch: `video` `[b, d]`, the regions' rows, or with clips `clips`, `boxes` and `clip_of_box`, see
    `clep.models.RegionEncoder`; `context` with `context_mask`, gathered from the long-term bank; `target`
    `[b, classes]`, and `moment`, the numbers of the examples.

    Args:
        regions: of the bank.
        bank: a row for each region.
        rows: which regions are examples.
        classes: ids of the actions, one for each column of the target.
        context: what the minute around a region is.
        context_bank: that it is gathered from; None for `bank`. A region whose video it lacks has an empty context.
        clips: where pixels come from, for a short-term side that is learned; None for the rows of the bank.
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
        numbers = self.context_bank.index(regions.videos).cpu()
        self._video = torch.from_numpy(regions.video[rows]).long()
        self._context_video = numbers[self._video]
        self.without_context = sorted(regions.videos[number] for number in np.flatnonzero(numbers.numpy() < 0))
        self.target = regions.targets(rows, classes)

    def __len__(self) -> int:
        return len(self._row)

    @property
    def rows(self) -> Int64[np.ndarray, " rows"]:
        """The number of each example's region."""
        return self._row.numpy()

    def __getitem__(self, index: int) -> Batch:
        """Return one region as a batch of one."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"region {index} of {len(self)}")
        return self.__getitems__([index % len(self)])

    def __getitems__(self, draw: Draw | Sequence[int]) -> Batch:
        """Return a whole batch; a `Draw` also seeds what is random in it."""
        draw = as_draw(draw)
        return self.gather(self.numbers(draw.moments, draw.seed), draw.seed)

    def numbers(self, index: Int64[Tensor, " batch"], seed: int | None = None) -> Batch:
        """Return a batch without what lies in the banks: numbers, targets, and where there are clips their pixels."""
        batch = {
            "moment": index,
            "row": self._row[index],
            "context_video": self._context_video[index],
            "second": self._second[index],
            "target": self.target[index],
        }
        return batch if self.clips is None else batch | self._pixels(index, seed)

    def gather(self, numbers: Batch, seed: int | None = None) -> Batch:
        """Add the rows of the banks, on their device; with a seed the context is sampled at random."""
        batch = dict(numbers)
        row, video, second = (batch.pop(name) for name in ("row", "context_video", "second"))
        batch |= self.context.gather(self.context_bank, video, second, seed, on_missing="skip")
        if self.clips is None:
            batch["video"] = self.bank.take(row)
        return batch

    def _pixels(self, index: Int64[Tensor, " batch"], seed: int | None) -> Batch:
        """Decode the clip of each key frame of a batch once, a video at a time, and augment it with its boxes."""
        assert self.clips is not None
        frames = list(zip(self._video[index].tolist(), self._second[index].tolist(), strict=True))
        place = {frame: number for number, frame in enumerate(dict.fromkeys(frames))}
        clip_of_box = torch.tensor([place[frame] for frame in frames], dtype=torch.int64)
        boxes = self._box[index].clone()
        clips: list[Tensor] = [torch.empty(0)] * len(place)
        for video in dict.fromkeys(video for video, _ in place):
            seconds = [second for number, second in place if number == video]
            for second, clip in self.clips.read(self.regions.videos[video], seconds).items():
                clips[place[video, second]] = clip
        if self.augment and seed is not None:
            generator = torch.Generator().manual_seed(seed)
            for number in range(len(clips)):
                own = clip_of_box == number
                clips[number], boxes[own] = self.clips.augment(clips[number], boxes[own], generator)
        return {"clips": torch.stack(clips), "boxes": boxes, "clip_of_box": clip_of_box}
