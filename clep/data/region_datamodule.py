"""DataModule of action detection: batches of regions with their long-term context."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from clep.data.datamodule import EmptyValidationSet, ResumableDataModule, TimedDataLoader
from clep.data.dataset import Batch, IndexOnlyDataset, identity_collate
from clep.data.feature_check import check_features
from clep.data.key_frame_clips import KeyFrameClips
from clep.data.long_term import LongTerm
from clep.data.regions import RegionDataset, RegionSource, action_classes
from clep.data.sampler import MomentBatchSampler
from clep.errors import InputError
from clep.video.encoder import VideoEncoder


class RegionDataModule(ResumableDataModule):
    """Training batches of annotated regions, and batches of held-out regions for a validation loss.

    Args:
        train: regions to train on.
        val: annotated regions for a validation loss; None for none. Detections are evaluated by an evaluator.
        label_map: actions to learn: None for the challenge's 60, "all" for AVA's 80, or a label map.
        context: rule for the long-term context of a region.
        clips: source of pixels, for models with a trainable short-term encoder; None for the rows of the bank.
        batch_size: regions per batch on each rank.
        device: storage of the banks: "disk" (memory-mapped), "cpu" (RAM), or "cuda" (the rank's GPU, where batches are
            then gathered).
        shuffle, drop_last, seed: see `MomentBatchSampler`.
        num_workers: loader processes; 0 is fastest for rows of a bank, one per core for clips, which they decode.
        val_batch_size: of the validation loss; None for `batch_size`.

    Raises:
        InputError: an option is out of range, or `val` has detected boxes.

    Examples:
        >>> from clep.data import LongTerm, RegionDataModule, RegionSource
        >>> context = LongTerm(window_s=10, per_second=1)
        >>> data = RegionDataModule(RegionSource("ava/train.h5"), None, "ava/map.txt", context, batch_size=8)
        >>> data.setup("fit")
        >>> next(iter(data.train_dataloader()))["target"].shape
        torch.Size([8, 5])
    """

    def __init__(
        self,
        train: RegionSource,
        val: RegionSource | None = None,
        label_map: str | Path | None = None,
        context: LongTerm | None = None,
        clips: KeyFrameClips | None = None,
        batch_size: int = 64,
        device: str = "disk",
        shuffle: bool = True,
        drop_last: bool = True,
        seed: int = 0,
        num_workers: int = 0,
        val_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1 or num_workers < 0:
            raise InputError(
                f"data.batch_size={batch_size} must be at least 1, and data.num_workers={num_workers} at least 0"
            )
        if val is not None and val.boxes != "annotated":
            raise InputError(
                "data.val.boxes=detected: a loss needs actions, which detected boxes do not have; use annotated"
            )
        self.train, self.val, self.clips = train, val, clips
        self.context = context or LongTerm(window_s=60, per_second=5)
        self.classes = action_classes(label_map)
        self.batch_size, self.val_batch_size, self.device = batch_size, val_batch_size, device
        self.shuffle, self.drop_last, self.seed, self.num_workers = shuffle, drop_last, seed, num_workers
        self.train_set: RegionDataset | None = None
        self.val_set: RegionDataset | None = None

    @property
    def dims(self) -> tuple[int, int]:
        """Feature dimensions of a region and of a row of its context; works before `setup`.

        Raises:
            InputError: the banks of `val` have other dimensions.
        """
        if self.val is not None and self.val.dims != self.train.dims:
            raise InputError(
                f"{self.train.bank_path} and {self.val.bank_path} have feature dimensions {self.train.dims[0]} and "
                f"{self.val.dims[0]}; make both with one encoder"
            )
        return self.train.dims

    @property
    def metadata(self) -> dict[str, Any]:
        """Metadata of a model trained on this data, against which later inputs are checked."""
        bank, context = self.train.encoders
        known: dict[str, Any] = {
            "bank_encoder": bank,
            "context_encoder": context,
            "context": self.context.to_dict(),
        }
        return known if self.clips is None else known | {"clips": self.clips.to_dict()}

    @property
    def report(self) -> dict[str, Any]:
        """Number of regions and videos, and of regions of each action, by split."""
        sets = {"train": self.train_set, "val": self.val_set}
        return {name: _counts(found, self.classes) for name, found in sets.items() if found is not None}

    def fit_to(self, encoder: VideoEncoder) -> None:
        """Set frames and size of the clips to those of an encoder."""
        if self.clips is not None:
            self.clips = self.clips.fitting(encoder)

    def setup(self, stage: str | None = None) -> None:
        """Open the banks, once, on the device of this rank."""
        if self.train_set is not None:
            return
        device = self.rank_device(self.device)
        self.train_set = self.train.open(self.classes, self.context, device, self.clips, augment=True)
        for bank in {id(one): one for one in (self.train_set.bank, self.train_set.context_bank)}.values():
            check_features(bank, "row", "extract the features of these regions again")
        if self.val is not None:
            self.val_set = self.val.open(self.classes, self.context.fixed(), device, self.clips)

    def training_sampler(self) -> MomentBatchSampler:
        """Return the batch sampler of this rank."""
        assert self.train_set is not None, "setup() comes first"
        rank, world_size = self.ranks()
        size = [len(self.train_set)]
        return MomentBatchSampler(
            size, self.batch_size, None, self.shuffle, self.drop_last, self.seed, rank, world_size
        )

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of training batches; the trainer must not replace its sampler by a distributed one."""
        assert self.train_set is not None
        return self._loader(self.train_set, self.resumed_sampler())

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of validation batches, in a fixed random order; one empty batch without `val`."""
        if self.val_set is None:
            return DataLoader(EmptyValidationSet(), batch_size=None)
        rank, world_size = self.ranks()
        size = max(1, min(self.val_batch_size or self.batch_size, len(self.val_set) // world_size))
        return self._loader(
            self.val_set, list(MomentBatchSampler([len(self.val_set)], size, rank=rank, world_size=world_size))
        )

    def _loader(self, dataset: RegionDataset, sampler: Any) -> TimedDataLoader:
        on_gpu = dataset.bank.device.type == "cuda"
        workers = 0 if on_gpu and self.clips is None else self.num_workers
        return TimedDataLoader(
            IndexOnlyDataset(dataset) if on_gpu else dataset,
            batch_sampler=sampler,
            collate_fn=identity_collate,
            num_workers=workers,
            # A forked worker can hang on locks of threads that a decoder or PyTorch started in the parent.
            multiprocessing_context="forkserver" if workers else None,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
        )


def _counts(dataset: RegionDataset, classes: Sequence[int]) -> dict[str, Any]:
    shown = dataset.target.sum(0).long().tolist()
    return {
        "regions": len(dataset),
        "videos": len(np.unique(dataset.regions.video)),
        "of_each_action": dict(zip(map(str, classes), shown, strict=True)),
        "without_an_action": int((dataset.target.sum(1) == 0).sum()),
        "videos_without_context": dataset.without_context,
    }
