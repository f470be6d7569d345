"""Long-term feature banks: the rows around a moment, second by second (Wu et al., CVPR 2019)."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from clep.bank.clock import Explicit, Grid
from clep.bank.gather import random_like

MOST_SECONDS = 8
"""Seconds for each row of a bank above which a table of all seconds is larger than it is worth."""


@dataclass(frozen=True)
class FirstRows:
    """The first row of each whole second of each video, for rows with explicit seconds: a look-up, not a search.

    Attributes:
        row: index in the bank of the first row that starts at or after each second from the first to the one after the
            last of a video; all videos one after the other.
        begin: where the seconds of each video begin in `row`.
        first_second: of each video.
        n_seconds: of each video; `row` has one entry more.
        first_row: index in the bank of the first row of each video.
    """

    row: Int64[Tensor, " seconds"]
    begin: Int64[Tensor, " videos"]
    first_second: Float64[Tensor, " videos"]
    n_seconds: Float64[Tensor, " videos"]
    first_row: Int64[Tensor, " videos"]

    @classmethod
    def of_bank(
        cls, seconds: Float64[Tensor, " rows"], first_row: Int64[Tensor, " videos_and_end"]
    ) -> "FirstRows | None":
        """Make the table of a bank whose videos all have rows; None if it would be large beside the bank.

        Args:
            seconds: at which each row starts, ascending within a video.
            first_row: index of the first row of each video, and the number of rows.
        """
        n_rows = first_row.diff()
        if len(n_rows) == 0 or int(n_rows.min()) < 1:
            return None
        whole = seconds.floor()
        first_second, last_second = whole[first_row[:-1]], whole[first_row[1:] - 1]
        length = last_second - first_second + 2
        if not float(length.sum()) <= MOST_SECONDS * len(seconds):
            return None
        size = length.long()
        begin = size.cumsum(0) - size
        entry = whole.sub_((first_second - 1 - begin).repeat_interleave(n_rows)).long()
        row = torch.bincount(entry, minlength=int(size.sum())).cumsum(0)
        return cls(row, begin, first_second, length - 1, first_row[:-1])

    def of(self, video: Int64[Tensor, " batch"]) -> "FirstRows":
        """The same for the videos of a batch."""
        own = ("begin", "first_second", "n_seconds", "first_row")
        return replace(self, **{name: getattr(self, name)[video] for name in own})

    def count_before(self, second: Float64[Tensor, "*#edges"], offset: float) -> Int64[Tensor, "*edges"]:
        """Rows of the video with `start + offset < second`, for whole seconds."""
        nth = torch.minimum((second - offset - self.first_second).clamp_(min=0), self.n_seconds)
        return self.row[self.begin + nth.long()] - self.first_row


def long_term_rows(
    rows: Grid | Explicit | FirstRows,
    second: Float64[Tensor, " batch"],
    window_s: int,
    per_second: int,
    generator: torch.Generator | None = None,
) -> tuple[Int64[Tensor, "batch slots"], Bool[Tensor, "batch slots"]]:
    """Row indices of the `window_s` seconds around a moment, `per_second` slots for each second.

    Slot `k * per_second + j` is for row `j` of those that start in the second `floor(second) - window_s // 2 + k`. If a
    second has more than `per_second` rows, the first ones are taken, or random ones in stored order if a generator is
    passed.

    Returns:
        row: index within the video, undefined where masked.
        mask: True where the slot has a row.

    Raises:
        ValueError: `window_s` or `per_second` is below 1.
    """
    if window_s < 1 or per_second < 1:
        raise ValueError(f"window_s={window_s} and per_second={per_second} must be at least 1")
    steps = torch.arange(window_s + 1, device=second.device, dtype=torch.float64)
    before = rows.count_before(second.floor() - window_s // 2 + steps[:, None], 0.0)
    first, count = before[:-1], before.diff(dim=0)
    slot = torch.arange(per_second, device=second.device).expand(*count.shape, per_second)
    mask = slot < count[..., None]
    if generator is not None:
        slot = _choice(count, per_second, slot, generator)
    row = first[..., None] + slot
    return row.transpose(0, 1).flatten(1), mask.transpose(0, 1).flatten(1)


def without_gaps(
    row: Int64[Tensor, "batch slots"], mask: Bool[Tensor, "batch slots"]
) -> tuple[Int64[Tensor, "batch filled"], Bool[Tensor, "batch filled"]]:
    """Return the filled slots of each moment first, in order; as many slots as the fullest moment has, at least 1."""
    length = mask.sum(1)
    longest = max(1, int(length.max())) if len(length) else 1
    filled = torch.arange(longest) < length[:, None]
    packed = torch.zeros(len(row), longest, dtype=row.dtype)
    packed[filled] = row[mask]
    return packed, filled


def _choice(
    count: Int64[Tensor, "second batch"],
    size: int,
    in_order: Int64[Tensor, "second batch slot"],
    generator: torch.Generator,
) -> Int64[Tensor, "second batch slot"]:
    """Draw `size` of `count` indices without replacement, ascending; keep all if there are no more than `size`."""
    most = int(count.max()) if count.numel() else 0
    if most <= size:
        return in_order
    every = torch.arange(most, device=count.device).expand(*count.shape, most)
    key = random_like(every, generator).masked_fill(every >= count[..., None], 2.0)
    return key.topk(size, largest=False).indices.sort().values
