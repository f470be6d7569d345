"""Feature files as Ego4D has them: one .pt a video, a float tensor `[rows, dim]`."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

import torch
from jaxtyping import Float
from rich.progress import track
from torch import Tensor

from clep.demo.frozen_encoder import FrozenEncoder
from clep.demo.settings import FEATURE_DTYPES
from clep.errors import InputError
from clep.files import atomic_path, read_json, write_json

_MARKER = "simulated.json"


def write_feature_files(
    folder: str | Path,
    encoder: FrozenEncoder,
    rows_of: Iterable[tuple[str, Callable[[], Float[Tensor, "..."]]]],
    dtype: str,
    title: str,
    progress: bool = True,
) -> dict[str, int]:
    """Write `<folder>/<id>.pt` for each (id, function that makes its rows); files already there are kept.

    Each file appears whole or not at all, so a run that was stopped is continued by the same call. A file
    "simulated.json" in the folder remembers the encoder and the number format, so that two encoders never mix.
    Equal rows make equal files, byte for byte: torch writes the name of the file it saves to into it, so rows are
    saved to memory first.

    Returns:
        Counts: `written` and `kept` files.

    Raises:
        InputError: the folder holds features of another seed, encoder or number format, or of an origin unknown here.
    """
    if dtype not in FEATURE_DTYPES:
        raise InputError(f"simulated features: dtype must be one of {FEATURE_DTYPES}, got {dtype!r}")
    folder = Path(folder)
    _claim(folder, encoder, dtype)
    done = {path.name for path in folder.glob("*.pt")}
    counts = {"written": 0, "kept": 0}
    for name, make in track(list(rows_of), description=title, disable=not progress):
        if f"{name}.pt" in done:
            counts["kept"] += 1
            continue
        rows = make().to(getattr(torch, dtype))
        content = BytesIO()
        torch.save(rows, content)
        with atomic_path(folder / f"{name}.pt") as temporary:
            temporary.write_bytes(content.getvalue())
        counts["written"] += 1
    return counts


def _claim(folder: Path, encoder: FrozenEncoder, dtype: str) -> None:
    mine = {"seed": encoder.seed, "dtype": dtype, "encoder": asdict(encoder.settings)}
    marker = folder / _MARKER
    if marker.exists():
        if json.dumps(read_json(marker), sort_keys=True) != json.dumps(mine, sort_keys=True):
            raise InputError(
                f"{marker} says that {folder} holds features of another seed, encoder or number format; choose another "
                f"folder, or delete this one"
            )
    elif folder.exists() and any(folder.glob("*.pt")):
        raise InputError(f"{folder} holds .pt files that were not simulated here; choose another folder")
    else:
        write_json(marker, mine)
