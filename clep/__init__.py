"""clep: contrastive language–egocentric-video pre-training on banks of frozen features."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

# OpenMP's threads spin while they wait, and take the cores from decoding threads, other processes and each other: the
# same encoding took ten times as long on a machine with another process at work. Spinning briefly costs nothing on a
# quiet machine and little on a busy one. Read when PyTorch loads.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")

try:
    Path.cwd()
except FileNotFoundError:  # PyTorch, imported in such a folder, ends the process with a message about MKL
    raise SystemExit("error: the current folder has been deleted; change into one that exists (cd DIR)") from None

if TYPE_CHECKING:
    from clep.pretrained import load

__version__ = "0.2.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    # Imported on first use: `import clep` alone must not wait for torch.
    if name == "load":
        from clep.pretrained import load

        return load
    raise AttributeError(f"module 'clep' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
