"""Read published checkpoints as data: `.pt`, `.pth`, `.bin`, `.safetensors`, or a folder that holds one."""

import argparse
import pickle
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from clep.errors import InputError

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
# Keys under which the official training scripts store the weights.
_WEIGHTS = ("state_dict", "weights", "model")


class _IgnoredConfig:
    """Stands for EgoVLP's pickled `parse_config.ConfigParser`: its attributes are read as data and never used."""


class _IgnoredPath(PurePosixPath):
    """Stands for a pickled `pathlib.PosixPath`."""


# Names that a checkpoint may mention, and what is built in their place. All of them hold plain values.
_ALLOWED: list[Any] = [
    argparse.Namespace,
    (_IgnoredConfig, "parse_config.ConfigParser"),
    (_IgnoredPath, "pathlib.PosixPath"),
    (_IgnoredPath, "pathlib._local.PosixPath"),
]


def read_state(weights: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint without running code.

    Args:
        weights: a file, or a folder that holds one such file.

    Returns:
        The tensors by their names, without a leading `module.`, and the training script's arguments where the file
        has them (`args` of LaViLa and AVION), as a dict.

    Raises:
        InputError: there is no such file, it is cut off or damaged, asks for code, or holds no weights.
    """
    path = find_file(weights)
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return _named(load_file(path), path), {}
        except (SafetensorError, OSError, ValueError) as error:
            raise InputError(f"{path} is no whole safetensors file ({error}); download it again") from error
    content = _load(path)
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds a {type(content).__name__}, not the weights of a model")
    wrapped = next((key for key in _WEIGHTS if isinstance(content.get(key), Mapping)), None)
    args = content.get("args") if wrapped else None
    arguments = vars(args) if isinstance(args, argparse.Namespace) else {}
    return _named(content if wrapped is None else content[wrapped], path), dict(arguments)


def find_file(weights: str | Path) -> Path:
    """Return the checkpoint file that `weights` names, which may be the only one in a folder.

    Raises:
        InputError: there is none, or there are several.
    """
    path = Path(weights).expanduser()
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
        preferred = [file for file in files if file.suffix == ".safetensors"] or files
        if len(preferred) != 1:
            found = ", ".join(file.name for file in files) or "none"
            raise InputError(f"{path} should hold one checkpoint ({', '.join(SUFFIXES)}); it holds {found}")
        return preferred[0]
    if not path.is_file():
        raise InputError(f"weights={weights}: there is no such file or folder")
    return path


def _load(path: Path) -> Any:
    if not zipfile.is_zipfile(path) and path.stat().st_size > 0:
        with path.open("rb") as file:
            if file.read(2) == b"PK":
                raise InputError(f"{path} is cut off: the end of the zip archive is missing; download it again")
    try:
        with torch.serialization.safe_globals(_ALLOWED):
            # Not memory-mapped: PyTorch reads a compressed zip as garbage then.
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = next((line for line in str(error).splitlines() if "GLOBAL" in line or "lobal" in line), str(error))
        raise InputError(
            f"{path} asks for more than tensors and plain values, so it is not loaded ({reason.strip()[:200]}). If you "
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


def as_float32(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert half-precision weights, one tensor at a time, so that they are never held twice; float64 stays."""
    for name, value in state.items():
        if value.is_floating_point() and value.dtype not in (torch.float32, torch.float64):
            state[name] = value.float()
    return state


def count_layers(state: Mapping[str, Tensor], prefix: str) -> int:
    """Return how many numbered layers there are below `prefix` (`prefix.0.…`, `prefix.1.…`)."""
    found = {name[len(prefix) + 1 :].split(".")[0] for name in state if name.startswith(f"{prefix}.")}
    return 1 + max((int(number) for number in found if number.isdigit()), default=-1)


def select(state: Mapping[str, Tensor], prefix: str, leave_out: Iterable[str] = ()) -> dict[str, Tensor]:
    """Return the tensors below `prefix`, without it; names that contain one of `leave_out` are dropped."""
    parts = tuple(leave_out)
    return {
        name[len(prefix) :]: value
        for name, value in state.items()
        if name.startswith(prefix) and not any(part in name for part in parts)
    }
