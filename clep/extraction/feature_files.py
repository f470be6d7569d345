"""Read existing feature files, one `.pt`, `.npy`, `.npz` or `.h5` per video, without running pickled code."""

import pickle
import pickletools
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from clep.checksums import verify_zip
from clep.errors import InputError
from clep.extraction.items import printable
from clep.hdf5 import open_hdf5
from clep.remote import local_path

SUFFIXES = (".pt", ".npy", ".npz", ".h5")
FAULTS = ("unreadable", "unsafe_pickle", "wrong_shape", "other_dim", "not_finite")

_READERS = 16
_LEGACY_SAMPLE = 32
_MOST_INFLATED = 50  # times the size of a compressed file


class FeatureFileError(InputError):
    """A feature file is unusable.

    Attributes:
        kind: one of `FAULTS`; the list of the coverage in which the file is shown.
        reason: the fault, without the file's name.
    """

    def __init__(self, path: Path, kind: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.kind = kind
        self.reason = reason


def feature_files(folder: str | Path) -> dict[str, Path]:
    """List the feature files in and below a folder as `{id: path}`, sorted by id.

    The id is the path in the folder without its suffix ("kitchen/v1"). The files of a remote folder are fetched.

    Raises:
        InputError: the folder is missing, holds no feature file, or holds one id in two formats.
    """
    folder = local_path(folder, SUFFIXES)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give a folder with one <id>{' or <id>'.join(SUFFIXES)} per video")
    found: dict[str, Path] = {}
    for path in sorted(_files_below(folder)):
        name = printable(path.relative_to(folder).with_suffix("").as_posix())
        if name in found:
            raise InputError(f"{folder} holds both {found[name].name} and {path.name}; remove one of them")
        found[name] = path
    if not found:
        raise InputError(
            f"{folder} holds no {', '.join(SUFFIXES)} file; extract or download the features into it first"
        )
    return dict(sorted(found.items()))


def _files_below(folder: Path) -> Iterator[Path]:
    """Yield the feature files in and below a folder, through linked folders too, each folder once."""
    waiting, seen = [folder], {folder.resolve()}
    while waiting:
        for path in waiting.pop().iterdir():
            if path.name.startswith("."):
                continue
            if path.is_dir() and path.suffix not in SUFFIXES:
                if (real := path.resolve()) not in seen:
                    seen.add(real)
                    waiting.append(path)
            elif path.suffix in SUFFIXES:
                yield path


def open_features(
    path: str | Path, allow_vector: bool = False, verify: bool = False, array: str | None = None
) -> Float[Tensor, "rows dim"]:
    """Open a file of features `[rows, dim]`, `[rows, 1, dim]` or `[1, rows, dim]`; values are read when they are used.

    A zip-format `.pt` and a `.npy` file are memory-mapped, so reading the shape does not read the data; other files are
    loaded completely. The dtype is that of the file.

    Args:
        path: the file.
        allow_vector: accept a single vector `[dim]` as one row.
        verify: compare a zip-format `.pt` with its CRC-32, which reads it once.
        array: name of the array in a `.npz`, `.h5`, or a `.pt` with a dict; of a list, its index. None: the only one.

    Raises:
        FeatureFileError: the file is damaged, an unsafe pickle, would take more memory than its size, or holds
            something else.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a link to a missing file" if path.is_symlink() else "is not a regular file"
        raise FeatureFileError(path, "unreadable", f"{what}; fetch it or remove it")
    if path.suffix == ".npy":
        value = _open_npy(path)
    elif path.suffix == ".npz":
        value = _open_npz(path, array)
    elif path.suffix == ".h5":
        value = _open_h5(path, array)
    else:
        value = _member(path, _open_pt(path, verify), array)
    if not isinstance(value, Tensor):
        raise FeatureFileError(path, "wrong_shape", f"holds a {type(value).__name__}, not one tensor [rows, dim]")
    if value.is_nested or value.layout != torch.strided or not value.is_floating_point() or value.device.type != "cpu":
        kind = "nested tensor" if value.is_nested else f"{value.dtype} {value.layout} on {value.device}"
        raise FeatureFileError(path, "wrong_shape", f"holds a {kind}, not a dense float tensor")
    shape = tuple(value.shape)
    size, file_size = value.numel() * value.element_size(), path.stat().st_size
    if size > file_size and path.suffix in (".pt", ".npy"):  # strides of 0 make a tensor of any size from one value
        reason = f"claims {size:,} bytes of values in a file of {file_size:,}; save tensor.contiguous()"
        raise FeatureFileError(path, "wrong_shape", reason)
    if value.ndim == 1 and allow_vector:
        value = value[None]
    if value.ndim == 3 and value.shape[1] == 1:
        value = value[:, 0]
    elif value.ndim == 3 and value.shape[0] == 1:
        value = value[0]
    if value.ndim != 2:
        expected = "[rows, dim], [rows, 1, dim] or [1, rows, dim]"
        raise FeatureFileError(path, "wrong_shape", f"has shape {shape}, expected {expected}")
    if 0 in value.shape:
        raise FeatureFileError(path, "wrong_shape", f"is empty: its shape is {shape}")
    return value.detach()


def checked_rows(
    path: str | Path, value: Float[Tensor, "rows dim_of_file"], dim: int, dtype: str, allow_nonfinite: bool = False
) -> Float[Tensor, "rows dim"]:
    """Convert the result of `open_features` to `dtype` ("float16", "float32" or "uint8"), with checks.

    Raises:
        FeatureFileError: another `dim`; rows with NaN or infinity, unless allowed; values too large for float16, or not
            integers from 0 to 255 for uint8.
    """
    if value.shape[1] != dim:
        raise FeatureFileError(Path(path), "other_dim", f"has dim {value.shape[1]}, but the others have {dim}")
    if dtype == "uint8" and not bool((value == value.round().clamp(0, 255)).all()):
        raise FeatureFileError(
            Path(path), "not_finite", "holds values that are not integers from 0 to 255: pass dtype=float16"
        )
    rows = value.to(getattr(torch, dtype))
    finite = torch.isfinite(rows).all(dim=1)
    if finite.all():
        return rows
    if not (rows.isinf() & value.isfinite()).any():
        if allow_nonfinite:
            return rows
        why = "NaN or infinity"
    else:
        why = f"values too large for {dtype}: pass dtype=float32"
    raise FeatureFileError(Path(path), "not_finite", f"{int((~finite).sum())} of {len(finite)} rows hold {why}")


def read_shapes(
    files: Mapping[str, Path], allow_vector: bool = False, array: str | None = None
) -> dict[str, tuple[int, int]]:
    """Return (rows, dim) of files; (0, 0) for unusable ones.

    Legacy `.pt` files are skipped, since reading their shape loads them completely.
    """

    def shape(path: Path) -> tuple[int, int] | None:
        try:
            if path.suffix == ".pt" and path.is_file() and not is_zip(path):
                return None
            rows, dim = open_features(path, allow_vector, array=array).shape
        except (FeatureFileError, OSError):
            return 0, 0
        return rows, dim

    with ThreadPoolExecutor(_READERS) as readers:
        shapes = zip(files, readers.map(shape, files.values()), strict=True)
        return {name: found for name, found in shapes if found is not None}


def most_common_dim(
    files: Mapping[str, Path],
    shapes: Mapping[str, tuple[int, int]],
    allow_vector: bool = False,
    array: str | None = None,
) -> int | None:
    """Return the most common dimension of the files, the first of equally common ones; None if no file can be read.

    Args:
        files: paths by id.
        shapes: of `read_shapes`. Of the legacy `.pt` files, which are not in it, a sample of 32 is read.
        allow_vector, array: as for `read_shapes`.
    """
    count = Counter(dim for _, dim in shapes.values() if dim)
    legacy = [path for name, path in files.items() if name not in shapes]
    for path in legacy[:: max(1, len(legacy) // _LEGACY_SAMPLE)]:
        try:
            count[open_features(path, allow_vector, array=array).shape[1]] += 1
        except FeatureFileError:
            continue
    return count.most_common(1)[0][0] if count else None


def is_zip(path: Path) -> bool:
    """Whether a `.pt` file has PyTorch's zip format, which can be memory-mapped."""
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _open_npy(path: Path) -> object:
    try:
        with path.open("rb") as file:
            if file.read(6) != b"\x93NUMPY":
                raise FeatureFileError(path, "unreadable", "is not a .npy file, or is truncated")
        # "c" maps copy-on-write, since PyTorch warns about tensors over read-only memory; the file is not changed.
        return _native(np.load(path, mmap_mode="c", allow_pickle=False))
    except OSError as error:
        raise FeatureFileError(path, "unreadable", f"cannot be read: {error.strerror or error}") from error
    except FeatureFileError:
        raise
    except (ValueError, TypeError, EOFError) as error:
        if "Python objects" in str(error):
            reason = "is an unsafe pickle of Python objects; save a float array"
            raise FeatureFileError(path, "unsafe_pickle", reason) from error
        raise FeatureFileError(path, "unreadable", f"is corrupt or truncated ({_first_line(error)})") from error


def _native(values: np.ndarray) -> Tensor:
    """Return a tensor over an array; values of another byte order are copied, since PyTorch has native ones only."""
    return torch.from_numpy(values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("=")))


