"""Feature files as Ego4D has them: one .pt per video, a float tensor `[rows, dim]`."""

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from clep.compute.threads import one_core_each
from clep.demo.encoder import FrozenEncoder
from clep.errors import InputError
from clep.files import atomic_path, read_json, write_json
from clep.progress import progress_bar

FEATURE_DTYPES = ("float16", "float32")
_MARKER = "simulated.json"

Item = TypeVar("Item")


def write_files(
    folder: Path,
    suffix: str,
    items: Iterable[tuple[str, Item]],
    write: Callable[[Path, Item], object],
    title: str,
    progress: bool = True,
) -> dict[str, int]:
    """Call `write(<folder>/<id><suffix>, item)` for each (id, item) whose file does not exist, one thread per core.

    Each thread computes on one core, so that the result does not depend on their number.

    Returns:
        Counts: `written` and `kept` files.
    """
    items = list(items)
    done = {path.name for path in folder.glob(f"*{suffix}")}
    missing = [item for item in items if f"{item[0]}{suffix}" not in done]
    with one_core_each(os.cpu_count()) as threads, progress_bar(title, len(missing), progress) as advance:
        for _ in threads.map(lambda item: write(folder / f"{item[0]}{suffix}", item[1]), missing):
            advance(1)
    return {"written": len(missing), "kept": len(items) - len(missing)}


def write_feature_files(
    folder: str | Path,
    encoder: FrozenEncoder,
    rows_of: Iterable[tuple[str, Callable[[], Float[Tensor, "..."]]]],
    dtype: str,
    title: str,
    progress: bool = True,
) -> dict[str, int]:
    """Write `<folder>/<id>.pt` for each (id, function that returns its rows); existing files are kept.

    Each file is written atomically, so the same call continues a stopped run. "simulated.json" in the folder records
    encoder and dtype, so that two encoders never mix. Equal rows give equal bytes: torch writes the name of the target
    file into it, so rows are first saved to memory.

    Returns:
        Counts: `written` and `kept` files.

    Raises:
        InputError: the folder holds features of another seed, encoder or dtype, or of unknown origin.
    """
    if dtype not in FEATURE_DTYPES:
        raise InputError(f"dtype must be one of {FEATURE_DTYPES}, got {dtype!r}")
    folder = Path(folder)
    _claim(folder, encoder, dtype)

    def write(path: Path, rows: Callable[[], Float[Tensor, "..."]]) -> None:
        content = BytesIO()
        torch.save(rows().to(getattr(torch, dtype)), content)
        with atomic_path(path, durable=False) as temporary:
            temporary.write_bytes(content.getvalue())

    return write_files(folder, ".pt", rows_of, write, title, progress)


def _claim(folder: Path, encoder: FrozenEncoder, dtype: str) -> None:
    mine = {"seed": encoder.seed, "dtype": dtype, "encoder": asdict(encoder.settings)}
    marker = folder / _MARKER
    if marker.exists():
        if json.dumps(read_json(marker), sort_keys=True) != json.dumps(mine, sort_keys=True):
            raise InputError(
                f"{marker} says that {folder} holds features of another seed, encoder or dtype; choose another folder, "
                f"or delete this one"
            )
    elif folder.exists() and any(folder.glob("*.pt")):
        raise InputError(f"{folder} holds .pt files that were not simulated here; choose another folder")
    else:
        write_json(marker, mine)
