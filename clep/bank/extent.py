"""Where the bytes of one HDF5 dataset lie, so that they can be memory-mapped or read without an open handle."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from clep.errors import InputError

_BLOCK_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Extent:
    """One numeric dataset of a file, found and closed again.

    Attributes:
        path, name: the file, and the dataset in it.
        shape: as it is to be read; a tutorial's `[T, 1, dim]` counts as `[T, dim]`.
        dtype: as stored.
        offset: byte of the file where its values begin; None where they are chunked, compressed, external, or not
            in the byte order of this machine, so that they cannot be memory-mapped.
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int | None

    @classmethod
    def of(cls, dataset: h5py.Dataset, path: Path, shape: tuple[int, ...] | None = None) -> "Extent":
        """Look at an open dataset; nothing of it is kept open."""
        created = dataset.id.get_create_plist()
        offset = None
        if created.get_layout() == h5py.h5d.CONTIGUOUS and created.get_external_count() == 0:
            offset = dataset.id.get_offset()
        dtype = dataset.dtype
        if offset is not None and (offset % dtype.itemsize or not dtype.isnative):
            offset = None
        return cls(path, str(dataset.name).lstrip("/"), shape or dataset.shape, dtype, offset)

    def map(self, file_bytes: np.memmap) -> Tensor:
        """The dataset as a tensor over a mapped file: no copy, and writing to it is an error of the process."""
        assert self.offset is not None
        size = int(np.prod(self.shape)) * self.dtype.itemsize
        values = file_bytes[self.offset : self.offset + size].view(self.dtype).reshape(self.shape)
        with warnings.catch_warnings():
            # Tensors cannot be read-only; no function of this folder hands out or writes to a mapped one.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            return torch.from_numpy(values)

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """The rows in order, in blocks of some 64 MB: the first row's number, and the rows."""
        size = max(1, _BLOCK_BYTES // max(1, int(np.prod(self.shape[1:])) * self.dtype.itemsize))
        with h5py.File(self.path, "r", locking=False) as file:
            dataset = file[self.name]
            for start in range(0, self.shape[0], size):
                try:
                    rows = dataset[start : start + size]
                except OSError as error:
                    raise InputError(f"{self.path}: '{self.name}' cannot be read ({error}); copy it again") from error
                yield start, rows.reshape(-1, *self.shape[1:])


def map_file(path: Path) -> np.memmap:
    """Map a whole file for reading: its pages belong to the system's cache and are shared by all processes.

    The mapping is read-only rather than copy-on-write, which Linux refuses for files larger than its memory.
    """
    return np.memmap(path, mode="r", dtype=np.uint8)
