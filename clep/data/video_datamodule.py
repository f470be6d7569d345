"""The LightningDataModule of labelled videos: clips decoded in loader workers, and the place in the data."""

from typing import Any

import torch
from torch.utils.data import DataLoader

from clep.data.datamodule import EmptyValidationSet, ResumableDataModule
from clep.data.dataset import identity_collate
from clep.data.sampler import Draw, MomentBatchSampler
from clep.data.video_clips import Augmentation, LabelledVideoSource, RandomClips, note_unreadable
from clep.errors import InputError
from clep.video import ClipSpec


class ClipSampler(MomentBatchSampler):
    """Batches whose draws have the seed of their epoch, so that a clip depends neither on its batch nor on the rank."""

    def __iter__(self) -> Any:
        """Yield one `Draw` a batch."""
        for draw in super().__iter__():
            yield Draw(draw.moments, self.seed * 1_000_003 + self.epoch)


class LabelledVideoDataModule(ResumableDataModule):
    """Training clips of labelled videos. What is held out is measured by `clep.evaluation.VideoAccuracy`.

    Args:
        source: the videos.
        batch_size: clips a batch on each rank.
        augment: what is random in a clip.
        num_workers: processes that decode; 0 decodes between the steps.
        shuffle, drop_last, seed: see `MomentBatchSampler`.

    Raises:
        InputError: a batch of less than one clip.
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
        """Names of the classes."""
        return self.source.open().classes

    @property
    def report(self) -> dict[str, Any]:
        """What there was, and what could not be used; of unreadable videos those that this process met."""
        return {**self.source.report, "unreadable videos": len(self.unreadable), "unreadable": list(self.unreadable)}

    def fit_to(self, clip: ClipSpec) -> None:
        """Choose the pixels of the clips: those that an encoder wants."""
        self.clip = clip

    def setup(self, stage: str | None = None) -> None:
        """Read the lists; no video is opened yet."""
        if self.clip is None:
            raise RuntimeError("fit_to(encoder.clip) comes first")
        self.train_set = RandomClips(self.source.open().train, self.clip, self.augment)

    def training_sampler(self) -> MomentBatchSampler:
        """Return the sampler of this rank's batches."""
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
        """Batches of training clips."""
        assert self.train_set is not None
        batches: Any = self.resumed_sampler()
        return DataLoader(
            self.train_set,
            batch_sampler=batches,
            collate_fn=identity_collate,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Return one empty batch, with which the trainer runs its validation and the evaluators."""
        return DataLoader(EmptyValidationSet(), batch_size=None)

    def on_before_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Count the videos of a batch that could not be decoded, or refuse the first of them.

        Raises:
            InputError: one could not be decoded and the source refuses that, or none of all there are could.
        """
        for reason in batch.pop("unreadable", []):
            note_unreadable(reason, self.source.on_error, self.unreadable)
        if self.unreadable and len(self.unreadable) == len(self.source.open().train):
            raise InputError(
                f"not one of the {len(self.unreadable)} training videos could be decoded: {next(iter(self.unreadable))}"
            )
        return batch
