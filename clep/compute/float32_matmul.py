"""Float32 matrix products on a CPU: by oneDNN, where a trial shows that it computes them in float32 too."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch

_SIDE = 256
_oneDNN: Any = torch.backends.mkldnn


@contextmanager
def fast_float32_products() -> Iterator[bool]:
    """Let oneDNN compute the float32 products of the block where that loses nothing; yields whether it does.

    PyTorch takes MKL, which leaves AVX-512 unused on processors of AMD and takes about twice as long there, unless a
    lower precision is allowed. What oneDNN makes of that permission depends on the processor: those with matrix units
    (AMX) round to bfloat16, all others compute in float32 as before. A trial product tells which, once in a process.
    Nothing is changed where there is a GPU, for which the permission would count as well.
    """
    matmul = _oneDNN.matmul
    before = matmul.fp32_precision
    if torch.cuda.is_available() or before != "none" or not _keeps_float32():
        yield False
        return
    matmul.fp32_precision = "bf16"
    try:
        yield True
    finally:
        matmul.fp32_precision = before


@lru_cache(maxsize=1)
def _keeps_float32() -> bool:
    if not _oneDNN.is_available():
        return False
    matmul, generator = _oneDNN.matmul, torch.Generator().manual_seed(0)
    left, right = (torch.rand(_SIDE, _SIDE, generator=generator) for _ in range(2))
    before, matmul.fp32_precision = matmul.fp32_precision, "bf16"
    try:
        product = left @ right
    finally:
        matmul.fp32_precision = before
    exact = left.double() @ right.double()
    # Float32 errs by some 1e-7 of the product, bfloat16 by 1e-3.
    return bool(((product - exact).abs() / exact).max() < 1e-5)
