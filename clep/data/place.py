"""The place in the data: what lets a run continue with the batch after the last one it saw."""

import warnings
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import Dataset

from clep.data.dataset import Batch
from clep.data.sampler import MomentBatchSampler
from clep.errors import InputError


class ResumableDataModule(pl.LightningDataModule):
    """A DataModule whose place in the training batches is kept in checkpoints; a subclass makes the sampler."""

    def __init__(self) -> None:
        super().__init__()
        self.train_sampler: MomentBatchSampler | None = None
        self._resume: dict[str, Any] | None = None

    def training_sampler(self) -> MomentBatchSampler:
        """Return the sampler of this rank's training batches."""
        raise NotImplementedError(f"{type(self).__name__} must define training_sampler()")

    @property
    def first_epoch(self) -> int:
        """The epoch that a fit begins in: 0, or that of the checkpoint it continues."""
        return 0 if self._resume is None else int(self._resume["epoch"])

    def resumed_sampler(self) -> MomentBatchSampler:
        """Return the sampler for a loader, at the place that a checkpoint told; it is remembered."""
        self.train_sampler = self.training_sampler()
        if self._resume is not None:
            self._check_same_data(self._resume)
            self.train_sampler.resume(self._resume["epoch"], self._resume["batch"])
        return self.train_sampler

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move a batch, but keep its seed and its counts of sources on the host, which reads them."""
        host: Batch = {key: batch[key] for key in ("seed", "source_counts") if key in batch}
        moved = {key: value.to(device, non_blocking=True) for key, value in batch.items() if key not in host}
        return {**moved, **host}

    def state_dict(self) -> dict[str, Any]:
        """Return the place in the data: the epoch, the next batch, and what the order depends on."""
        if self.train_sampler is None or self.trainer is None:
            return {}
        loop: Any = self.trainer.fit_loop
        epoch, batch = loop.epoch_progress.current.processed, loop.epoch_loop.batch_progress.current.processed
        if epoch > loop.epoch_progress.current.completed:
            epoch, batch = loop.epoch_progress.current.processed, 0
        elif batch >= len(self.train_sampler):
            epoch, batch = epoch + 1, 0
        return {"epoch": epoch, "batch": batch, "order": self.train_sampler.state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from the place that `state_dict` tells; called before the loader is made."""
        # The trainer cannot know that our sampler does resume.
        warnings.filterwarnings("ignore", message="You're resuming from a checkpoint that ended before the epoch ended")
        self._resume = state_dict or None

    def _check_same_data(self, state: dict[str, Any]) -> None:
        assert self.train_sampler is not None
        now, before = self.train_sampler.state(), state["order"]
        changed = [
            f"{key}: {before.get(key)} in the checkpoint, {now[key]} now" for key in now if now[key] != before.get(key)
        ]
        if changed:
            raise InputError(
                f"the run cannot continue exactly, since its data changed ({'; '.join(changed)}); restore them, or "
                f"start from the weights alone "
                f"with init_from=PATH instead of ckpt_path"
            )

    def ranks(self) -> tuple[int, int]:
        """Return this process's rank and the number of ranks."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def rank_device(self, device: str) -> str:
        """Return the device of this rank that "cuda" stands for; any other as it is.

        Raises:
            InputError: "cuda", where the trainer runs on something else.
        """
        if device == "cuda" and self.trainer is not None:
            root = self.trainer.strategy.root_device
            if root.type != "cuda":
                raise InputError(
                    f"data.device=cuda needs a GPU, but the trainer runs on {root}; use data.device=disk or cpu"
                )
            return str(root)
        return device


class NothingHeldOut(Dataset[Batch]):
    """A single empty batch, so that the trainer runs its validation, and with it the evaluators."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Batch:
        return {}
