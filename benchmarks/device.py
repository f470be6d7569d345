"""Times on a device, and what its chip can do: the bounds beside which the measurements on a GPU are given."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

PUBLISHED_PEAKS = {
    "H200": (989e12, 4.8e12),
    "H100": (989e12, 3.35e12),
    "A100": (312e12, 2.0e12),
    "L40S": (362e12, 0.864e12),
}
"""Dense bf16 FLOP/s and bytes/s of memory in the data sheets, by a part of the GPU's name."""


def wait_for(device: str) -> None:
    """Wait until a GPU has done all of its work; nothing on a CPU."""
    if device != "cpu":
        torch.cuda.synchronize()


def seconds_each(work: Callable[[], Any], device: str, budget_s: float = 0.5, warm: int = 3) -> float:
    """Return the seconds of a call, the mean of as many calls as fit into the budget (at least 3)."""
    for _ in range(warm):
        work()
    wait_for(device)
    started = perf_counter()
    work()
    wait_for(device)
    calls = max(3, min(1000, int(budget_s / max(perf_counter() - started, 1e-6))))
    started = perf_counter()
    for _ in range(calls):
        work()
    wait_for(device)
    return (perf_counter() - started) / calls


def flops_of(work: Callable[[], Any]) -> int:
    """Count the floating-point operations of matrix products, convolutions and attention in a call."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def peaks(device: str) -> dict[str, Any]:
    """Measure the FLOP/s of a large bf16 product and the bytes/s of a copy, and look up the published values."""
    side, size, budget_s = (8192, 2**30, 0.5) if device != "cpu" else (128, 2**22, 0.05)
    left, right = (torch.randn(side, side, device=device).bfloat16() for _ in range(2))
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    name = torch.cuda.get_device_name() if device != "cpu" else "cpu"
    published = next((peak for part, peak in PUBLISHED_PEAKS.items() if part in name), (None, None))
    return {
        "device": name,
        "bf16_flop_per_s": 2 * side**3 / seconds_each(lambda: left @ right, device, budget_s),
        "copied_bytes_per_s": 2 * size / seconds_each(lambda: target.copy_(source), device, budget_s),
        "published_bf16_flop_per_s": published[0],
        "published_bytes_per_s": published[1],
    }


def bound_s(flops: float, moved_bytes: float, peak: dict[str, Any]) -> float:
    """Return the seconds that products and memory traffic take at the chip's peak, one after the other."""
    flop_per_s = peak["published_bf16_flop_per_s"] or peak["bf16_flop_per_s"]
    bytes_per_s = peak["published_bytes_per_s"] or peak["copied_bytes_per_s"]
    return float(flops / flop_per_s + moved_bytes / bytes_per_s)
