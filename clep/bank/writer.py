"""`BankWriter`: write a bank file video by video, streaming and atomically; and conversion to a bank file."""

import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import h5py
import numpy as np
import torch
from torch import Tensor

from clep.bank import format as names
from clep.bank.clock import Clock
from clep.bank.feature_bank import FeatureBank
from clep.bank.files import read_per_video
from clep.bank.format import HEADER_BYTES, RowDigester, write_header
from clep.errors import InputError
from clep.files import atomic_path
from clep.hdf5 import open_hdf5

Rows = np.ndarray | Tensor

_INTEGER_TOLERANCE = 1e-2  # far above the rounding error of a pixel divided by 255 and multiplied again


class _Abandoned(Exception):
    """Raised inside the writer to remove its files, whatever the caller's error is."""


class BankWriter:
    """Write one bank file, video by video.

    Rows are contiguous in the file, so their count must be known in advance. With `n_rows` they are written directly
    into the file; without it, or if fewer rows are added, they are collected in a temporary file beside it and copied
    at the end. A video that `add` refuses leaves no trace, so a job may catch the error and go on. If the block raises
    (Ctrl-C too), all temporary files are removed and an existing file is not changed. Checksums are computed from the
    rows in memory, not read back from disk.

    Args:
        path: the file to write, `.h5`.
        dim: feature dimension.
        clock: None for a bank of texts, whose rows have no seconds.
        dtype: "float16", "float32", or "uint8" for integer rows from 0 to 255, such as pixels.
        encoder, source: the frozen model, and its input; stored as attributes.
        allow_nonfinite: accept rows with NaN or infinity, and count them per video.
        n_rows: upper bound of the number of rows, if known.

    Raises:
        InputError: the disk is full, the folder is not writable, or no video was added.

    Examples:
        >>> import numpy as np
        >>> from clep.bank import BankWriter, Clock, FeatureBank
        >>> clock = Clock(rows_per_second=2.0, row_seconds=1.0)
        >>> with BankWriter("new.h5", dim=8, clock=clock, encoder="omnivore") as writer:
        ...     writer.add("kitchen", np.zeros((120, 8)), duration_s=60.5)
        ...     writer.add("garden", np.ones((40, 8)))
        >>> FeatureBank.open("new.h5").videos
        ['kitchen', 'garden']
    """

    def __init__(
        self,
        path: str | Path,
        dim: int | np.integer,
        clock: Clock | None,
        dtype: str = "float16",
        encoder: str = "",
        source: str = "",
        allow_nonfinite: bool = False,
        n_rows: int | np.integer | None = None,
    ) -> None:
        if dtype not in names.ROW_DTYPES:
            raise InputError(f"{path}: dtype={dtype!r} is unknown, choose {' or '.join(names.ROW_DTYPES)}")
        if dim < 1 or (n_rows is not None and n_rows < 1):
            raise InputError(f"{path}: dim={dim} and n_rows={n_rows} must be at least 1")
        self.path, self.dim, self.clock, self.dtype = Path(path), int(dim), clock, np.dtype(dtype)
        self.encoder, self.source, self.allow_nonfinite = encoder, source, allow_nonfinite
        self._limit = None if n_rows is None else int(n_rows)
        self._ids: dict[str, float] = {}
        self._first_row = [0]
        self._seconds: list[np.ndarray] = []
        self._nonfinite: list[int] = []
        self._digester = RowDigester(self.dim * self.dtype.itemsize)
        self._base = 0
        self._file: BinaryIO | None = None

    def __enter__(self) -> "BankWriter":
        with ExitStack() as files:
            self._target = files.enter_context(atomic_path(self.path))
            self._spool = self._target.with_suffix(".rows")
            files.callback(self._spool.unlink, missing_ok=True)
            with self._disk_errors():
                if self._limit is not None:
                    self._base = self._allocate(self._limit)
                into = self._spool if self._limit is None else self._target
                self._file = into.open("wb" if self._limit is None else "r+b", buffering=0)
                files.callback(self._file.close)
            self._files = files.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            with self._files:
                self._finish()
            return
        with suppress(_Abandoned):  # the caller's own error propagates
            self._files.__exit__(_Abandoned, _Abandoned(), None)

    def add(
        self,
        uid: str,
        rows: Rows | Iterator[Rows],
        seconds: np.ndarray | Tensor | list | None = None,
        duration_s: float | int | np.number | Callable[[], float | None] | None = None,
    ) -> None:
        """Add one video, or one set of texts.

        Args:
            uid: video id, unique in this file.
            rows: `[n, dim]`, numpy or torch, at least one row; or an iterator of such blocks, for more rows than fit
                in memory.
            seconds: `[n]` start of each row, ascending; only for an irregular clock.
            duration_s: length of the video in seconds, None or NaN if unknown; or a function that returns it, called
                after all rows were read.

        Raises:
            InputError: a duplicate or invalid id; no rows, rows of another shape, NaN or infinite (unless allowed),
                too large for float16, or not integers for uint8; seconds that are missing, not allowed, too few,
                unsorted or not finite; a duration that is not positive; more rows than `n_rows`. The message names the
                file and the video.
        """
        if self._file is None:
            raise RuntimeError("BankWriter is a context manager: use it in a with statement")
        self._check_id(uid)
        at, nonfinite = self._first_row[-1], 0
        self._digester.forget()  # rows of a refused video
        for block in rows if isinstance(rows, Iterator) else (rows,):
            values = self._stored(uid, block)
            self._write(uid, at, values)
            self._digester.update(values)
            if self.allow_nonfinite and self.dtype != np.uint8:
                nonfinite += int((~np.isfinite(values).all(axis=1)).sum())
            at += len(values)
        n_rows = at - self._first_row[-1]
        if n_rows == 0:
            raise self._refuse(uid, "has no rows; leave it out")
        length_s = duration_s() if callable(duration_s) else duration_s
        duration = math.nan if length_s is None else float(length_s)
        if duration <= 0 or math.isinf(duration):
            raise self._refuse(uid, f"has duration_s={duration:g}; give its length in seconds, or None")
        checked = self._checked_seconds(uid, seconds, n_rows)
        if checked is not None:
            self._seconds.append(checked)
        self._ids[uid] = duration
        self._first_row.append(at)
        self._nonfinite.append(nonfinite)
        self._digester.keep()

    def _refuse(self, uid: str, fault: str) -> InputError:
        return InputError(f"{self.path}: video {uid!r} {fault}")

    def _check_id(self, uid: str) -> None:
        if uid in self._ids:
            raise self._refuse(uid, "was added before; video ids of a bank are unique, so rename or skip it")
        if not uid or "\0" in uid:
            raise InputError(f"{self.path}: {uid!r} is no valid video id; use a name without the character NUL")

    def _stored(self, uid: str, block: Rows) -> np.ndarray:
        if isinstance(block, Tensor):
            block = block.detach().cpu()
            block = (block.float() if block.dtype == torch.bfloat16 else block).numpy()
        if block.ndim != 2 or block.shape[1] != self.dim or block.dtype.kind not in "fiu":
            raise self._refuse(uid, f"has rows {block.dtype} {list(block.shape)}, expected features [n, {self.dim}]")
        if self.dtype == np.uint8:
            return self._as_bytes(uid, block)
        with np.errstate(over="ignore"):
            values = np.ascontiguousarray(block, dtype=self.dtype)
        finite = np.isfinite(values)
        if finite.all():
            return values
        finite_before = np.isfinite(block)
        if not self.allow_nonfinite and not finite_before.all():
            bad = np.flatnonzero(~finite_before.all(axis=1))
            raise self._refuse(
                uid,
                f"has NaN or infinity in {len(bad)} of its rows, first in row {bad[0]}; "
                f"compute it again, leave it out, or pass allow_nonfinite=True",
            )
        if (finite_before & ~finite).any():
            largest = np.abs(block[finite_before]).max()
            raise self._refuse(uid, f"has values up to {largest:g}, too large for {self.dtype}: use dtype='float32'")
        return values

    def _as_bytes(self, uid: str, block: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):  # NaN fails the comparison
            values = np.ascontiguousarray(np.rint(block), dtype=np.uint8)
        if not (np.abs(values - block.astype(np.float32)) < _INTEGER_TOLERANCE).all():
            raise self._refuse(uid, "has rows that are not integers from 0 to 255: use dtype='float32'")
        return values

    def _write(self, uid: str, at: int, values: np.ndarray) -> None:
        assert self._file is not None
        if self._limit is not None and at + len(values) > self._limit:
            raise self._refuse(
                uid, f"makes {at + len(values)} rows, more than n_rows={self._limit}; correct n_rows, or leave it out"
            )
        with self._disk_errors():
            self._file.seek(self._base + at * self.dim * self.dtype.itemsize)
            left = memoryview(values.view(np.uint8).reshape(-1).data)
            while left:  # an unbuffered write may be partial
                left = left[self._file.write(left) :]

    def _checked_seconds(self, uid: str, seconds: np.ndarray | Tensor | list | None, n_rows: int) -> np.ndarray | None:
        irregular = self.clock is not None and self.clock.rows_per_second is None
        if seconds is None:
            if irregular:
                raise self._refuse(uid, "needs seconds=, one per row, since the bank's clock is irregular")
            return None
        if not irregular:
            raise self._refuse(uid, "has seconds, but the bank's clock is not Clock.irregular(...); leave seconds out")
        values = np.asarray(seconds.cpu() if isinstance(seconds, Tensor) else seconds, dtype=np.float64)
        if values.shape != (n_rows,):
            raise self._refuse(uid, f"has seconds of the shape {list(values.shape)} for {n_rows} rows")
        if not np.isfinite(values).all():
            raise self._refuse(uid, "has a second that is NaN or infinite")
        if (np.diff(values) < 0).any():
            row = int(np.flatnonzero(np.diff(values) < 0)[0]) + 1
            raise self._refuse(
                uid, f"has unsorted seconds (row {row} is before row {row - 1}); sort its rows by second"
            )
        return values

    def _allocate(self, n_rows: int) -> int:
        """Create the target file with space for its rows; returns the byte at which they begin."""
        with h5py.File(
            self._target,
            "w",
            locking=False,
            userblock_size=HEADER_BYTES,
            alignment_threshold=1 << 16,
            alignment_interval=4096,
        ) as file:
            created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            created.set_layout(h5py.h5d.CONTIGUOUS)
            created.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            created.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            created.set_obj_track_times(False)  # equal rows give equal files
            space = h5py.h5s.create_simple((n_rows, self.dim))
            kind = h5py.h5t.py_create(self.dtype)
            dataset = h5py.h5d.create(file.id, names.ROWS.encode(), kind, space, created)
            return int(dataset.get_offset())

    def _finish(self) -> None:
        assert self._file is not None
        n_rows = self._first_row[-1]
        if n_rows == 0:
            raise InputError(f"{self.path} was not written: no video was added to it")
        with self._disk_errors():
            self._file.close()
            if n_rows != self._limit:
                self._copy_rows(n_rows)
            rows_begin = self._describe()
            write_header(self._target, rows_begin, rows_begin + n_rows * self.dim * self.dtype.itemsize)
        self._file = None

    def _copy_rows(self, n_rows: int) -> None:
        if self._limit is not None:
            self._target.replace(self._spool)
        start = self._allocate(n_rows)
        size = n_rows * self.dim * self.dtype.itemsize
        with self._spool.open("rb") as source, self._target.open("r+b") as target:
            # Rows of a refused video at the end are not copied; others were overwritten.
            os.truncate(self._spool, self._base + size)
            source.seek(self._base)
            target.seek(start)
            shutil.copyfileobj(source, target, 1 << 24)

    def _describe(self) -> int:
        """Write the tables and attributes; returns the byte at which the rows begin."""
        ids = [uid.encode() for uid in self._ids]
        text = h5py.string_dtype("utf-8", max(map(len, ids)))
        clock = self.clock
        with h5py.File(self._target, "r+", locking=False) as file:
            file.create_dataset(names.VIDEO_ID, data=np.array(ids, dtype=text))
            file.create_dataset(names.FIRST_ROW, data=np.array(self._first_row, dtype=np.int64))
            file.create_dataset(names.DURATION, data=np.array(list(self._ids.values()), dtype=np.float64))
            file.create_dataset(names.BLOCK_DIGEST, data=self._digester.finish())
            if any(self._nonfinite):
                file.create_dataset(names.NONFINITE, data=np.array(self._nonfinite, dtype=np.int64))
            if self._seconds:
                file.create_dataset(names.ROW_SECOND, data=np.concatenate(self._seconds))
            file.attrs["format"], file.attrs["version"] = names.FORMAT, names.VERSION
            rate = None if clock is None else clock.rows_per_second
            file.attrs["rows_per_second"] = math.nan if rate is None else float(rate)
            file.attrs["row_seconds"] = math.nan if clock is None else float(clock.row_seconds)
            file.attrs["encoder"], file.attrs["source"] = self.encoder, self.source
            file.attrs["block_rows"] = self._digester.block_rows
            return int(file[names.ROWS].id.get_offset())

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError) as error:  # HDF5 raises RuntimeError if a flush or close fails
            reason = getattr(error, "strerror", None) or error
            raise InputError(
                f"cannot write {self.path}: {reason}. The temporary files were removed; free some space or choose "
                f"another folder, then run the same command again"
            ) from error


