"""Faster float32 matrix products on CPUs with oneDNN, if a test shows that it keeps float32 precision."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch

_SIDE = 256
_oneDNN: Any = torch.backends.mkldnn


@contextmanager
def fast_float32_products() -> Iterator[bool]:
    """Use oneDNN for float32 products in the block if it keeps float32 precision; yields whether it is used.

    By default PyTorch uses MKL, which does not use AVX-512 on AMD processors and is about half as fast there. PyTorch
    uses oneDNN only if lower precision is allowed. Processors with matrix units (AMX) then round to bfloat16; others
    still compute in float32. A test product, once per process, shows which. On machines with a GPU nothing changes,
    since the setting would apply to the GPU too.
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
    # The relative error of float32 is about 1e-7, that of bfloat16 1e-3.
    return bool(((product - exact).abs() / exact).max() < 1e-5)
