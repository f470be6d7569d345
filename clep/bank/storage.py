"""Storage of a bank's rows, with one interface: memory-mapped from disk, in RAM, on a GPU, or in an LMDB."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64, Shaped
from torch import Tensor

from clep.bank.format import Extent, RowDigests, map_file
from clep.errors import InputError

_log = logging.getLogger(__name__)

Verify = bool | str  # True, False, "first_read" or "sample": see `FeatureBank.open`

SAMPLED_BLOCKS = 256
"""Blocks of each file that `verify="sample"` verifies, evenly spread."""

FEWEST_ROWS = 8
"""Mean length of a run of consecutive rows below which copying run by run is slower."""

MOST_THREADS = 2
"""Rows to scattered slots are copied by one thread: with more than this, PyTorch's parallel scatter is faster."""

GPU_SHARE = 0.9
"""Share of a GPU's free memory that a bank may fill; the model and its batches need the rest."""


def copy_runs(
    rows: Shaped[Tensor, "_ dim"],
    row: Int64[Tensor, " taken"],
    slot: Int64[Tensor, " taken"],
    out: Shaped[Tensor, "slots dim"],
) -> bool:
    """Copy `rows[row]` to `out[slot]` run by run if that is fastest: where indices of rows, and of slots, follow on.

    Args:
        rows: all rows of the bank.
        row, slot: indices of source and target, within bounds.
        out: the target, to whose dtype rows are converted; other slots are not written.

    Returns:
        Whether the rows were copied.
    """
    whole = rows.is_contiguous() and out.is_contiguous() and rows.device == out.device == HOST
    if not whole or len(row) == 0 or rows.shape[1] == 0:
        return False
    threads, alike = torch.get_num_threads(), rows.dtype == out.dtype
    breaks, slot_breaks = row.diff() != 1, slot.diff() != 1
    runs = _runs(row, slot, breaks | slot_breaks)
    if runs and alike and threads == 1:  # then NumPy copies faster
        source, target = as_items(rows), as_items(out)
        for at, to, length in runs:
            target[to : to + length] = source[at : at + length]
    elif runs:
        for at, to, length in runs:
            out[to : to + length].copy_(rows[at : at + length])
    elif alike and threads <= MOST_THREADS and (runs := _runs(row, torch.arange(len(row)), breaks)):
        source, target, slots = as_items(rows), as_items(out), slot.numpy()
        for at, begin, length in runs:
            target[slots[begin : begin + length]] = source[at : at + length]
    return bool(runs)


def _runs(
    row: Int64[Tensor, " taken"], slot: Int64[Tensor, " taken"], breaks: Bool[Tensor, " between"]
) -> list[tuple[int, int, int]]:
    """Return the first row, the first slot and the length of each run; none if runs are shorter than `FEWEST_ROWS`."""
    begin = torch.cat([torch.zeros(1, dtype=torch.int64), breaks.nonzero().squeeze(1) + 1])
    if len(row) < FEWEST_ROWS * len(begin):
        return []
    length = begin.diff(append=torch.tensor([len(row)]))
    return list(zip(row[begin].tolist(), slot[begin].tolist(), length.tolist(), strict=True))


def as_items(rows: Shaped[Tensor, "n dim"]) -> np.ndarray:
    """View rows as an array with one item per row, which NumPy copies at once."""
    size = rows.shape[1] * rows.element_size()
    return rows.view(torch.uint8).numpy().view(f"V{size}")[:, 0]


HOST = torch.device("cpu")
"""Where indices and the tables of a bank are, whatever the device of its rows: finding rows never waits for a GPU."""
SUPPORTED_DEVICES = "'disk' (memory map), 'cpu' (RAM), 'cuda' or 'cuda:N' (one GPU), 'lmdb'"
_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
_STORED = _DTYPES | {"uint8": torch.uint8}


