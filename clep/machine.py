"""The machine that runs are timed on."""

import functools
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch


@functools.cache
def this_machine() -> dict[str, Any]:
    """Return this machine's processor, cores (those that this process may use) and GPU, and the software, as JSON."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpu": _gpu() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def in_words(machine: dict[str, Any]) -> str:
    """Return what decides how fast a machine is, as in "2 cores (AMD EPYC)"."""
    gpu = f" and {machine['gpu']}" if machine["gpu"] else ""
    cores = "1 core" if machine["cores"] == 1 else f"{machine['cores']} cores"
    return f"{cores} ({machine['cpu']}){gpu}"


def _gpu() -> str | None:
    # A process of its own asks: this one shall not hold memory of a GPU while the runs train on it.
    code = "import torch; print(torch.cuda.get_device_name())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() or None
