"""Clock of a bank: which seconds of a video each row covers, and which rows belong to a span of seconds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from clep.errors import InputError


class Grid:
    """Rows on a regular grid, row `i` at `i / rows_per_second`; the last row may start earlier (back-padding)."""

    def __init__(
        self, rows_per_second: float, n_rows: Int64[Tensor, "*#batch"], last_start: Float64[Tensor, "*#batch"]
    ) -> None:
        self.n_rows, self.last_start = n_rows, last_start
        self.rows_per_second = rows_per_second
        # CUDA divides by a Python number through its rounded reciprocal; a tensor on the device divides exactly.
        self.rate = torch.full((), rows_per_second, dtype=torch.float64, device=n_rows.device)

    def start(self, row: Int64[Tensor, "*#batch"]) -> Float64[Tensor, "*batch"]:
        """Second at which a row of the video starts."""
        return torch.where(row == self.n_rows - 1, self.last_start, row.double() / self.rate)

    def count_before(self, second: Float64[Tensor, "*#edges"], offset: float) -> Int64[Tensor, "*edges"]:
        """Rows of the video with `start + offset < second`."""
        # Rounding (second - offset) * rate gives the count or one less, whatever the error of the product,
        # so one comparison with the row's own formula makes it exact.
        grid = ((second - offset) * self.rows_per_second).round_().clamp_(min=0)
        grid = torch.minimum(grid + (grid / self.rate + offset < second), self.n_rows - 1)
        return (grid + (self.last_start + offset < second)).long()

    def row_at(self, second: Float64[Tensor, "*#edges"]) -> Int64[Tensor, "*edges"]:
        """The row `floor(second * rows_per_second)`, clamped to the video; back-padding ignored."""
        row = torch.floor(second * self.rows_per_second).clamp_(min=0)
        return torch.minimum(row, self.n_rows - 1).long()


class Explicit:
    """Rows with explicit start seconds, ascending within a video; several rows may start at the same second."""

    def __init__(
        self,
        seconds: Float64[Tensor, " rows"],
        first_row: Int64[Tensor, "*#batch"],
        n_rows: Int64[Tensor, "*#batch"],
    ) -> None:
        self.seconds, self.first_row, self.n_rows = seconds, first_row, n_rows

    def start(self, row: Int64[Tensor, "*#batch"]) -> Float64[Tensor, "*batch"]:
        """Second at which a row of the video starts."""
        return self.seconds[self.first_row + row]

    def count_before(self, second: Float64[Tensor, "*#edges"], offset: float) -> Int64[Tensor, "*edges"]:
        """Rows of the video with `start + offset < second`."""
        return self._search(second, offset, torch.lt)

    def row_at(self, second: Float64[Tensor, "*#edges"]) -> Int64[Tensor, "*edges"]:
        """The last row that starts at `second` or earlier; row 0 where none does."""
        return (self._search(second, 0.0, torch.le) - 1).clamp_(min=0)

    def _search(self, second: Float64[Tensor, "*#edges"], offset: float, before: object) -> Int64[Tensor, "*edges"]:
        assert callable(before)
        shape = torch.broadcast_shapes(second.shape, self.n_rows.shape)
        count = torch.zeros(shape, dtype=torch.int64, device=second.device)
        if count.numel() == 0:
            return count
        # Binary search in all videos at once: add falling powers of two to the count while the last row counted is
        # still before the second.
        end = self.first_row - 1
        step = 1 << (int(self.n_rows.max()).bit_length() - 1)
        while step:
            larger = count + step
            inside = torch.minimum(larger, self.n_rows)
            taken = (larger <= self.n_rows) & before(self.seconds[end + inside] + offset, second)
            count = torch.where(taken, larger, count)
            step >>= 1
        return count


def centre_window(
    rows: Grid | Explicit,
    start_s: Float64[Tensor, "*#spans"],
    end_s: Float64[Tensor, "*#spans"],
    half: float,
) -> tuple[Int64[Tensor, "*spans"], Int64[Tensor, "*spans"]]:
    """Rows whose centre, `half` seconds after their start, lies in `[start_s, end_s]`; else the nearest to the middle.

    If two rows are equally near to the middle, the earlier one is taken. The result is never empty.
    """
    # A centre is at most end_s exactly when it is less than the next float after end_s.
    start_s, end_s = _same_shape(start_s, end_s)
    after = torch.nextafter(end_s, end_s.new_full((), torch.inf))
    first, last = rows.count_before(torch.stack([start_s, after]), half).unbind(0)
    empty = first == last
    if not (empty.is_cuda or bool(empty.any())):  # CPU only: on a GPU the check would synchronise
        return first, last
    earlier, later = (first - 1).clamp_(min=0), torch.minimum(first, rows.n_rows - 1)
    middle = (start_s + end_s) / 2
    before, behind = rows.start(earlier) + half, rows.start(later) + half
    # Several rows may have the nearest centre: counting the rows before it gives the first of them.
    nearest = rows.count_before(torch.where(behind - middle < middle - before, behind, before), half)
    return torch.where(empty, nearest, first), torch.where(empty, nearest + 1, last)


def start_window(
    rows: Grid | Explicit, start_s: Float64[Tensor, "*#spans"], end_s: Float64[Tensor, "*#spans"]
) -> tuple[Int64[Tensor, "*spans"], Int64[Tensor, "*spans"]]:
    """The tutorial's window: from the row that starts at or before `start_s` to the one at or before `end_s`."""
    first, last = rows.row_at(torch.stack(_same_shape(start_s, end_s))).unbind(0)
    return first, last + 1


