"""Read and write mmaction2's long-term feature banks, `lfb_{train,val}.pkl`, without running pickled code.

A file holds `{video: {second: features}}`, with a tensor `[regions, dim]` or a list of tensors `[dim]` per second,
written by `torch.save` or `pickle`. Pickles that would run code are refused.
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
from clep.files import atomic_path, check_input

Lfb = dict[str, dict[int, Float[Tensor, "regions dim"]]]

_ZIP = b"PK"
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the pickled magic number of an old torch.save


def load_lfb(path: str | Path) -> Lfb:
    """Read a bank of mmaction2, in the order of the file; seconds without regions are dropped.

    Raises:
        InputError: the file is missing, damaged, an unsafe pickle, or of another layout; the message names the video.
    """
    path = Path(path)
    return _checked(path, load_data(path))


def load_data(path: Path) -> object:
    """Load a file of `torch.save` or `pickle` with tensors, arrays, containers, numbers and text; no code is run.

    Raises:
        InputError: the file is missing, damaged, or an unsafe pickle.
    """
    path = check_input(path)
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
        refused = re.search(r"[Uu]nsupported (?:global: )?(?:GLOBAL|class) (\S+)", str(error))
        if refused is None:
            raise InputError(
                f"{path} is not a file of torch.save or pickle with only data ({error}); save tensors, arrays, dicts "
                f"and lists only"
            ) from error
        raise InputError(
            f"{path} is an unsafe pickle: loading it would run {refused.group(1)}; save tensors, arrays, dicts and "
            f"lists only"
        ) from error
    except Exception as error:
        # A broken file raises RuntimeError, EOFError, KeyError and others, depending on where it is broken.
        raise InputError(f"{path} is damaged or truncated ({type(error).__name__}: {error}); copy it again") from error


def save_lfb(path: str | Path, lfb: Mapping[str, Mapping[int, Tensor]]) -> None:
    """Write a bank in mmaction2's layout with `torch.save`, atomically.

    Raises:
        InputError: the disk is full or the folder is not writable.
    """
    with atomic_path(path) as temporary:
        torch.save({video: dict(seconds) for video, seconds in lfb.items()}, temporary)


def _checked(path: Path, content: object) -> Lfb:
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path} holds {_kind(content)}, expected mmaction2's {{video: {{second: features}}}}")
    lfb: Lfb = {}
    dim: int | None = None
    for video, seconds in content.items():
        if not isinstance(video, str) or not isinstance(seconds, dict):
            raise InputError(f"{path}: {video!r} holds {_kind(seconds)}, expected {{second: features}}")
        found = lfb[video] = {}
        for second, value in seconds.items():
            if isinstance(second, bool) or not isinstance(second, int | np.integer):
                raise InputError(f"{path}: video {video!r} has the key {second!r}, expected a whole second")
            features = _features(value)
            if features is None or (features.shape[1] != dim and dim is not None and len(features)):
                raise InputError(
                    f"{path}: second {second} of video {video!r} holds {_kind(value)}, expected features "
                    f"[regions, {dim or 'dim'}]"
                )
            if len(features):
                dim = features.shape[1]
                found[int(second)] = features
    return lfb


def _features(value: object) -> Tensor | None:
    """The features of one second as a floating-point tensor `[regions, dim]`; None if they are something else."""
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
        return None  # strides of 0: a small file could describe more rows than fit in memory
    return value.detach()


def _kind(value: object) -> str:
    if isinstance(value, Tensor | np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    return f"a {type(value).__name__}" if value is not None else "nothing"


# Functions that a pickle may call, by their names in PyTorch and NumPy. NumPy's functions trust their arguments (an
# array of objects over arbitrary bytes crashes the process), so they are replaced by functions that build only
# numeric arrays from bytes.


class _Name:
    """Replaces `numpy.ndarray`, which pickles of arrays name but do not call."""

    def __call__(self, *_: object) -> None:
        raise pickle.UnpicklingError("Unsupported global: GLOBAL numpy.ndarray")


class _Dtype:
    """Replaces `numpy.dtype`: numbers and booleans only."""

    def __init__(self, code: str, *_: object) -> None:
        if not isinstance(code, str) or re.fullmatch(r"[<>=|]?[biuf][1248]", code) is None:
            raise pickle.UnpicklingError(f"arrays of the type {code!r} are not read")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray):
    """Replaces a pickled `numpy.ndarray`, whose state is set after its creation."""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        data = data.encode("latin1") if isinstance(data, str) else data
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray):
            raise pickle.UnpicklingError("arrays of objects are not read")
        checked: Any = (1, shape, dtype.dtype, bool(fortran), bytes(data))
        super().__setstate__(checked)


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
    """Replaces PyTorch's function, which would unpickle anything."""
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Return the bytes that old pickles store as text."""
    return codecs.encode(text, "latin1" if encoding == "latin1" else "utf-8")


def _empty_bytes() -> bytes:
    """Return the bytes of an empty array in old protocols; no argument, since `bytes(n)` could fill the memory."""
    return b""


class _DataUnpickler(pickle.Unpickler):
    """Unpickler of tensors, arrays and containers that refuses all other names."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the replacement of an allowed name; NumPy's modules have two spellings."""
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
