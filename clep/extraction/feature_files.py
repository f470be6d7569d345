"""Read the features that others extracted: one `.pt` or `.npy` file a video, data only, never code."""

import pickle
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from clep.errors import InputError

SUFFIXES = (".pt", ".npy")


class FeatureFileError(InputError):
    """One feature file cannot be used.

    Attributes:
        kind: the list of a coverage table that it belongs to: "unreadable", "pickles_code", "wrong_shape",
            "other_dim" or "not_finite".
        reason: what is wrong with it, without its name.
    """

    def __init__(self, path: Path, kind: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.kind = kind
        self.reason = reason


def feature_files(folder: str | Path) -> dict[str, Path]:
    """List the feature files of a folder as `{id: path}`, sorted by id; the id is the name without its suffix.

    Raises:
        InputError: the folder is missing, holds no feature file, or holds one id in both formats.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; it should hold one <id>.pt or <id>.npy file a video")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.suffix not in SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in found:
            raise InputError(f"{folder} holds both {found[path.stem].name} and {path.name}; remove one of them")
        found[path.stem] = path
    if not found:
        raise InputError(f"{folder} holds no .pt or .npy file; extract or download the features into it first")
    return dict(sorted(found.items()))


def open_features(path: str | Path, allow_vector: bool = False) -> Float[Tensor, "rows dim"]:
    """Open one file of features `[rows, dim]` or `[rows, 1, dim]` without reading its numbers, where its format allows.

    A zip-format `.pt` and a `.npy` file are memory-mapped, so asking for the shape costs no read of the data; legacy
    `.pt` files have to be loaded whole. The result keeps the number format of the file. With `allow_vector`, a single
    vector `[dim]` is one row.

    Raises:
        FeatureFileError: the file is truncated, would run code, or holds something other than such a tensor.
    """
    path = Path(path)
    value = _open_npy(path) if path.suffix == ".npy" else _open_pt(path)
    if not isinstance(value, Tensor):
        raise FeatureFileError(path, "wrong_shape", f"holds a {type(value).__name__}, not one tensor [rows, dim]")
    shape = tuple(value.shape)
    if value.layout != torch.strided or not value.is_floating_point():
        raise FeatureFileError(path, "wrong_shape", f"holds {value.dtype} {value.layout}, not a dense float tensor")
    if value.ndim == 1 and allow_vector:
        value = value[None]
    if value.ndim == 3 and value.shape[1] == 1:
        value = value[:, 0]
    if value.ndim != 2:
        raise FeatureFileError(path, "wrong_shape", f"has shape {shape}, expected [rows, dim] or [rows, 1, dim]")
    if 0 in value.shape:
        raise FeatureFileError(path, "wrong_shape", f"is empty: its shape is {shape}")
    return value.detach()


def checked_rows(
    path: str | Path, value: Float[Tensor, "rows dim_of_file"], dim: int, dtype: str, allow_nonfinite: bool = False
) -> Float[Tensor, "rows dim"]:
    """Return what `open_features` opened in the number format `dtype` ("float16", "float32" or "uint8").

    Raises:
        FeatureFileError: another `dim`; or, unless allowed, rows with NaN or infinity, which include numbers too large
            for float16; numbers that are no bytes for uint8.
    """
    if value.shape[1] != dim:
        raise FeatureFileError(Path(path), "other_dim", f"has dim {value.shape[1]} where the others have {dim}")
    if dtype == "uint8" and not bool((value == value.round().clamp(0, 255)).all()):
        raise FeatureFileError(Path(path), "not_finite", "holds other numbers than bytes: pass dtype=float16")
    rows = value.to(getattr(torch, dtype))
    finite = torch.isfinite(rows).all(dim=1)
    if finite.all():
        return rows
    if not (rows.isinf() & value.isfinite()).any():
        if allow_nonfinite:
            return rows
        why = "NaN or infinity"
    else:
        why = f"numbers too large for {dtype}: pass dtype=float32"
    raise FeatureFileError(Path(path), "not_finite", f"{int((~finite).sum())} of {len(finite)} rows hold {why}")


def most_common_dim(paths: Iterable[str | Path], sample: int = 32, allow_vector: bool = False) -> int | None:
    """Return the dim that most of the first `sample` readable files have, None where no file can be read.

    Ties go to the dim met first.
    """
    count: dict[int, int] = {}
    for path in paths:
        try:
            dim = open_features(path, allow_vector).shape[1]
        except FeatureFileError:
            continue
        count[dim] = count.get(dim, 0) + 1
        if sum(count.values()) == sample:
            break
    return max(count, key=lambda dim: count[dim]) if count else None


def _open_npy(path: Path) -> object:
    try:
        with path.open("rb") as file:
            if file.read(6) != b"\x93NUMPY":
                raise FeatureFileError(path, "unreadable", "is not a .npy file, or is truncated")
        # "c" maps copy-on-write: torch warns about tensors over read-only memory, and the file stays as it is.
        return torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))
    except OSError as error:
        raise FeatureFileError(path, "unreadable", f"cannot be read: {error.strerror or error}") from error
    except FeatureFileError:
        raise
    except (ValueError, TypeError, EOFError) as error:
        if "Python objects" in str(error):
            raise FeatureFileError(path, "pickles_code", "holds pickled Python objects, refused unread") from error
        raise FeatureFileError(path, "unreadable", f"is corrupt or truncated ({_first_line(error)})") from error


def _open_pt(path: Path) -> object:
    try:
        with path.open("rb") as file:
            is_zip = file.read(2) == b"PK"
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except OSError as error:
        raise FeatureFileError(path, "unreadable", f"cannot be read: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        asks = re.search(r"[Uu]nsupported (?:global: )?(?:GLOBAL|class) (\S+)", str(error))
        if asks:
            reason = f"asks to run {asks.group(1)} when it is loaded; only files that hold just a tensor are read"
            raise FeatureFileError(path, "pickles_code", reason) from error
        raise FeatureFileError(
            path, "unreadable", "is not a PyTorch file that holds data alone, or is corrupt"
        ) from error
    except Exception as error:
        # torch raises RuntimeError, EOFError, KeyError, ... depending on where a broken file ends.
        reason = f"is corrupt or truncated ({type(error).__name__}: {_first_line(error)}); fetch it again"
        raise FeatureFileError(path, "unreadable", reason) from error


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0].split(". ")[0][:120]
