"""Host memory of large batches, used again once nobody refers to it.

The system clears each page of new memory when it is first written, which can take longer than copying rows there.
"""

import sys
from threading import Lock

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

_SMALLEST_BYTES = 1 << 20
"""The allocator keeps smaller blocks itself."""
_MOST_KEPT = 4
_FREE = 3
"""References to a kept array while it is looked at: the list, the loop and the argument of `getrefcount`."""


class Buffers:
    """Memory of float32 tensors: `take` gives memory that no earlier tensor uses any more, else new memory.

    Each tensor, and each view of it, holds a reference to its array, so memory in use is never given out again.
    """

    def __init__(self) -> None:
        self._arrays: list[np.ndarray] = []
        self._lock = Lock()

    def take(self, rows: int, dim: int) -> Float32[Tensor, "rows dim"]:
        """Return a tensor with arbitrary content."""
        count = rows * dim
        if 4 * count < _SMALLEST_BYTES:
            return torch.empty(rows, dim)
        with self._lock:
            for array in self._arrays:
                if len(array) >= count and sys.getrefcount(array) == _FREE:
                    return torch.from_numpy(array[:count]).view(rows, dim)
            array = np.empty(count + count // 8, dtype=np.float32)  # the next batch may be a little larger
            if len(self._arrays) == _MOST_KEPT:
                del self._arrays[min(range(_MOST_KEPT), key=lambda at: len(self._arrays[at]))]  # tensors may keep it
            self._arrays.append(array)
            return torch.from_numpy(array[:count]).view(rows, dim)
