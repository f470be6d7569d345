"""DataModule of labelled videos: clips are decoded in loader workers."""

from typing import Any

import torch
from torch.utils.data import DataLoader

from clep.data.datamodule import EmptyValidationSet, ResumableDataModule, TimedDataLoader
from clep.data.dataset import identity_collate
from clep.data.sampler import Draw, MomentBatchSampler
from clep.data.video_clips import Augmentation, LabelledVideoSource, RandomClips, note_unreadable
from clep.errors import InputError
from clep.video import ClipSpec


class ClipSampler(MomentBatchSampler):
    """Batch sampler whose draws have the seed of the epoch, so that a clip does not depend on its batch or rank."""

    def __iter__(self) -> Any:
        """Yield one `Draw` per batch."""
        for draw in super().__iter__():
            yield Draw(draw.moments, self.seed * 1_000_003 + self.epoch)


class LabelledVideoDataModule(ResumableDataModule):
    """Training clips of labelled videos; `clep.evaluation.VideoAccuracy` evaluates the held-out videos.

    Args:
        source: the videos.
        batch_size: clips per batch on each rank.
        augment: augmentation of training clips.
        num_workers: processes that decode; 0 decodes in the training process.
        shuffle, drop_last, seed: see `MomentBatchSampler`.

    Raises:
        InputError: `batch_size` is below 1, or `num_workers` is negative.

    Examples:
        >>> from clep.data import LabelledVideoDataModule, LabelledVideoSource
        >>> from clep.video import ClipSpec
        >>> source = LabelledVideoSource("films/train.csv", val="films/train.csv")
        >>> data = LabelledVideoDataModule(source, batch_size=2, num_workers=0)
        >>> data.fit_to(ClipSpec(4, 16, 16, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))
        >>> data.setup("fit")
        >>> next(iter(data.train_dataloader()))["pixels"].shape
        torch.Size([2, 4, 3, 16, 16])
    """

    def __init__(
        self,
        source: LabelledVideoSource,
        batch_size: int = 8,
        augment: Augmentation | None = None,
        num_workers: int = 2,
        shuffle: bool = True,
        drop_last: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise InputError(f"data.batch_size={batch_size} must be at least 1")
        if num_workers < 0:
            raise InputError(f"data.num_workers={num_workers} cannot be negative")
        self.source, self.batch_size, self.augment = source, batch_size, augment or Augmentation()
        self.num_workers, self.shuffle, self.drop_last, self.seed = num_workers, shuffle, drop_last, seed
        self.clip: ClipSpec | None = None
        self.train_set: RandomClips | None = None
        self.unreadable: dict[str, int] = {}

    @property
    def classes(self) -> list[str]:
        """Class names."""
        return self.source.open().classes

    @property
    def report(self) -> dict[str, Any]:
        """Counts of the source, and the videos that this process could not decode."""
        return {**self.source.report, "unreadable videos": len(self.unreadable), "unreadable": list(self.unreadable)}

    def fit_to(self, clip: ClipSpec) -> None:
        """Set frames and size of the clips to those of an encoder."""
        self.clip = clip

    def setup(self, stage: str | None = None) -> None:
        """Read the lists of videos; no video is opened."""
        if self.clip is None:
            raise RuntimeError("fit_to(encoder.clip) comes first")
        self.train_set = RandomClips(self.source.open().train, self.clip, self.augment)

    def training_sampler(self) -> MomentBatchSampler:
        """Return the batch sampler of this rank."""
        rank, world_size = self.ranks()
        return ClipSampler(
            [len(self.source.open().train)],
            self.batch_size,
            shuffle=self.shuffle,
            drop_last=self.drop_last,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
        )

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Return the loader of training batches."""
        assert self.train_set is not None
        batches: Any = self.resumed_sampler()
        return TimedDataLoader(
            self.train_set,
            batch_sampler=batches,
            collate_fn=identity_collate,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Return one empty batch, see `EmptyValidationSet`."""
        return DataLoader(EmptyValidationSet(), batch_size=None)

    def on_before_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Count the videos of a batch that could not be decoded.

        Raises:
            InputError: a video could not be decoded and `source.on_error` is "error", or no video could be decoded.
        """
        for reason in batch.pop("unreadable", []):
            note_unreadable(reason, self.source.on_error, self.unreadable)
        if self.unreadable and len(self.unreadable) == len(self.source.open().train):
            raise InputError(
                f"none of the {len(self.unreadable)} training videos could be decoded: {next(iter(self.unreadable))}"
            )
        return batch
