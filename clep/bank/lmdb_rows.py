"""Rows of a bank that lie in an LMDB."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from clep.bank.lmdb_file import LmdbFile, block_key
from clep.bank.storage import Rows, as_items


class LmdbRows(Rows):
    """Rows in blocks of `block_rows`, read through transactions; only blocks that hold a wanted row are read.

    Args:
        file: the LMDB.
        n_rows, dim: of the bank.
        dtype: float16, float32 or uint8, as stored.
        block_rows: rows in a block; the last block may have fewer.
    """

    def __init__(self, file: LmdbFile, n_rows: int, dim: int, dtype: torch.dtype, block_rows: int) -> None:
        self.file, self.n_rows, self.dim, self.dtype = file, n_rows, dim, dtype
        self.block_rows = block_rows
        self.device = torch.device("cpu")
        self._stored = np.dtype({torch.float16: "<f2", torch.float32: "<f4", torch.uint8: "u1"}[dtype])

    def select(
        self, row: Int64[Tensor, " batch"], out: Shaped[Tensor, "batch dim"] | None = None
    ) -> Shaped[Tensor, "batch dim"]:
        """Copy single rows, as they are held, into `out` or a new tensor; the numbers must be rows of the bank.

        Rows of one block that follow each other in `row` cost one look-up, so sorted ones are fastest.
        """
        if out is None:
            out = torch.empty(len(row), self.dim, dtype=self.dtype)
        to = out.numpy()
        for begin, end, rows in self._parts(row.numpy()):
            to[begin:end] = rows
        return out

    def place(
        self, row: Int64[Tensor, " taken"], place: Int64[Tensor, " taken"], out: Shaped[Tensor, "places dim"]
    ) -> bool:
        """Write rows from the mapped file to their places in `out`, if it is of their type: says whether it has."""
        if out.dtype != self.dtype or not out.is_contiguous() or not out.numel():
            return False
        target, to = as_items(out), place.numpy()
        for begin, end, rows in self._parts(row.numpy()):
            target[to[begin:end]] = rows.view(target.dtype)[:, 0]
        return True

    def _parts(self, number: Int64[np.ndarray, " taken"]) -> Iterator[tuple[int, int, np.ndarray]]:
        """Rows of one block that follow each other in `number`: from, to, and they, right until the next."""
        block = number // self.block_rows
        edges = np.flatnonzero(np.diff(block)) + 1
        begins, ends = [0, *edges.tolist()], [*edges.tolist(), len(number)]
        inside = number - block * self.block_rows
        with self.file.reading() as transaction:
            for begin, end in zip(begins, ends, strict=True):
                if begin == end:
                    continue
                value = transaction.get(block_key(int(block[begin])))
                rows = np.frombuffer(value, dtype=self._stored).reshape(-1, self.dim)
                first, last = int(inside[begin]), int(inside[end - 1])
                if last - first == end - begin - 1 and (np.diff(inside[begin:end]) == 1).all():
                    yield begin, end, rows[first : last + 1]
                else:
                    yield begin, end, rows[inside[begin:end]]
