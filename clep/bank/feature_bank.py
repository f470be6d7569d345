"""`FeatureBank`: look up the rows of videos by seconds, on disk, in RAM, on a GPU or in an LMDB."""

import logging
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64, Shaped
from torch import Tensor

from clep.bank.clock import ArrayLike, Clock, Explicit, Grid, as_seconds, check_spans, valid_spans
from clep.bank.contents import BankContents, read_contents
from clep.bank.files import BANK_SUFFIXES
from clep.bank.gather import masked_maxima, masked_means, mean_rows, padded_rows, sample_rows, select_rows
from clep.bank.lmdb import lmdb_path
from clep.bank.long_term import long_term_rows, without_gaps
from clep.bank.storage import HOST, Verify, parse_device, parse_dtype, parse_verify
from clep.errors import InputError
from clep.remote import local_path

_log = logging.getLogger(__name__)

_SPANS_AT_ONCE = 1 << 15  # so that intermediate arrays stay in the CPU cache


class OpenedBank:
    """Path and options of a bank; its contents are read at first use, in each process."""

    def __init__(
        self,
        path: str | Path,
        device: str | torch.device = "disk",
        dtype: str | torch.dtype | None = None,
        clock: Clock | None = None,
        verify: Verify = "first_read",
    ) -> None:
        self._storage = parse_device(device)[0]
        if self._storage == "lmdb":
            lmdb_path(path)  # refuses a URL
        self.path = local_path(path, BANK_SUFFIXES).absolute()
        self._device, self._dtype, self._clock, self._verify = device, dtype, clock, parse_verify(verify)
        parse_dtype(dtype)
        self.skipped_moments = 0
        """Moments without context in `long_term` because the bank lacks their video, counted in this process."""

    @cached_property
    def _contents(self) -> BankContents:
        return read_contents(self.path, self._device, self._dtype, self._clock, self._verify)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_contents"}

    def __len__(self) -> int:
        return len(self._contents.videos)

    def __repr__(self) -> str:
        return f"FeatureBank({str(self.path)!r}, {len(self)} videos, {self.n_rows} rows of {self.dim}, {self.storage})"

    @property
    def videos(self) -> list[str]:
        """Ids of the videos, in the order of their rows."""
        return self._contents.videos

    @property
    def dim(self) -> int:
        """Feature dimension."""
        return self._contents.rows.dim

    @property
    def n_rows(self) -> int:
        """Count of the rows of all videos."""
        return self._contents.rows.n_rows

    @property
    def clock(self) -> Clock | None:
        """The clock of all videos; None for a bank of texts."""
        return self._contents.clock

    @property
    def encoder(self) -> str:
        """Name of the frozen model that made the rows."""
        return self._contents.encoder

    @property
    def source(self) -> str:
        """What the rows were made from."""
        return self._contents.source

    @property
    def dtype(self) -> torch.dtype:
        """Type in which rows are held; results are float32."""
        return self._contents.rows.dtype

    @property
    def storage(self) -> str:
        """Where the rows are: "disk", "cpu", "cuda" or "lmdb"; "disk" also if they did not fit on the GPU."""
        return "disk" if self._storage == "cuda" and self.device.type == "cpu" else self._storage

    @property
    def device(self) -> torch.device:
        """Device of the results; the CPU for a bank on disk."""
        return self._contents.rows.device

    @property
    def first_row(self) -> Int64[Tensor, " videos_and_end"]:
        """First row of each video, and the row count: video `v` has the rows `[first_row[v], first_row[v + 1])`."""
        return self._contents.first_row

    @property
    def duration_s(self) -> Float64[Tensor, " videos"]:
        """Length of each video in seconds, NaN where unknown."""
        return self._contents.duration_s

    @property
    def nonfinite_rows(self) -> dict[str, int] | None:
        """Count of non-finite rows of each video that has any; None if the writer did not count them."""
        counts = self._contents.nonfinite_rows
        return None if counts is None else {self.videos[i]: int(counts[i]) for i in np.flatnonzero(counts)}

    @property
    def digest(self) -> str:
        """Digest of the content and the clock; of names, sizes and times of files without checksums."""
        return self._contents.digest

    def block(self, first: int, last: int) -> Shaped[Tensor, "rows dim"]:
        """Rows `[first, last)` in the stored dtype, not copied where they lie in one file; not to be written to."""
        return self._contents.rows.block(first, last)

    def check_length(self) -> None:
        """Check that no file of the bank was truncated since it was opened; costs one system call for each file.

        Reading a mapped page beyond the end of its file kills the process (SIGBUS): call this before an epoch. Files
        that were replaced or deleted are harmless: their old pages stay mapped.

        Raises:
            InputError: a file is shorter than when it was opened.
        """
        self._contents.lengths.check()

    def verify(self) -> None:
        """Compare all rows with their checksums; rows in RAM or on a GPU were verified while they were loaded.

        Raises an InputError where rows are damaged.
        """
        self._contents.rows.verify_all()

    def verify_video(self, uid: str) -> None:
        """Compare the rows of one video with their checksums, if the bank is on disk or in an LMDB.

        Raises:
            InputError: the bank lacks the video, or its rows are damaged.
        """
        first, last = self._span(uid)
        self._contents.rows.verify(torch.arange(first, last), always=True)

    def video_rows(self, uid: str) -> Float32[Tensor, "time dim"]:
        """All rows of one video, copied.

        Raises:
            InputError: the bank lacks the video.
        """
        first, last = self._span(uid)
        return select_rows(self._contents.rows, torch.arange(first, last))

    def video_seconds(self, uid: str) -> Float64[Tensor, " time"] | None:
        """Second at which each row of one video starts, for an irregular clock; None for a regular grid.

        Raises:
            InputError: the bank lacks the video.
        """
        first, last = self._span(uid)
        return None if self._contents.seconds is None else self._contents.seconds[first:last]

    def _span(self, uid: str) -> tuple[int, int]:
        contents = self._contents
        if uid not in contents.position:
            raise InputError(f"{self.path} has no rows of video {uid!r}; bank.videos lists the {len(self)} that it has")
        index = contents.position[uid]
        return int(contents.first_row[index]), int(contents.first_row[index + 1])


