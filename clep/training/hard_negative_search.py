"""Callback: search, between epochs, for training videos whose embeddings are close to each other."""

import logging
from time import perf_counter
from typing import Any

import pytorch_lightning as pl
import torch
from jaxtyping import Float, Int32
from torch import Tensor, distributed

from clep.data.hard_negatives import BYTES_AT_ONCE, HardNegatives, nearest_videos
from clep.data.sampler import Draw
from clep.errors import InputError
from clep.models import evaluating
from clep.progress import progress_bar

log = logging.getLogger(__name__)


class HardNegativeSearch(pl.Callback):
    """Update the nearest neighbours of the `HardNegatives` sampler (VideoCLIP, Xu et al. 2021).

    A video's embedding is the mean of the video and text embeddings of some of its moments. Ranks share the encoding
    and the search, and all get the same neighbours. Neither the random state nor the weights of the run change. With
    `V` videos and embeddings of dimension `d`, this needs, on the training device, one batch, the embeddings
    (`8 * V * d` bytes), the neighbours (`8 * V * videos`) and twice `at_once_mb` megabytes of similarities (one row of
    them, where that is more).

    Args:
        every_epochs: epochs between two searches; the first is before the first epoch.
        moments: at most this many per video, drawn anew for each search.
        at_once_mb: megabytes of similarities computed at once.

    Raises:
        InputError: a value is not positive.
    """

    def __init__(self, every_epochs: int = 1, moments: int = 16, at_once_mb: int = BYTES_AT_ONCE // 2**20) -> None:
        if min(every_epochs, moments, at_once_mb) < 1:
            raise InputError(
                f"callbacks.hard_negatives: every_epochs={every_epochs}, moments={moments} and at_once_mb={at_once_mb} "
                f"must be at least 1"
            )
        self.every_epochs, self.moments, self.at_once_mb = every_epochs, moments, at_once_mb

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Search before the loader is made, which may prefetch; neighbours from a checkpoint stay while valid."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        self._search_if_due(trainer, pl_module, getattr(data, "first_epoch", 0))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Search with the weights of the end of the last epoch."""
        self._search_if_due(trainer, pl_module, trainer.current_epoch)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Mark the neighbours as outdated: the next fit on this data may train another model."""
        strategy = getattr(trainer.datamodule, "strategy", None)  # type: ignore[attr-defined]
        if isinstance(strategy, HardNegatives):
            strategy.found_for = None

    def _search_if_due(self, trainer: pl.Trainer, pl_module: pl.LightningModule, epoch: int) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        strategy = getattr(data, "strategy", None)
        if not isinstance(strategy, HardNegatives):
            raise InputError(
                "callbacks.hard_negatives needs data.sampler=HardNegatives, which the data does not have; "
                "choose sampler=hard_negatives, or remove the callback with ~callbacks.hard_negatives"
            )
        found_for = strategy.found_for
        if found_for is not None and found_for // self.every_epochs == epoch // self.every_epochs:
            return
        data.training_sampler()  # opens the strategy on the training moments
        started = perf_counter()
        with evaluating(pl_module):
            embeddings = self._embed(trainer, pl_module, strategy, epoch)
            strategy.neighbours = self._nearest(trainer, embeddings, strategy)
        strategy.found_for = epoch
        log.info(
            "hard negatives for epoch %d: the %d nearest of each of %d videos, %.1f s",
            *(epoch, strategy.neighbours.shape[1], len(embeddings), perf_counter() - started),
        )

    def _embed(
        self, trainer: pl.Trainer, pl_module: Any, strategy: HardNegatives, epoch: int
    ) -> Float[Tensor, "videos dim"]:
        """Return the unit-length mean of the embeddings of each video's chosen moments."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        chosen = strategy.some_of_each(self.moments, data.seed, epoch)
        video_of = torch.from_numpy(strategy.video_of_moment)
        batches = list(chosen.split(min(data.batch_size, pl_module.chunk_size or data.batch_size)))
        own = batches[trainer.global_rank :: trainer.world_size]
        counts = bool(own)
        own = own or batches[:1]  # a rank without work still needs the embedding dimension
        total = torch.empty(0)
        with progress_bar("hard negatives: embedding", len(own), trainer.is_global_zero) as step:
            for moments in own:
                batch = data.transfer_batch_to_device(
                    data.train_set.__getitems__(Draw(moments, 0)), pl_module.device, 0
                )
                with trainer.precision_plugin.forward_context():
                    both = pl_module.model.encode_video(batch).float() + pl_module.model.encode_text(batch).float()
                both = both.where(both.isfinite().all(1, keepdim=True), 0)  # NaN would rank as nearest to everything
                if not total.numel():
                    total = both.new_zeros(len(strategy.sizes), both.shape[1])
                if counts:
                    total.index_add_(0, video_of[batch["moment"].cpu()].to(both.device), both)
                step(1)
        if trainer.world_size > 1:
            distributed.all_reduce(total)
        return torch.nn.functional.normalize(total, dim=1)

    def _nearest(
        self, trainer: pl.Trainer, embeddings: Float[Tensor, "videos dim"], strategy: HardNegatives
    ) -> Int32[Tensor, "videos near"]:
        """Return the nearest videos of each video; every rank searches for its share of the videos."""
        n, near = len(embeddings), 2 * strategy.videos
        share = -(-n // trainer.world_size)
        own = range(min(n, trainer.global_rank * share), min(n, (trainer.global_rank + 1) * share))
        group = torch.from_numpy(strategy.video_source).to(embeddings.device)
        found = torch.zeros(n, near, dtype=torch.int32, device=embeddings.device)
        with progress_bar("hard negatives: nearest videos", len(own), trainer.is_global_zero) as step:
            for chunk, nearest in nearest_videos(embeddings, group, near, own, self.at_once_mb * 2**20):
                found[chunk] = nearest
                step(chunk.stop - chunk.start)
        if trainer.world_size > 1:
            distributed.all_reduce(found)
        return found.cpu()
