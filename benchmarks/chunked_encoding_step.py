"""Child process of `benchmarks.chunked_encoding`: time and memory of one training step of a large batch.

Prints one line of JSON: `seconds` of the step, `peak_mb`, the most memory there was of any kind (VmHWM of
/proc/self/status, or what the GPU's allocator held), `before_mb` that before the step, and `loss`. Linux only.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor

from benchmarks.machine import memory_mb
from benchmarks.report import read_settings
from clep.compute.float32_matmul import fast_float32_products
from clep.losses import ClipLoss
from clep.models import DualEncoder
from clep.training import ContrastiveModule, adamw


@dataclass
class Settings:
    """Of the child; `chunk_size` 0 encodes the whole batch at once."""

    batch_size: int = 8192
    chunk_size: int = 512
    rows: int = 8
    dim: int = 768
    width: int = 256
    depth: int = 2
    device: str = "cpu"


def main(words: Sequence[str] | None = None) -> None:
    """Take a step of a small batch, which loads what is loaded once, then the step that is measured."""
    settings = read_settings(Settings, words)
    torch.manual_seed(0)
    module = ContrastiveModule(_model(settings), ClipLoss(), adamw, chunk_size=settings.chunk_size or None)
    module.to(settings.device)
    optimizer = adamw(module.model)
    with fast_float32_products():
        _step(module, optimizer, _batch(settings, 64))
        batch = _batch(settings, settings.batch_size)
        before = memory_mb(settings.device)
        started = perf_counter()
        loss = _step(module, optimizer, batch)
        seconds = perf_counter() - started
    peak = memory_mb(settings.device, peak=True)
    print(json.dumps({"seconds": seconds, "peak_mb": peak, "before_mb": before, "loss": loss}))


def _model(settings: Settings) -> DualEncoder:
    head = {"in_dim": settings.dim, "hidden_dim": 1024, "out_dim": 256, "activation": "gelu", "dropout": 0.1}
    attention = {"dim": settings.width, "depth": settings.depth, "heads": settings.width // 64}
    return DualEncoder.from_config(
        {
            "video": {"_target_": "clep.models.TemporalTower", **head, **attention, "max_rows": settings.rows},
            "text": {"_target_": "clep.models.ProjectionHead", **head},
        }
    )


def _batch(settings: Settings, size: int) -> dict[str, Tensor]:
    batch = {
        "video": torch.randn(size, settings.rows, settings.dim),
        "video_mask": torch.rand(size, settings.rows) < 0.9,
        "text": torch.randn(size, settings.dim),
        "text_id": torch.arange(size),
        "moment": torch.arange(size),
    }
    return {key: value.to(settings.device) for key, value in batch.items()}


def _step(module: ContrastiveModule, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor]) -> float:
    loss = module.compute_loss(batch)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach())  # waits for a GPU


if __name__ == "__main__":
    main()