def _member(path: Path, value: object, array: str | None) -> object:
    """Return one tensor of a dict or list, by its key or as the only one; other values are returned unchanged."""
    if isinstance(value, dict):
        named = {str(name): item for name, item in value.items() if isinstance(item, Tensor)}
    elif isinstance(value, list | tuple):
        named = {str(index): item for index, item in enumerate(value) if isinstance(item, Tensor)}
    else:
        return value
    return named[_array_name(path, list(named), array)]


def _array_name(path: Path, names: Sequence[str], array: str | None) -> str:
    """Return the name of the array to read, checked; without one, the only name."""
    shown = ", ".join(map(repr, names[:10])) or "none"
    if array is None and len(names) != 1:
        reason = f"holds {len(names)} arrays ({shown}); choose one with array=NAME"
        raise FeatureFileError(path, "wrong_shape", reason)
    if array is not None and array not in names:
        raise FeatureFileError(path, "wrong_shape", f"has no array {array!r}; it holds {shown}")
    return names[0] if array is None else array


def _open_npz(path: Path, array: str | None) -> object:
    try:
        with zipfile.ZipFile(path) as archive:
            claimed = sum(record.file_size for record in archive.infolist())
            if claimed > _MOST_INFLATED * path.stat().st_size:
                raise FeatureFileError(path, "unreadable", f"unpacks to {claimed:,} bytes; save it without compression")
        with np.load(path, allow_pickle=False) as arrays:
            return _native(arrays[_array_name(path, list(arrays.files), array)])
    except FeatureFileError:
        raise
    except (ValueError, TypeError, EOFError, OSError, KeyError, zipfile.BadZipFile, NotImplementedError) as error:
        if "Object arrays" in str(error) or "Python objects" in str(error):
            raise FeatureFileError(path, "unsafe_pickle", "has pickled Python objects, which are refused") from error
        raise FeatureFileError(path, "unreadable", f"is corrupt or truncated ({_first_line(error)})") from error


