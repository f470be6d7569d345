"""What a figure was measured on."""

import os
import platform
from pathlib import Path
from typing import Any

import h5py
import torch

from clep.machine import this_machine


def machine() -> dict[str, Any]:
    """Describe this machine and the versions in use."""
    return {
        **this_machine(),
        "ram_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "bf16_instructions": "avx512_bf16" in (_first("/proc/cpuinfo", "flags") or ""),
        "system": platform.system(),
        "torch_threads": torch.get_num_threads(),
        "h5py": h5py.__version__,
    }


def load() -> float | None:
    """Return how many processes wanted to run in the last minute; figures of a busy machine are not to be trusted."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def machine_cpu_seconds() -> float:
    """Return the seconds that all cores have worked, or waited for the host of a virtual machine; NaN if unknown."""
    if not Path("/proc/stat").exists():
        return float("nan")
    user, nice, system, _idle, _waiting, irq, softirq, stolen = map(int, _words("/proc/stat")[1:9])
    return (user + nice + system + irq + softirq + stolen) / os.sysconf("SC_CLK_TCK")


def process_memory_mb(kind: str) -> float:
    """Return how much memory this process has, by its name in /proc/self/status (VmRSS, VmHWM, RssAnon); Linux only."""
    value = _first("/proc/self/status", kind)
    if value is None:
        raise KeyError(kind)
    return int(value.split()[0]) * 1024 / 1e6


def memory_mb(device: str, peak: bool = False) -> float:
    """Return the current or peak memory: of this process, or on a GPU of the allocator."""
    if device != "cpu":
        return round((torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()) / 1e6, 1)
    return round(process_memory_mb("VmHWM" if peak else "VmRSS"), 1)


def _words(path: str) -> list[str]:
    with Path(path).open() as file:
        return file.readline().split()


def _first(path: str, key: str) -> str | None:
    if not Path(path).exists():
        return None
    for line in Path(path).read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None