class Rows(ABC):
    """All rows of a bank, `[n_rows, dim]`, read by index; subclasses are the storages."""

    dtype: torch.dtype
    device: torch.device
    dim: int
    n_rows: int
    digests: Sequence[RowDigests | None]
    """Digests of each piece of the rows, None for a piece without; empty if no piece has digests."""

    @property
    def block_rows(self) -> int:
        """Rows in the smallest block with one checksum; 0 if no block is left to verify."""
        return 0

    @abstractmethod
    def select(
        self, row: Int64[Tensor, " batch"], out: Shaped[Tensor, "batch dim"] | None = None
    ) -> Shaped[Tensor, "batch dim"]:
        """Copy single rows, in the bank's dtype, into `out` or a new tensor; indices must be within bounds."""

    def block(self, first: int, last: int) -> Shaped[Tensor, "rows dim"]:
        """Rows `[first, last)` in the bank's dtype, verified as other reads; not to be written to.

        Raises:
            ValueError: they leave the bank.
            InputError: a block is damaged.
        """
        if not 0 <= first <= last <= self.n_rows:
            raise ValueError(f"rows {first} to {last} leave the bank of {self.n_rows} rows")
        row = torch.arange(first, last)
        self.verify(row)
        return self.select(row)

    def copy_to(
        self, row: Int64[Tensor, " taken"], slot: Int64[Tensor, " taken"], out: Shaped[Tensor, "slots dim"]
    ) -> bool:
        """Copy rows to slots of `out` in one pass if that is fastest; returns whether they were copied."""
        return False

    @abstractmethod
    def verify(self, row: Int64[Tensor, " taken"], always: bool = False) -> None:
        """Compare the blocks that hold these rows with their checksums, each block once per process.

        Args:
            row: indices within bounds.
            always: verify even if the bank was opened without `verify="first_read"`.

        Raises:
            InputError: a block is damaged.
        """

    @abstractmethod
    def verify_blocks(self, piece: int, blocks: Int64[np.ndarray, " blocks"]) -> None:
        """Compare blocks of one piece of the rows with their checksums.

        Raises:
            InputError: a block is damaged.
        """

    def verify_all(self) -> None:
        """Compare all rows with their checksums.

        Raises:
            InputError: a block is damaged.
        """
        for piece, digests in enumerate(self.digests):
            if digests is not None:
                self.verify_blocks(piece, np.flatnonzero(digests.pending))

    def verify_opening(self, verify: Verify) -> None:
        """Compare all rows with their checksums if `verify` is True, evenly spread blocks if it is "sample".

        Raises:
            InputError: a block is damaged.
        """
        if verify is True:
            self.verify_all()
        elif verify == "sample":
            for piece, digests in enumerate(self.digests):
                if digests is not None:
                    spread = np.linspace(0, len(digests.digests) - 1, SAMPLED_BLOCKS)
                    self.verify_blocks(piece, np.unique(spread.round().astype(np.int64)))


@dataclass(frozen=True)
class RowStore(Rows):
    """Rows as consecutive tensors `[n, dim]`: one, or one per memory-mapped file.

    Attributes:
        pieces: the tensors.
        digests: digests of each piece, None for a piece without; empty if no piece has digests.
        verify_reads: verify each block at its first read.
    """

    pieces: list[Shaped[Tensor, "_ dim"]]
    digests: Sequence[RowDigests | None] = ()
    verify_reads: bool = False

    @property
    def dtype(self) -> torch.dtype:  # type: ignore[override]
        """Dtype of the rows."""
        return self.pieces[0].dtype

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Device on which gathers of these rows run."""
        return self.pieces[0].device

    @property
    def dim(self) -> int:  # type: ignore[override]
        """Feature dimension."""
        return self.pieces[0].shape[1]

    @cached_property
    def starts(self) -> Int64[Tensor, " pieces"]:
        """Index of the first row of each piece."""
        sizes = torch.tensor([len(piece) for piece in self.pieces])
        return sizes.cumsum(0) - sizes

    @cached_property
    def n_rows(self) -> int:  # type: ignore[override]
        """Rows in all pieces together."""
        return sum(len(piece) for piece in self.pieces)

    @property
    def block_rows(self) -> int:
        """Rows in the smallest block with one checksum; 0 if no block is left to verify."""
        if not self.verify_reads:
            return 0
        return min((one.block_rows for one in self.digests if one is not None and one.n_pending), default=0)

    def block(self, first: int, last: int) -> Shaped[Tensor, "rows dim"]:
        """Rows `[first, last)`, see `Rows.block`; not copied where there is one piece."""
        if len(self.pieces) > 1 or not 0 <= first <= last <= self.n_rows:
            return super().block(first, last)
        if self.block_rows:
            self.verify(torch.arange(first, last))
        return self.pieces[0][first:last]

    def verify(self, row: Int64[Tensor, " taken"], always: bool = False) -> None:
        """Compare the blocks that hold these rows with their checksums, each block once per process."""
        if not len(row) or not (self.block_rows or (always and self.digests)):
            return
        if len(self.pieces) == 1:
            self._verify(0, row)
            return
        piece = torch.bucketize(row, self.starts, right=True) - 1
        for index in piece.unique().tolist():
            self._verify(index, row[piece == index] - self.starts[index])

    def _verify(self, piece: int, row: Int64[Tensor, " taken"]) -> None:
        digests = self.digests[piece]
        if digests is not None and digests.n_pending:
            block = row.numpy() // digests.block_rows
            unread = digests.pending[block]
            if unread.any():
                self.verify_blocks(piece, np.unique(block[unread]))

    def verify_blocks(self, piece: int, blocks: Int64[np.ndarray, " blocks"]) -> None:
        """Compare blocks of one piece of the rows with their checksums."""
        digests, rows = self.digests[piece], self.pieces[piece].numpy()
        assert digests is not None
        for block in blocks.tolist():
            digests.check_block(block, rows[block * digests.block_rows : (block + 1) * digests.block_rows])

    def copy_to(
        self, row: Int64[Tensor, " taken"], slot: Int64[Tensor, " taken"], out: Shaped[Tensor, "slots dim"]
    ) -> bool:
        """Copy rows to slots of `out` in one pass if that is fastest; returns whether they were copied."""
        return len(self.pieces) == 1 and copy_runs(self.pieces[0], row, slot, out)

    def select(
        self, row: Int64[Tensor, " batch"], out: Shaped[Tensor, "batch dim"] | None = None
    ) -> Shaped[Tensor, "batch dim"]:
        """Copy single rows, in the bank's dtype, into `out` or a new tensor; indices must be within bounds."""
        if out is None:
            out = torch.empty(len(row), self.dim, dtype=self.dtype, device=self.device)
        if len(self.pieces) == 1:
            return torch.index_select(self.pieces[0], 0, row.to(self.device, non_blocking=True), out=out)
        piece = torch.bucketize(row, self.starts, right=True) - 1
        for index in piece.unique().tolist():
            which = (piece == index).nonzero().squeeze(1)
            inside = row[which] - self.starts[index]
            if len(which) == len(row):
                return torch.index_select(self.pieces[index], 0, inside, out=out)
            out[which] = self.pieces[index].index_select(0, inside)
        return out


