"""The LightningDataModule of action detection: batches of regions, each with the minute around it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from clep.data.datamodule import EmptyValidationSet, ResumableDataModule
from clep.data.dataset import Batch, as_draw, identity_collate
from clep.data.key_frame_clips import KeyFrameClips
from clep.data.long_term import LongTerm
from clep.data.regions import RegionDataset, RegionSource, action_classes
from clep.data.sampler import Draw, MomentBatchSampler
from clep.errors import InputError
from clep.video.encoder import VideoEncoder


class RegionDataModule(ResumableDataModule):
    """Training batches of annotated regions, and held-out ones for a loss.

    Args:
        train: regions to learn from.
        val: annotated regions for a held-out loss; None for none. Detections are measured by an evaluator.
        label_map: which actions are learned: null for the 60 of the challenge, "all" for AVA's 80, or a label map.
        context: which rows around a region are its long-term context.
        clips: where pixels come from, for a short-term side that is learned; null for the rows of the bank.
        batch_size: regions a batch on each rank.
        device: where the banks lie: "disk" (memory-mapped), "cpu" (RAM), or "cuda" (the rank's own GPU; the gather then
            runs there).
        shuffle, drop_last, seed: see `MomentBatchSampler`.
        num_workers: loader processes; 0 is fastest for rows of a bank, one a core for clips, which they decode.
        val_batch_size: of the held-out loss; null for `batch_size`.
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
            raise InputError(f"data.batch_size={batch_size} and num_workers={num_workers}: at least 1, and 0 or more")
        if val is not None and val.boxes != "annotated":
            raise InputError("data.val.boxes=detected: a loss needs actions, which detected boxes have none of")
        self.train, self.val, self.clips = train, val, clips
        self.context = context or LongTerm(window_s=60, per_second=5)
        self.classes = action_classes(label_map)
        self.batch_size, self.val_batch_size, self.device = batch_size, val_batch_size, device
        self.shuffle, self.drop_last, self.seed, self.num_workers = shuffle, drop_last, seed, num_workers
        self.train_set: RegionDataset | None = None
        self.val_set: RegionDataset | None = None

    @property
    def dims(self) -> tuple[int, int]:
        """Numbers in a region's row and in a row of its context; read from the files, so `setup` need not have run.

        Raises:
            InputError: the banks of `val` have others.
        """
        if self.val is not None and self.val.dims != self.train.dims:
            raise InputError(
                f"{self.train.bank_path} and {self.val.bank_path} have rows of {self.train.dims[0]} and "
                f"{self.val.dims[0]} numbers; make both with one encoder"
            )
        return self.train.dims

    @property
    def metadata(self) -> dict[str, Any]:
        """What a model trained on this data must remember, to refuse what it was not trained on."""
        bank, context = self.train.encoders
        known: dict[str, Any] = {
            "bank_encoder": bank,
            "context_encoder": context,
            "context": self.context.to_dict(),
        }
        return known if self.clips is None else known | {"clips": self.clips.to_dict()}

    @property
    def report(self) -> dict[str, Any]:
        """How many regions there are, of which videos, and how many show each action."""
        sets = {"train": self.train_set, "val": self.val_set}
        return {name: _counts(found, self.classes) for name, found in sets.items() if found is not None}

    def fit_to(self, encoder: VideoEncoder) -> None:
        """Let clips have the frames and pixels that an encoder wants."""
        if self.clips is not None:
            self.clips = self.clips.fitting(encoder)

    def setup(self, stage: str | None = None) -> None:
        """Open the banks, once, on this process's device."""
        if self.train_set is not None:
            return
        device = self.rank_device(self.device)
        self.train_set = self.train.open(self.classes, self.context, device, self.clips, augment=True)
        if self.val is not None:
            self.val_set = self.val.open(self.classes, self.context.fixed(), device, self.clips)

    def training_sampler(self) -> MomentBatchSampler:
        """Return the sampler of this rank's training batches."""
        assert self.train_set is not None, "setup() comes first"
        rank, world_size = self.ranks()
        size = [len(self.train_set)]
        return MomentBatchSampler(
            size, self.batch_size, None, self.shuffle, self.drop_last, self.seed, rank, world_size
        )

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches of training regions; the trainer must not add a distributed sampler of its own."""
        assert self.train_set is not None
        return self._loader(self.train_set, self.resumed_sampler())

    def val_dataloader(self) -> DataLoader[Batch]:
        """Batches of held-out regions in one fixed random order; a single empty batch where nothing is held out."""
        if self.val_set is None:
            return DataLoader(EmptyValidationSet(), batch_size=None)
        rank, world_size = self.ranks()
        size = max(1, min(self.val_batch_size or self.batch_size, len(self.val_set) // world_size))
        return self._loader(
            self.val_set, list(MomentBatchSampler([len(self.val_set)], size, rank=rank, world_size=world_size))
        )

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Gather on the GPU when the banks lie there."""
        if "row" not in batch:
            return batch
        training = self.trainer is None or self.trainer.training
        dataset = self.train_set if training else self.val_set
        assert dataset is not None
        seed = int(batch.pop("seed"))
        return dataset.gather(batch, seed)

    def _loader(self, dataset: RegionDataset, sampler: Any) -> DataLoader[Batch]:
        on_gpu = dataset.bank.device.type == "cuda"
        workers = 0 if on_gpu and self.clips is None else self.num_workers
        return DataLoader(
            IndexOnlyRegions(dataset) if on_gpu else dataset,
            batch_sampler=sampler,
            collate_fn=identity_collate,
            num_workers=workers,
            # A forked worker would hang in the threads that a decoder or PyTorch had started before.
            multiprocessing_context="forkserver" if workers else None,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
        )


class IndexOnlyRegions(Dataset[Batch]):
    """Batches without what lies in banks on a GPU, which loader workers must not touch."""

    def __init__(self, dataset: RegionDataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitems__(self, draw: Draw | Sequence[int]) -> Batch:
        draw = as_draw(draw)
        return {**self._dataset.numbers(draw.moments, draw.seed), "seed": torch.tensor(draw.seed)}


def _counts(dataset: RegionDataset, classes: Sequence[int]) -> dict[str, Any]:
    shown = dataset.target.sum(0).long().tolist()
    return {
        "regions": len(dataset),
        "videos": len(np.unique(dataset.regions.video)),
        "of_each_action": dict(zip(map(str, classes), shown, strict=True)),
        "without_an_action": int((dataset.target.sum(1) == 0).sum()),
        "videos_without_context": dataset.without_context,
    }
