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

from clep.demo.encoding_threads import map_videos
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
    items = list(rows_of)
    done = {path.name for path in folder.glob("*.pt")}
    missing = [item for item in items if f"{item[0]}.pt" not in done]

    def write(item: tuple[str, Callable[[], Float[Tensor, "..."]]]) -> None:
        name, make = item
        content = BytesIO()
        torch.save(make().to(getattr(torch, dtype)), content)
        with atomic_path(folder / f"{name}.pt", durable=False) as temporary:
            temporary.write_bytes(content.getvalue())

    for _ in track(map_videos(write, missing), title, total=len(missing), disable=not progress):
        pass
    return {"written": len(missing), "kept": len(items) - len(missing)}


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
