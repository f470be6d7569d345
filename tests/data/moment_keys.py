"""`MomentKeys` of a few videos, and the batches that strategies make of them."""

import torch
from torch import Tensor

from clep.data import MomentBatchSampler, MomentKeys, SamplingStrategy


def moment_keys(sizes: list[int], videos: int = 6, texts: int = 40, seed: int = 0) -> MomentKeys:
    """Return moments of `videos` videos a source, at random seconds of ten minutes."""
    generator = torch.Generator().manual_seed(seed)
    video = [n * videos + torch.randint(0, videos, (size,), generator=generator) for n, size in enumerate(sizes)]
    total = sum(sizes)
    text = torch.randint(0, texts, (total,), generator=generator)
    second = torch.rand(total, generator=generator, dtype=torch.float64) * 600
    return MomentKeys(text, torch.cat(video), second, sizes)


def sampler(
    strategy: SamplingStrategy, keys: MomentKeys, batch_size: int, rank: int = 0, world_size: int = 1, **options: object
) -> MomentBatchSampler:
    """Open a strategy and hand it to a sampler, as the DataModule does."""
    strategy.open(keys, batch_size * world_size, batch_size)
    return MomentBatchSampler(keys.sizes, batch_size, rank=rank, world_size=world_size, strategy=strategy, **options)


def batches(made: MomentBatchSampler, epoch: int = 0) -> list[Tensor]:
    made.set_epoch(epoch)
    return [draw.moments for draw in made]