def parse_device(device: str | torch.device) -> tuple[str, torch.device]:
    """Parse `device=` into the storage ("disk", "cpu", "cuda" or "lmdb") and the torch device on which gathers run.

    Raises:
        InputError: an unknown device, or a GPU that this machine lacks.
    """
    if str(device) in ("disk", "lmdb"):
        return str(device), torch.device("cpu")
    try:
        parsed = torch.device(device)
    except RuntimeError:
        parsed = torch.device("meta")
    if parsed.type not in ("cpu", "cuda"):
        raise InputError(f"device={str(device)!r} is unknown for a bank: choose {SUPPORTED_DEVICES}")
    if parsed.type == "cuda" and (not torch.cuda.is_available() or (parsed.index or 0) >= torch.cuda.device_count()):
        raise InputError(
            f"device={str(device)!r}: this machine has {torch.cuda.device_count()} GPUs; open the bank with "
            f"device='disk' or 'cpu'"
        )
    return parsed.type, parsed


def parse_dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    """Parse `dtype=`, the dtype of the rows in memory; None means as stored.

    Raises:
        InputError: neither float16, bfloat16 nor float32.
    """
    if dtype is None or dtype in _DTYPES.values():
        return dtype if isinstance(dtype, torch.dtype) else None
    found = _DTYPES.get(str(dtype).removeprefix("torch."))
    if found is None:
        raise InputError(f"dtype={str(dtype)!r} is unknown: choose {', '.join(_DTYPES)}")
    return found


def parse_verify(verify: Verify) -> Verify:
    """Check the option `verify` of `FeatureBank.open`.

    Raises:
        InputError: it is none of True, False, "first_read" and "sample".
    """
    if verify not in (True, False, "first_read", "sample"):
        raise InputError(f"verify={verify!r} is unknown: choose 'first_read', true, 'sample' or false")
    return verify


def open_rows(
    extents: Sequence[Extent],
    digests: Sequence[RowDigests | None],
    device: str | torch.device,
    dtype: str | torch.dtype | None,
    verify: Verify = "first_read",
) -> RowStore:
    """Map or load the rows of a bank; those that do not fit on a GPU are mapped, with one warning.

    Args:
        extents: locations of the rows.
        digests: digests of each extent, None for one without.
        device, dtype, verify: as for `FeatureBank.open`.

    Raises:
        InputError: rows cannot be memory-mapped, or not in that dtype; files differ in dtype; the memory is too small;
            rows are damaged.
    """
    kind, where = parse_device(device)
    wanted = parse_dtype(dtype)
    stored = extents[0].dtype
    for extent in extents:
        if extent.dtype != stored and (wanted is None or kind == "disk"):
            raise InputError(
                f"{extents[0].path} stores {stored.name}, but {extent.path} {extent.dtype.name} ('{extent.name}'): "
                f"open the bank with device='cpu' or 'cuda' and a dtype"
            )
    if wanted is None and stored.name not in _STORED:
        raise InputError(f"{extents[0].path} stores {stored.name}: open the bank with device='cpu', dtype='float32'")
    as_stored = _STORED.get(stored.name)
    if kind == "disk":
        check_as_stored(extents[0].path, stored.name, wanted)
        return _map(extents, digests, verify)
    target = wanted or as_stored
    assert target is not None
    try:
        return RowStore([_load(extents, digests if verify else [None] * len(extents), where, target)])
    except _TooLarge as error:
        alike = all(extent.offset is not None and extent.dtype == stored for extent in extents)
        if kind != "cuda" or not alike or as_stored is None:
            raise
        _warn_too_large(extents[0].path, where, error)
        return _map(extents, digests, verify)


