"""Child process of `benchmarks.objectives`: time and memory of one forward and backward pass of the sigmoid loss.

Prints one line of JSON: `seconds`, `before_mb`, the process's memory with the embeddings made, `peak_mb`, the most
there was of it during the passes (VmHWM of /proc/self/status, reset before them; on a GPU, what its allocator held),
`loss`, and the norm of the videos' gradient. Linux only.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.machine import memory_mb
from benchmarks.report import read_settings
from benchmarks.sigmoid_ways import PlainSigmoidLoss, RecomputedSigmoidLoss
from clep.compute.float32_matmul import fast_float32_products
from clep.losses import SigmoidLoss, TextIdPositives, across_ranks


@dataclass
class Settings:
    """Of the child: which way, of `ways`, and sizes."""

    way: str = "chunked"
    batch_size: int = 16384
    dim: int = 512
    chunk: int = 1024
    device: str = "cpu"


def ways(chunk: int) -> dict[str, nn.Module]:
    """Return the ways to compute the sigmoid loss that are compared."""
    return {
        "chunked": SigmoidLoss(chunk),
        "whole": SigmoidLoss(None),
        "plain autograd": PlainSigmoidLoss(),
        "chunks recomputed": RecomputedSigmoidLoss(chunk),
    }


def main(words: Sequence[str] | None = None) -> None:
    """Compute the loss of a small batch, which loads what is loaded once, then that which is measured."""
    settings = read_settings(Settings, words)
    loss = across_ranks(ways(settings.chunk)[settings.way], positives=TextIdPositives())
    with fast_float32_products():
        _pass(loss, *made_batch(64, settings.dim, settings.device))
        given = made_batch(settings.batch_size, settings.dim, settings.device)
        before = memory_mb(settings.device)
        _forget_peak(settings.device)
        started = perf_counter()
        value, norm = _pass(loss, *given)
        seconds = perf_counter() - started
    peak = memory_mb(settings.device, peak=True)
    print(json.dumps({"seconds": seconds, "peak_mb": peak, "before_mb": before, "loss": value, "gradient": norm}))


def made_batch(size: int, dim: int, device: str = "cpu") -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor], Tensor]:
    """Return what `across_ranks` takes: random unit embeddings, scale, keys of every kind, and a bias."""
    generator = torch.Generator().manual_seed(0)
    video, text, frozen = (torch.randn(size, dim, generator=generator) for _ in range(3))
    text_id = torch.randint(0, max(1, size // 2), (size,), generator=generator)  # most texts are there twice or so
    keys = {
        "text_id": text_id,
        "text": F.normalize(frozen[text_id], dim=-1),
        "verb": torch.randint(-1, 100, (size, 2), generator=generator),
        "noun": torch.randint(-1, 500, (size, 3), generator=generator),
    }
    video, text = (F.normalize(side, dim=-1).to(device).requires_grad_() for side in (video, text))
    scale, bias = (torch.tensor(number, device=device, requires_grad=True) for number in (10.0, -10.0))
    return video, text, scale, {name: key.to(device) for name, key in keys.items()}, bias


def _pass(
    loss: nn.Module, video: Tensor, text: Tensor, scale: Tensor, keys: dict[str, Tensor], bias: Tensor
) -> tuple[float, float]:
    value = loss(video, text, scale, {"text_id": keys["text_id"]}, bias)
    value.backward()
    assert video.grad is not None
    return float(value.detach()), float(video.grad.norm())


def _forget_peak(device: str) -> None:
    if device == "cpu":
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    else:
        torch.cuda.reset_peak_memory_stats()


if __name__ == "__main__":
    main()
