"""mmaction2's long-term feature banks, `lfb_{train,val}.pkl`, read as data alone, and written.

Such a file holds `{video: {second: features}}`: one tensor `[regions, dim]` a second, or a list of tensors `[dim]`,
written by `torch.save` or plain `pickle`. A file that names code to run is refused.
"""

import codecs
import io
import pickle
import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from clep.errors import InputError
from clep.files import atomic_path

Lfb = dict[str, dict[int, Float[Tensor, "regions dim"]]]

_ZIP = b"PK"
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the pickled magic number of an old torch.save


def load_lfb(path: str | Path) -> Lfb:
    """Read one bank of mmaction2, in the order of the file; seconds without a region are left out.

    Raises:
        InputError: the file is missing, damaged, asks to run code, or holds something else; names the video.
    """
    path = Path(path)
    return _checked(path, load_data(path))


def load_data(path: Path) -> object:
    """Read what `torch.save` or plain `pickle` wrote: tensors, arrays, containers, numbers and text, and no code.

    Raises:
        InputError: the file is missing, damaged, or asks to run code.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(_LEGACY))
        if start.startswith(_ZIP) or start == _LEGACY:
            return torch.load(path, map_location="cpu", weights_only=True)
        else:
            with path.open("rb") as file:
                return _DataUnpickler(file).load()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        asks = re.search(r"[Uu]nsupported (?:global: )?(?:GLOBAL|class) (\S+)", str(error))
        if asks is None:
            raise InputError(f"{path} is not a file of torch.save or pickle that holds data alone ({error})") from error
        raise InputError(
            f"{path} asks to run {asks.group(1)} when it is loaded, and is refused: only tensors, arrays, dicts and "
            f"lists are read"
        ) from error
    except Exception as error:
        # A broken file ends in RuntimeError, EOFError, KeyError, ... depending on where it is broken.
        raise InputError(f"{path} is damaged or truncated ({type(error).__name__}: {error}); copy it again") from error


def save_lfb(path: str | Path, lfb: Mapping[str, Mapping[int, Tensor]]) -> None:
    """Write a bank as mmaction2 reads it, by `torch.save`.

    Raises:
        InputError: the disk is full, or the folder cannot be written to.
    """
    with atomic_path(path) as temporary:
        torch.save({video: dict(seconds) for video, seconds in lfb.items()}, temporary)


def _checked(path: Path, content: object) -> Lfb:
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path} holds {_kind(content)}, where {{video: {{second: features}}}} is expected")
    lfb: Lfb = {}
    dim: int | None = None
    for video, seconds in content.items():
        if not isinstance(video, str) or not isinstance(seconds, dict):
            raise InputError(f"{path}: {video!r} holds {_kind(seconds)}, where {{second: features}} is expected")
        found = lfb[video] = {}
        for second, value in seconds.items():
            if isinstance(second, bool) or not isinstance(second, int | np.integer):
                raise InputError(f"{path}: video {video!r} has the key {second!r}, where a whole second is expected")
            features = _features(value)
            if features is None or (features.shape[1] != dim and dim is not None and len(features)):
                raise InputError(
                    f"{path}: second {second} of video {video!r} holds {_kind(value)}, where features "
                    f"[regions, {dim or 'dim'}] are expected"
                )
            if len(features):
                dim = features.shape[1]
                found[int(second)] = features
    return lfb


def _features(value: object) -> Tensor | None:
    """The features of one second as a floating-point tensor `[regions, dim]`; None for anything else."""
    if isinstance(value, list | tuple):
        parts = [torch.as_tensor(part) for part in value if isinstance(part, Tensor | np.ndarray)]
        if len(parts) < len(value) or any(part.shape != parts[0].shape or part.dim() != 1 for part in parts):
            return None
        value = torch.stack(parts) if parts else torch.zeros(0, 1)
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        value = torch.from_numpy(value)
    if not isinstance(value, Tensor) or value.dim() != 2 or not value.is_floating_point() or value.is_sparse:
        return None
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return None  # strides of 0: a small file may describe more rows than any memory holds
    return value.detach()


def _kind(value: object) -> str:
    if isinstance(value, Tensor | np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    return f"a {type(value).__name__}" if value is not None else "nothing"


# What a pickle may call, by the names that PyTorch and NumPy give it. NumPy's own functions trust their arguments (an
# array of objects over arbitrary bytes crashes the process), so stand-ins replace them, which build numeric arrays
# from bytes alone.


class _Name:
    """Stand-in for `numpy.ndarray`, which pickles of arrays name and do not call."""

    def __call__(self, *_: object) -> None:
        raise pickle.UnpicklingError("Unsupported global: GLOBAL numpy.ndarray")


class _Dtype:
    """Stand-in for `numpy.dtype`: numbers and booleans only."""

    def __init__(self, code: str, *_: object) -> None:
        if not isinstance(code, str) or re.fullmatch(r"[<>=|]?[biuf][1248]", code) is None:
            raise pickle.UnpicklingError(f"arrays of the type {code!r} are not read")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray):
    """Stand-in for a pickled `numpy.ndarray`, whose state comes after it was made."""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        data = data.encode("latin1") if isinstance(data, str) else data
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray):
            raise pickle.UnpicklingError("arrays of objects are not read")
        plain: Any = (1, shape, dtype.dtype, bool(fortran), bytes(data))
        super().__setstate__(plain)


def _reconstruct(*_: object) -> _Array:
    return np.empty(0, dtype=np.int8).view(_Array)


def _frombuffer(data: Any, dtype: _Dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    return np.frombuffer(bytes(data), dtype=dtype.dtype).reshape(shape, order="F" if order == "F" else "C").copy()


def _scalar(dtype: _Dtype, data: bytes | str) -> np.generic:
    return np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, dtype=dtype.dtype, count=1)[0]


def _rebuild_tensor(storage: Any, offset: int, size: tuple, stride: tuple, *rest: Any) -> Tensor:
    if not isinstance(storage, torch.storage.TypedStorage | torch.UntypedStorage):
        raise pickle.UnpicklingError("a tensor without a storage is not read")
    return torch._utils._rebuild_tensor_v2(storage, offset, size, stride, *rest)


def _load_storage(data: bytes) -> object:
    """Stand-in for torch's own function, which would unpickle anything."""
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Build the bytes that old pickles hold as text."""
    return codecs.encode(text, "latin1" if encoding == "latin1" else "utf-8")


def _empty_bytes() -> bytes:
    """Build the bytes of an empty array, as old protocols write them; with an argument it could fill the memory."""
    return b""


class _DataUnpickler(pickle.Unpickler):
    """Rebuilds tensors, arrays and containers, and refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        """Look up a name in the list of what is allowed; NumPy's modules have two spellings."""
        module = module.replace("numpy.core", "numpy._core")
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"Unsupported global: GLOBAL {module}.{name}")
        return _ALLOWED[module, name]


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch.storage", "_load_from_bytes"): _load_storage,
    ("numpy", "ndarray"): _Name(),
    ("numpy", "dtype"): _Dtype,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _empty_bytes,
}