class _TooLarge(InputError):
    """The rows of a bank do not fit into the memory of a device."""

    def __init__(self, path: Path, size: int, device: torch.device, free: int | None) -> None:
        self.size, self.free = size, free
        super().__init__(
            f"{path} needs {size / 2**30:.1f} GiB on {device}, more than is free: open the bank with device='disk'"
        )


_warned: set[tuple[Path, torch.device]] = set()


def _warn_too_large(path: Path, device: torch.device, error: _TooLarge) -> None:
    """Warn that rows stay on disk, once for each bank and GPU, whoever opens them again."""
    if (path, device) not in _warned:
        _warned.add((path, device))
        _log.warning(
            "%s needs %.2f GiB on %s, where %.2f GiB are free: its rows are read from disk (device='disk')",
            *(path, error.size / 2**30, device, (error.free or 0) / 2**30),
        )


def _map(extents: Sequence[Extent], digests: Sequence[RowDigests | None], verify: Verify) -> RowStore:
    store = RowStore(map_extents(extents), digests if any(digests) else (), verify == "first_read")
    store.verify_opening(verify)
    return store


def check_as_stored(path: Path, stored: str, wanted: torch.dtype | None) -> None:
    """Check that `wanted` is None or the stored dtype, for rows that stay on disk.

    Raises:
        InputError: `wanted` is another dtype.
    """
    if wanted is not None and wanted != _STORED.get(stored):
        raise InputError(
            f"{path} stores {stored}, and rows on disk are not converted: leave dtype out, or open the bank with "
            f"device='cpu' or 'cuda' for dtype={str(wanted).removeprefix('torch.')}"
        )


def map_extents(extents: Sequence[Extent]) -> list[Tensor]:
    """Memory-map extents as tensors, each file once; nothing is read yet.

    Raises:
        InputError: an extent cannot be memory-mapped.
    """
    maps: dict[Path, np.memmap] = {}
    for extent in extents:
        if extent.offset is None:
            raise InputError(
                f"{extent.path}: '{extent.name}' is chunked, compressed or in a foreign byte order and cannot be "
                f"memory-mapped: open the bank with device='cpu' or 'cuda', or write it again with BankWriter"
            )
        if extent.path not in maps:
            maps[extent.path] = map_file(extent.path)
    return [extent.map(maps[extent.path]) for extent in extents]


def _load(
    extents: Sequence[Extent], digests: Sequence[RowDigests | None], device: torch.device, dtype: torch.dtype
) -> Tensor:
    shape = (sum(extent.shape[0] for extent in extents), extents[0].shape[1])
    size = shape[0] * shape[1] * dtype.itemsize
    free = _free_bytes(device) if device.type == "cuda" else None
    if free is not None and size > GPU_SHARE * free:
        raise _TooLarge(extents[0].path, size, device, free)
    try:
        rows = torch.empty(shape, dtype=dtype, device=device)
    except (RuntimeError, MemoryError) as error:
        raise _TooLarge(extents[0].path, size, device, free) from error
    first = 0
    for extent, stored in zip(extents, digests, strict=True):
        for start, block in extent.blocks(stored):
            values = torch.from_numpy(block.astype(block.dtype.newbyteorder("="), copy=False)).to(device)
            part = rows[first + start : first + start + len(values)]
            part.copy_(values)
            if dtype == torch.float16 and bool((part.isinf() & ~values.isinf()).any()):
                raise InputError(f"{extent.path} has values too large for float16: open the bank with dtype='float32'")
        first += extent.shape[0]
    return rows


def _free_bytes(gpu: torch.device) -> int:
    """Return the memory of a GPU that is free, with what PyTorch holds there without using it."""
    unused = torch.cuda.memory_reserved(gpu) - torch.cuda.memory_allocated(gpu)
    return int(torch.cuda.mem_get_info(gpu)[0]) + unused


def read_seconds(extents: Sequence[Extent]) -> Float64[Tensor, " rows"]:
    """Second of each row: memory-mapped from a single file, concatenated from several."""
    parts = [
        map_extents([extent])[0]
        if extent.offset is not None
        else torch.cat([torch.from_numpy(block) for _, block in extent.blocks()])
        for extent in extents
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts)
