"""Long-term feature banks: the rows around a moment, second by second (Wu et al., CVPR 2019)."""

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from clep.bank.clock import Explicit, Grid
from clep.bank.gather import random_like


def long_term_rows(
    rows: Grid | Explicit,
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
