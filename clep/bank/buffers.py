"""Host memory of large batches, used again once nobody refers to it.

The system clears each page of new memory when it is first written, which can take longer than copying rows there.
"""

from collections import deque
from weakref import finalize

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

_SMALLEST_BYTES = 1 << 20
"""The allocator keeps smaller blocks itself."""
_MOST_FREE = 4


class Buffers:
    """Memory of float32 tensors: `take` returns memory that no earlier tensor uses any more, else new memory.

    A tensor and all its views hold the array that they were made from; when the last of them is gone, its memory is
    free. There is no lock, which a forked process could inherit locked.
    """

    def __init__(self) -> None:
        self._free: deque[np.ndarray] = deque(maxlen=_MOST_FREE)

    def take(self, rows: int, dim: int) -> Float32[Tensor, "rows dim"]:
        """Return a tensor with arbitrary content."""
        count = rows * dim
        if 4 * count < _SMALLEST_BYTES:
            return torch.empty(rows, dim)
        memory = self._memory(count)
        array = memory[:count]
        finalize(array, self._free.append, memory).atexit = False
        return torch.from_numpy(array).view(rows, dim)

    def _memory(self, count: int) -> np.ndarray:
        for _ in range(len(self._free)):
            try:
                memory = self._free.popleft()
            except IndexError:  # another thread took it
                break
            if count <= len(memory) <= 2 * count:
                return memory
            self._free.append(memory)  # of batches of another size
        return np.empty(count + count // 8, dtype=np.float32)  # the next batch may be a little larger
