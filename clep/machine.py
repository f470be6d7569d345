"""Description of this machine, recorded with every measured time."""

import functools
import os
import platform
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


@functools.cache
def this_machine() -> dict[str, Any]:
    """Return the processor, the number of cores that this process may use, the GPU, and versions, as JSON values."""
    import torch  # not at the top: workers that only start trainings need none

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


def versions() -> dict[str, str]:
    """Return the versions of clep and of the libraries that decide about results; those not installed are left out."""
    names = ("clep", "torch", "pytorch-lightning", "hydra-core", "transformers", "sentence-transformers", "numpy", "av")
    found = {"python": platform.python_version()}
    for name in names:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def in_words(machine: dict[str, Any]) -> str:
    """Return cores, processor and GPU in words, as in "2 cores (AMD EPYC)"."""
    gpu = f" and {machine['gpu']}" if machine["gpu"] else ""
    cores = "1 core" if machine["cores"] == 1 else f"{machine['cores']} cores"
    return f"{cores} ({machine['cpu']}){gpu}"


def _gpu() -> str | None:
    # In a process of its own: this one must not allocate GPU memory while runs train there.
    code = "import torch; print(torch.cuda.get_device_name())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() or None
