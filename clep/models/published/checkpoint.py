"""Read published checkpoints as data: `.pt`, `.pth`, `.bin`, `.safetensors`, or a folder that holds one."""

import argparse
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from clep.errors import InputError
from clep.files import read_json
from clep.weights import PUBLISHED_CONFIG, WEIGHT_SUFFIXES

# Keys under which the official training scripts store the weights.
_WEIGHTS = ("state_dict", "weights", "model")


@dataclass
class Checkpoint:
    """The content of a published checkpoint.

    Attributes:
        path: the file, for messages and for files beside it.
        tensors: weights by name, without a leading `module.`. Those of float32 are mapped from the file where it is not
            compressed, so that they are not read before they are used; the optimizer's state never is.
        args: arguments of the training script, where the file has them (LaViLa, AVION); `model` names the architecture.
        sizes: sizes that the file beside the weights gives (`published.json` in a folder that the job convert_weights
            wrote, or FILE.json beside FILE.pt); None: there is no such file.
        kind: that `published.json` names; None: there is no such file.
    """

    path: Path
    tensors: dict[str, Tensor]
    args: dict[str, Any] = field(default_factory=dict)
    sizes: dict[str, Any] | None = None
    kind: str | None = None


class _ConfigParserStub:
    """Replaces EgoVLP's pickled `parse_config.ConfigParser`; its attributes are kept as data and never used."""


class _PathStub(PurePosixPath):
    """Replaces a pickled `pathlib.PosixPath`."""


# Names that a checkpoint may mention, and the classes that are built for them. All of them hold plain values.
_ALLOWED: list[Any] = [
    argparse.Namespace,
    (_ConfigParserStub, "parse_config.ConfigParser"),
    (_PathStub, "pathlib.PosixPath"),
    (_PathStub, "pathlib._local.PosixPath"),
]


def read_checkpoint(weights: str | Path) -> Checkpoint:
    """Read a checkpoint without running code in it.

    Args:
        weights: a file, or a folder that holds one such file.

    Raises:
        InputError: there is no such file, it is cut off or damaged, would run code, or holds no weights.
    """
    path = find_file(weights)
    if path.suffix == ".safetensors":
        tensors, args = _safetensors(path), {}
    else:
        content = _load(path)
        if not isinstance(content, Mapping):
            raise InputError(f"{path} holds a {type(content).__name__}, not the weights of a model")
        wrapped = next((key for key in _WEIGHTS if isinstance(content.get(key), Mapping)), None)
        namespace = content.get("args") if wrapped else None
        args = dict(vars(namespace)) if isinstance(namespace, argparse.Namespace) else {}
        tensors = _named(content if wrapped is None else content[wrapped], path)
    sizes, kind = None, None
    if (about := path.parent / PUBLISHED_CONFIG).is_file():
        described = _described(about)
        sizes, kind, args = described.get("sizes"), described.get("kind"), described.get("args") or args
    elif (about := path.with_suffix(".json")).is_file():
        sizes = _described(about)
    return Checkpoint(path, tensors, args, sizes, kind)


def find_file(weights: str | Path) -> Path:
    """Return the checkpoint file that `weights` names, which may be the only one in a folder.

    Raises:
        InputError: there is none, or there are several.
    """
    path = Path(weights).expanduser()
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in WEIGHT_SUFFIXES)
        preferred = [file for file in files if file.suffix == ".safetensors"] or files
        if len(preferred) != 1:
            found = ", ".join(file.name for file in files) or "none"
            raise InputError(f"{path} should hold one checkpoint ({', '.join(WEIGHT_SUFFIXES)}); it holds {found}")
        return preferred[0]
    if not path.is_file():
        raise InputError(f"weights={weights}: there is no such file or folder")
    return path


def _described(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} should hold the sizes of a model as a JSON object, not a {type(content).__name__}")
    return content


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return _named(load_file(path), path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is not a complete safetensors file ({error}); download it again") from error


def _load(path: Path) -> Any:
    """Load a file of `torch.save`, mapped into memory where that is safe.

    PyTorch reads garbage from a mapped file that is compressed. Half-precision weights are converted, and so are read
    instead of mapped: pages of the mapped file would stay in memory beside the converted weights.
    """
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            if file.read(2) == b"PK":
                raise InputError(f"{path} is cut off: the end of the zip archive is missing; download it again")
        return _unpickle(path, mapped=False)
    with zipfile.ZipFile(path) as archive:
        stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())
    content = _unpickle(path, mapped=stored)
    return _unpickle(path, mapped=False) if stored and _holds_half_precision(content) else content


def _holds_half_precision(content: Any) -> bool:
    if isinstance(content, Mapping):
        return any(_holds_half_precision(value) for value in content.values())
    return isinstance(content, Tensor) and content.dtype in (torch.float16, torch.bfloat16)


def _unpickle(path: Path, mapped: bool) -> Any:
    try:
        with torch.serialization.safe_globals(_ALLOWED):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        reason = next((line for line in str(error).splitlines() if "GLOBAL" in line or "lobal" in line), str(error))
        raise InputError(
            f"{path} holds more than tensors and plain values, so it is not loaded ({reason.strip()[:200]}). If you "
            "trust its source, convert it once where its own code is installed: torch.save(torch.load(FILE, "
            "weights_only=False)['state_dict'], 'weights.pt')"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        # What PyTorch raises depends on where the file is cut or damaged.
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"{path} is cut off or damaged ({reason}); download it again") from error


def _named(tensors: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    wrong = [name for name, value in tensors.items() if not isinstance(name, str) or not isinstance(value, Tensor)]
    if wrong or not tensors:
        raise InputError(
            f"{path} holds no weights ({f'{wrong[0]!r} is not a tensor' if wrong else 'it is empty'}); "
            "give a checkpoint with `state_dict`, or a file of tensors by their names"
        )
    return {name.removeprefix("module."): value for name, value in tensors.items()}


def as_float32(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert half-precision weights in place, one tensor at a time, so that memory never holds all of them twice."""
    for name, value in tensors.items():
        if value.is_floating_point() and value.dtype not in (torch.float32, torch.float64):
            tensors[name] = value.float()
    return tensors


def count_layers(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """Return the number of layers below `prefix`, whose names are `prefix.0.…`, `prefix.1.…`, …"""
    found = {name[len(prefix) + 1 :].split(".")[0] for name in tensors if name.startswith(f"{prefix}.")}
    return 1 + max((int(number) for number in found if number.isdigit()), default=-1)
