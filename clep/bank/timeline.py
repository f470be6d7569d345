"""Rows of videos on the axis of seconds: how many start before a second, and the windows that follow from that.

A timeline stands for a batch of videos, one per span. Its numbers are exact: a row counts as before a second when
the formula of its start, evaluated in float64 for that very row, says so.
"""

import torch
from jaxtyping import Float64, Int64
from torch import Tensor


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
    """Rows with a second of their own, in ascending order within a video; several may share one."""

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
        # A binary search in all videos at once: the count grows by falling powers of two while the row it would
        # add is still before the second.
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

    Of two rows equally near to the middle the earlier one is taken. The result is never empty.
    """
    # A centre is at most end_s exactly when it is less than the next float after end_s.
    start_s, end_s = _same_shape(start_s, end_s)
    after = torch.nextafter(end_s, end_s.new_full((), torch.inf))
    first, last = rows.count_before(torch.stack([start_s, after]), half).unbind(0)
    empty = first == last
    if not (empty.is_cuda or bool(empty.any())):  # on a GPU asking would wait for it
        return first, last
    earlier, later = (first - 1).clamp_(min=0), torch.minimum(first, rows.n_rows - 1)
    middle = (start_s + end_s) / 2
    before, behind = rows.start(earlier) + half, rows.start(later) + half
    # Of rows with the very same centre the first is meant, hence the count.
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
    if first.shape == second.shape:  # broadcasting is slow enough to be worth asking
        return first, second
    first, second = torch.broadcast_tensors(first, second)
    return first, second