def _open_h5(path: Path, array: str | None) -> object:
    names: list[str] = []
    try:
        with open_hdf5(path) as file:
            file.visititems(lambda name, node: names.append(name) if isinstance(node, h5py.Dataset) else None)
            dataset = file[_array_name(path, names, array)]
            size = dataset.size * dataset.dtype.itemsize
            if size > _MOST_INFLATED * path.stat().st_size:
                raise FeatureFileError(path, "unreadable", f"unpacks to {size:,} bytes; save it without compression")
            return torch.from_numpy(np.ascontiguousarray(dataset[...]).astype(dataset.dtype.newbyteorder("=")))
    except FeatureFileError:
        raise
    except (InputError, TypeError, ValueError) as error:
        raise FeatureFileError(path, "unreadable", f"cannot be read ({_first_line(error)}); fetch it again") from error


def _open_pt(path: Path, verify: bool) -> object:
    try:
        zipped = is_zip(path)
        _check_zip(path, verify) if zipped else _check_legacy(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except FeatureFileError:
        raise
    except OSError as error:
        raise FeatureFileError(path, "unreadable", f"cannot be read: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        asks = re.search(r"[Uu]nsupported (?:global: )?(?:GLOBAL|class) (\S+)", str(error))
        if asks:
            reason = f"is an unsafe pickle: loading it would run {asks.group(1)}; save a single tensor"
            raise FeatureFileError(path, "unsafe_pickle", reason) from error
        raise FeatureFileError(
            path, "unreadable", "is not a PyTorch file with a single tensor, or is corrupt"
        ) from error
    except Exception as error:
        # torch raises RuntimeError, EOFError, KeyError and others, depending on where a file is broken.
        reason = f"is corrupt or truncated ({type(error).__name__}: {_first_line(error)}); fetch it again"
        raise FeatureFileError(path, "unreadable", reason) from error


def _check_zip(path: Path, verify: bool) -> None:
    """Check that a zip unpacks to no more than its size; `verify` also compares its records with their CRC-32."""
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        if any(record.compress_type != zipfile.ZIP_STORED for record in records):
            reason = "is a compressed zip, which PyTorch does not write; unzip it and save the tensor with torch.save"
            raise FeatureFileError(path, "unreadable", reason)
        if sum(record.file_size for record in records) > path.stat().st_size:
            raise FeatureFileError(path, "unreadable", "claims records larger than the file; fetch it again")
        if verify:
            verify_zip(archive)


def _check_legacy(path: Path) -> None:
    """Check that a legacy file declares no storage larger than itself, which `torch.load` would allocate at once.

    The pickle of the storages, with element counts as integers, follows after those of a magic number, the protocol
    and the system's sizes.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        for number in range(4):
            try:
                integers = [arg for _, arg, _ in pickletools.genops(file) if isinstance(arg, int)]
            except ValueError as error:
                reason = "is no PyTorch file with a single tensor, or corrupt"
                raise FeatureFileError(path, "unreadable", reason) from error
            if number == 3 and any(value > size for value in integers):
                reason = f"claims a tensor of {max(integers):,} elements in a file of {size:,} bytes; fetch it again"
                raise FeatureFileError(path, "unreadable", reason)


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0].split(". ")[0][:120]