def _same_shape(
    first: Float64[Tensor, "*#spans"], second: Float64[Tensor, "*#spans"]
) -> tuple[Float64[Tensor, "*spans"], Float64[Tensor, "*spans"]]:
    if first.shape == second.shape:  # skips a broadcast, which is slow for small batches
        return first, second
    first, second = torch.broadcast_tensors(first, second)
    return first, second


ArrayLike = float | int | np.number | np.ndarray | Tensor | Sequence


@dataclass(frozen=True)
class Clock:
    """Map seconds to rows. The default fits Ego4D's features: windows of 32 frames, one every 16, at 30 frames/s.

    Args:
        rows_per_second: rate of a regular grid, where row `i` starts at `i / rows_per_second`; None if each row has
            an explicit second (see `Clock.irregular`).
        row_seconds: seconds of video that a row covers, from its start.

    Raises:
        InputError: a rate that is not positive and finite, or a `row_seconds` that is negative or not finite.

    Examples:
        >>> from clep.bank import Clock
        >>> clock = Clock(rows_per_second=2.0, row_seconds=1.0)
        >>> clock.row_starts(n_rows=5).tolist()
        [0.0, 0.5, 1.0, 1.5, 2.0]
        >>> first, last = clock.window(start_s=0.9, end_s=2.1, n_rows=5)  # centres at 1, 1.5 and 2 s
        >>> int(first), int(last)
        (1, 4)
    """

    rows_per_second: float | None = 30 / 16
    row_seconds: float = 32 / 30

    def __post_init__(self) -> None:
        rate = self.rows_per_second
        if rate is not None and not (math.isfinite(rate) and rate > 0):
            raise InputError(f"a clock's rows_per_second must be a positive number, or None, not {rate}")
        if not (math.isfinite(self.row_seconds) and self.row_seconds >= 0):
            raise InputError(f"a clock's row_seconds must be 0 or more, not {self.row_seconds}")

    @classmethod
    def irregular(cls, row_seconds: float) -> "Clock":
        """Clock for rows with explicit start seconds."""
        return cls(None, row_seconds)

    def window(
        self,
        start_s: ArrayLike,
        end_s: ArrayLike,
        n_rows: ArrayLike,
        duration_s: ArrayLike | None = None,
        align: str = "centre",
        seconds: np.ndarray | Tensor | None = None,
    ) -> tuple[Any, Any]:
        """Rows `[first, last)` of each span of seconds, vectorised over spans.

        `align="centre"`: the rows whose centre lies in `[start_s, end_s]`, else the one nearest to the span's
        middle (the earlier of two equally near). `align="start"` is the rule of the published tutorial:
        `first = min(max(0, floor(start_s * rate)), n - 1)`, `last = min(floor(end_s * rate), n - 1) + 1`; on
        Ego4D features its windows lie 0.27 s late. With explicit seconds it gives the rows from the last one that
        starts at or before `start_s` to the last one that starts at or before `end_s`. A window is never empty;
        a span beyond the video's end gives its last row.

        Args:
            start_s, end_s: seconds, scalars or arrays of one shape.
            n_rows: rows of the video, or of each span's video.
            duration_s: the video's length in seconds, NaN or None if unknown. The last row of a regular grid is
                back-padded: it ends with the video. `align="start"` ignores it.
            seconds: `[n_rows]` start of each row of one video, ascending; only for an irregular clock.

        Returns:
            first, last: int64, torch tensors if any of the spans is one, else numpy.

        Raises:
            InputError: a span that is NaN, ends before 0 or ends before it starts; a video without rows.
        """
        as_torch = isinstance(start_s, Tensor) or isinstance(end_s, Tensor)
        device = next((x.device for x in (start_s, end_s) if isinstance(x, Tensor)), torch.device("cpu"))
        start, end = as_seconds(start_s, device), as_seconds(end_s, device)
        check_spans(start, end)
        rows = self._rows(n_rows, duration_s, seconds, device)
        first, last = self.window_of(rows, start, end, align)
        return (first, last) if as_torch else (first.numpy()[()], last.numpy()[()])

    def window_of(
        self,
        rows: Grid | Explicit,
        start_s: Float64[Tensor, "*#spans"],
        end_s: Float64[Tensor, "*#spans"],
        align: str,
    ) -> tuple[Int64[Tensor, "*spans"], Int64[Tensor, "*spans"]]:
        """`window` without checks, for the rows of videos as a `Grid` or `Explicit`."""
        if align == "centre":
            return centre_window(rows, start_s, end_s, self.row_seconds / 2)
        if align == "start":
            return start_window(rows, start_s, end_s)
        raise InputError(f"align={align!r} is unknown: choose 'centre' or, for the tutorial's windows, 'start'")

    def row_starts(
        self,
        n_rows: int | np.integer,
        duration_s: float | np.floating | None = None,
        seconds: np.ndarray | Tensor | None = None,
    ) -> Float64[np.ndarray, " rows"]:
        """Second at which each row of one video starts, `[n_rows]`; the last back-padded if `duration_s` is known."""
        rows = self._rows(n_rows, duration_s, seconds, torch.device("cpu"))
        return rows.start(torch.arange(int(n_rows))).numpy()

    def row_centres(
        self,
        n_rows: int | np.integer,
        duration_s: float | np.floating | None = None,
        seconds: np.ndarray | Tensor | None = None,
    ) -> Float64[np.ndarray, " rows"]:
        """Second of the middle of each row of one video, `[n_rows]`."""
        return self.row_starts(n_rows, duration_s, seconds) + self.row_seconds / 2

    def last_start(
        self, n_rows: Int64[Tensor, "*#batch"], duration_s: Float64[Tensor, "*#batch"]
    ) -> Float64[Tensor, "*batch"]:
        """Second at which the last row of each video starts: `row_seconds` before its end, or on the grid.

        It is clamped between its second on the grid and that of the row before, so a duration that does not fit the
        count of rows (a sound track longer than the pictures) cannot reorder rows.
        """
        rate = torch.full((), self.rows_per_second or 1.0, dtype=torch.float64, device=n_rows.device)
        on_grid = (n_rows - 1).double() / rate
        row_before = (n_rows - 2).clamp(min=0).double() / rate
        back_padded = torch.maximum(duration_s - self.row_seconds, row_before)
        return torch.where(duration_s.isnan(), on_grid, torch.minimum(back_padded, on_grid))

    def _rows(
        self,
        n_rows: ArrayLike,
        duration_s: ArrayLike | None,
        seconds: np.ndarray | Tensor | None,
        device: torch.device,
    ) -> Grid | Explicit:
        n = torch.as_tensor(n_rows, device=device).long()
        if bool((n < 1).any()):
            raise InputError("n_rows is 0: a video without rows has no window; leave it out")
        if self.rows_per_second is not None:
            if seconds is not None:
                raise InputError("this clock is regular: leave seconds out, or use Clock.irregular(row_seconds)")
            duration = as_seconds(math.nan if duration_s is None else duration_s, device)
            return Grid(self.rows_per_second, n, self.last_start(n, duration))
        if seconds is None:
            raise InputError("this clock is irregular: give the second of each row as seconds=")
        explicit = as_seconds(seconds, device)
        if n.dim() or explicit.shape != (int(n),):
            raise InputError(f"seconds has the shape {tuple(explicit.shape)} for n_rows={n_rows}: one second per row")
        return Explicit(explicit, torch.zeros_like(n), n)

    def __str__(self) -> str:
        if self.rows_per_second is None:
            return f"a second per row, row_seconds={self.row_seconds:g}"
        return f"rows_per_second={self.rows_per_second:g}, row_seconds={self.row_seconds:g}"