def copy_video(bank: FeatureBank, uid: str, writer: BankWriter) -> None:
    """Copy a video to another bank: its rows, their seconds if the clock is irregular, and its duration.

    The rows are always verified, whatever `verify` the bank was opened with.

    Raises:
        InputError: the bank lacks the video, its rows are damaged, or the writer refuses it (see `BankWriter.add`).
    """
    bank.verify_video(uid)
    seconds = bank.video_seconds(uid)
    duration_s = float(bank.duration_s[bank.index([uid])])
    writer.add(uid, bank.video_rows(uid), None if seconds is None else seconds.cpu(), duration_s)


def convert_per_video(
    path: str | Path,
    out: str | Path,
    clock: Clock,
    dtype: str = "float16",
    encoder: str = "",
) -> None:
    """Convert a file in the tutorial's layout to a bank file, which opens and gathers many times faster.

    Raises:
        InputError: as for `read_per_video` and `BankWriter.add`.
    """
    path = Path(path)
    with open_hdf5(path, check_storage=False) as file:
        shard = read_per_video(file, path, clock)
    total = int(shard.first_row[-1])
    with BankWriter(out, shard.dim, clock, dtype, encoder, source=path.name, n_rows=total) as writer:
        for uid, extent in zip(shard.ids, shard.rows, strict=True):
            writer.add(uid, (rows for _, rows in extent.blocks()))