IndexLike = int | np.integer | np.ndarray | Tensor | list | tuple


class FeatureBank(OpenedBank):
    """Features (rows) of a set of videos, looked up by seconds.

    Indices and seconds may be torch tensors, numpy arrays, lists or scalars. Indices are returned on the host; rows and
    their masks are on `bank.device`. A row index counts over all videos of the bank. A bank pickles as its path and
    options and is opened again in the process that uses it; it keeps no file handle, so forked processes may share it.

    Examples:
        >>> from clep.bank import FeatureBank
        >>> bank = FeatureBank.open("features.h5")
        >>> first, last = bank.window(bank.index(["kitchen00", "kitchen03"]), [12.0, 30.0], [16.0, 31.0])
        >>> rows, mask = bank.rows(first, last, max_rows=16)
        >>> bank.mean(first, last).shape, rows.shape, mask.sum(1).tolist()
        (torch.Size([2, 12]), torch.Size([2, 16, 12]), [8, 2])
    """

    @classmethod
    def open(
        cls,
        path: str | Path,
        device: str | torch.device = "disk",
        dtype: str | torch.dtype | None = None,
        clock: Clock | None = None,
        verify: Verify = "first_read",
    ) -> "FeatureBank":
        """Open a bank.

        Args:
            path: one bank file, a folder of them (shards), the published tutorial's file of one dataset per video, or
                the URL of these, which is fetched once into a cache (`clep.remote`).
            device: "disk" memory-maps the rows, "cpu" loads them into RAM, "cuda" or "cuda:N" onto a GPU, or
                maps them, with a warning, if they need more than 90 % of its free memory; "lmdb" reads them from the
                LMDB that `build_lmdb` wrote beside the bank, or from `path` itself.
            dtype: dtype of the rows in memory, float16, bfloat16 or float32; None: as stored. Rows that stay on disk
                keep the stored dtype.
            clock: required for the tutorial's layout, which stores none; else None, or equal to the stored clock.
            verify: when rows are compared with their checksums. Rows that are loaded ("cpu", "cuda") are verified while
                they load, unless False. For rows that stay on disk ("disk", "lmdb"): "first_read" verifies a block of
                64 kB at the first read in each process; True verifies all rows now; "sample" a few blocks now; False
                none. Tables are always verified. Files of version 1, without checksums, open with a warning.

        Raises:
            InputError: a file or an option is invalid; the message names the file, the key and the remedy.
        """
        bank = cls(path, device, dtype, clock, verify)
        if nonfinite := bank.nonfinite_rows:
            _log.warning(
                "%s: %s rows of %s videos are NaN or infinite, the first in %r: leave these videos out, or encode them "
                "again",
                *(path, f"{sum(nonfinite.values()):,}", f"{len(nonfinite):,}", next(iter(nonfinite))),
            )
        return bank

    @property
    def end_s(self) -> Float64[Tensor, " videos"]:
        """Second at which each video ends: its duration, or if that is unknown the end of its last row.

        Raises:
            InputError: the bank has no clock (a bank of texts).
        """
        clock, contents = self._timed(), self._contents
        _, timeline = self._timeline(torch.arange(len(self)))
        last_row_ends = timeline.start(contents.n_rows - 1) + clock.row_seconds
        return torch.where(contents.duration_s.isnan(), last_row_ends, contents.duration_s)

    def index(self, ids: Iterable[str]) -> Int64[Tensor, " batch"]:
        """Indices of videos by their ids, -1 for those that the bank lacks."""
        position = self._contents.position
        return torch.tensor([position.get(uid, -1) for uid in ids], dtype=torch.int64)

    def window(
        self, video: IndexLike, start_s: ArrayLike, end_s: ArrayLike, align: str = "centre"
    ) -> tuple[Int64[Tensor, " batch"], Int64[Tensor, " batch"]]:
        """Row indices `[first, last)` of the window of each span; never empty. See `Clock.window` for `align`.

        Args:
            video: `[batch]`, indices from `index`.
            start_s, end_s: `[batch]` seconds.

        Raises:
            InputError: a video of index -1, an invalid span, or a bank without a clock.
        """
        clock = self._timed()
        start, end = (as_seconds(x, HOST).reshape(-1) for x in (start_s, end_s))
        index = self._indices(video)
        in_bank = (index >= 0) & (index < len(self))
        if not bool((valid_spans(start, end) & in_bank).all()):
            self._check_videos(index)
            check_spans(start, end)
        index, start, end = torch.broadcast_tensors(index, start, end)
        first, last = torch.empty(2, len(index), dtype=torch.int64)
        for begin in range(0, max(1, len(index)), _SPANS_AT_ONCE):
            part = slice(begin, begin + _SPANS_AT_ONCE)
            base, rows = self._timeline(index[part])
            inside = clock.window_of(rows, start[part], end[part], align)
            first[part], last[part] = inside[0] + base, inside[1] + base
        return first, last

    def mean(self, first: IndexLike, last: IndexLike) -> Float32[Tensor, "batch dim"]:
        """Mean of the rows of each window.

        Raises:
            ValueError: an empty window, or one that leaves the bank.
        """
        return mean_rows(self._contents.rows, self._indices(first), self._indices(last))

    def take(self, row: IndexLike) -> Float32[Tensor, "batch dim"]:
        """Single rows.

        Raises:
            ValueError: a row index out of bounds.
        """
        return select_rows(self._contents.rows, self._indices(row))

    def rows(
        self,
        first: IndexLike,
        last: IndexLike,
        max_rows: int,
        sample: str = "uniform",
        generator: torch.Generator | None = None,
    ) -> tuple[Float32[Tensor, "batch time dim"], Bool[Tensor, "batch time"]]:
        """The rows of each window as a zero-padded sequence of length `max_rows`, and its mask.

        A window with more rows is cut into `max_rows` equal parts, and one row of each is taken: the middle one
        ("uniform") or a random one ("random", from `generator`, or the global generator if None).
        """
        row, mask = sample_rows(self._indices(first), self._indices(last), max_rows, sample, generator)
        return padded_rows(self._contents.rows, row, mask), mask.to(self.device, non_blocking=True)

    def long_term(
        self,
        video: IndexLike,
        second: ArrayLike,
        window_s: int = 60,
        per_second: int = 5,
        generator: torch.Generator | None = None,
        on_missing: str = "error",
        gaps: bool = True,
    ) -> tuple[Float32[Tensor, "batch slots dim"], Bool[Tensor, "batch slots"]]:
        """The rows around a moment, `per_second` slots for each of `window_s` seconds; empty slots are zero and masked.

        Slot `k * per_second + j` holds row `j` of those that start in the second `floor(second) - window_s // 2 + k`.
        If a second has more rows than slots, the first rows are taken, or random ones if a generator is passed
        (training). Seconds outside the video have no rows.

        Args:
            video: `[batch]`, indices from `index`.
            second: `[batch]`, the second of each moment.
            on_missing: for a moment whose video the bank lacks (index -1), "error" raises, "skip" masks all its slots,
                counts it in `skipped_moments` and warns once.
            gaps: False leaves out empty slots: the rows of a moment are its first slots, and there are as many slots as
                the fullest moment of the batch needs.

        Raises:
            InputError: a video that the bank lacks, a second that is not finite, or a bank without a clock.
        """
        row, mask = self._long_term_rows(video, second, window_s, per_second, generator, on_missing)
        row, mask = (row, mask) if gaps else without_gaps(row, mask)
        return padded_rows(self._contents.rows, row, mask), mask.to(self.device, non_blocking=True)

    def long_term_pooled(
        self,
        video: IndexLike,
        second: ArrayLike,
        window_s: int = 60,
        per_second: int = 5,
        generator: torch.Generator | None = None,
        on_missing: str = "error",
        pool: str = "mean",
    ) -> tuple[Float32[Tensor, "batch dim"], Bool[Tensor, " batch"]]:
        """Mean or elementwise maximum ("max") of the rows that `long_term` would return, without copying them to slots.

        Moments without rows get zeros, and False in the mask. Arguments and errors: as `long_term`; an unknown `pool`
        raises too.
        """
        if pool not in ("mean", "max"):
            raise InputError(f"pool={pool!r} is unknown: choose 'mean' or 'max'")
        row, mask = self._long_term_rows(video, second, window_s, per_second, generator, on_missing)
        reduce = masked_means if pool == "mean" else masked_maxima
        return reduce(self._contents.rows, row, mask), mask.any(1).to(self.device, non_blocking=True)

    def long_term_shared(
        self,
        video: IndexLike,
        second: ArrayLike,
        window_s: int = 60,
        per_second: int = 5,
        generator: torch.Generator | None = None,
        on_missing: str = "error",
    ) -> tuple[Float32[Tensor, "rows dim"], Bool[Tensor, "batch rows"]]:
        """The distinct rows that `long_term` would return, in the bank's order, and a mask of those of each moment.

        Useful if moments lie close together: with one moment a second, 60 moments share each row. Arguments and errors:
        as `long_term`.
        """
        row, mask = self._long_term_rows(video, second, window_s, per_second, generator, on_missing)
        distinct, column = row[mask].unique(return_inverse=True)
        shared = torch.zeros(len(row), len(distinct), dtype=torch.bool)
        shared[mask.nonzero()[:, 0], column] = True
        return select_rows(self._contents.rows, distinct), shared.to(self.device, non_blocking=True)

    def _long_term_rows(
        self,
        video: IndexLike,
        second: ArrayLike,
        window_s: int,
        per_second: int,
        generator: torch.Generator | None,
        on_missing: str,
    ) -> tuple[Int64[Tensor, "batch slots"], Bool[Tensor, "batch slots"]]:
        self._timed()
        if on_missing not in ("error", "skip"):
            raise InputError(f"on_missing={on_missing!r} is unknown: choose 'error' or 'skip'")
        at, index = as_seconds(second, HOST).reshape(-1), self._indices(video)
        known = index >= 0 if on_missing == "skip" else torch.ones_like(index, dtype=torch.bool)
        index = torch.where(known, index, 0)
        self._check_videos(index)
        if on_missing == "skip" and (missing := int((~known).sum())):
            if not self.skipped_moments:
                _log.warning("%d of %d moments get no context: %s lacks their video", missing, len(known), self.path)
            self.skipped_moments += missing
        if not bool(at.isfinite().all()):
            raise InputError("second holds NaN or infinity: drop that moment")
        base, timeline = self._timeline(index)
        table = self._contents.first_rows
        row, mask = long_term_rows(table.of(index) if table else timeline, at, window_s, per_second, generator)
        return row + base[:, None], mask & known[:, None]

    def _indices(self, value: IndexLike) -> Int64[Tensor, " batch"]:
        index = torch.as_tensor(value, device=HOST).reshape(-1)
        if index.is_floating_point() and index.numel():  # an empty list becomes a float tensor
            raise TypeError(f"indices of videos and rows are integers, not {index.dtype}")
        return index.long()

    def _timed(self) -> Clock:
        clock = self._contents.clock
        if clock is None:
            raise InputError(f"{self.path} has no clock (a bank of texts): use take, mean or rows with row indices")
        return clock

    def _check_videos(self, index: Int64[Tensor, " batch"]) -> None:
        wrong = ((index < 0) | (index >= len(self))).nonzero().squeeze(1)
        if len(wrong):
            raise InputError(
                f"{len(wrong)} of {len(index)} moments name a video that {self.path} lacks (index "
                f"{int(index[wrong[0]])} at position {int(wrong[0])}). List them with [uid for uid, i in zip(ids, "
                f"bank.index(ids).tolist()) if i < 0], then leave them out or add their rows to the bank"
            )

    def _timeline(self, index: Int64[Tensor, " batch"]) -> tuple[Int64[Tensor, " batch"], Grid | Explicit]:
        contents = self._contents
        assert contents.clock is not None
        base, n_rows = contents.first_row[index], contents.n_rows[index]
        if contents.seconds is not None:
            return base, Explicit(contents.seconds, base, n_rows)
        assert contents.clock.rows_per_second is not None
        assert contents.last_start is not None
        return base, Grid(contents.clock.rows_per_second, n_rows, contents.last_start[index])