def as_seconds(value: ArrayLike, device: torch.device) -> Float64[Tensor, "..."]:
    """Seconds as a float64 tensor on a device."""
    return torch.as_tensor(value, dtype=torch.float64, device=device)


def valid_spans(start_s: Float64[Tensor, "*#spans"], end_s: Float64[Tensor, "*#spans"]) -> Bool[Tensor, "*spans"]:
    """Mask of valid spans: not NaN, not ending before 0, not ending before they start."""
    return (end_s >= start_s) & (end_s >= 0)


def check_spans(start_s: Float64[Tensor, "*#spans"], end_s: Float64[Tensor, "*#spans"]) -> None:
    """Check that all spans are valid.

    Raises:
        InputError: a span is not; the message names the first one, its seconds and the fault.
    """
    valid = valid_spans(start_s, end_s)
    if bool(valid.all()):
        return
    at = int((~valid).reshape(-1).nonzero()[0])
    start, end = (float(x.reshape(-1)[at]) for x in torch.broadcast_tensors(start_s, end_s))
    if math.isnan(start) or math.isnan(end):
        fault = "is not a number"
    elif end < start:
        fault = "ends before it starts"
    else:
        fault = "ends before the video's second 0"
    raise InputError(
        f"span {at} of {valid.numel()} {fault}: start_s={start:g}, end_s={end:g}. "
        f"Correct or drop it ({int((~valid).sum())} such in this batch)."
    )
