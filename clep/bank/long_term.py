"""Long-term feature banks: the rows of the minute around a moment, second by second (Wu et al., CVPR 2019)."""

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from clep.bank.clock import Explicit, Grid
from clep.bank.gather import place_rows, random_like, widest
from clep.bank.storage import Rows


def long_term_rows(
    rows: Grid | Explicit,
    second: Float64[Tensor, " batch"],
    window_s: int,
    per_second: int,
    generator: torch.Generator | None = None,
) -> tuple[Int64[Tensor, "batch slots"], Bool[Tensor, "batch slots"]]:
    """Rows of the video in the `window_s` seconds around a moment, `per_second` slots for each second.

    Slot `k * per_second + j` is for row `j` of those that start in the second `floor(second) - window_s // 2 + k`. Of a
    second with more than `per_second` rows the first ones are taken, or with a generator a random choice, in stored
    order; slots without a row are masked.

    Returns:
        row: of the video, meaningless where masked.
        mask: true where there is a row.
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


def _choice(
    count: Int64[Tensor, "second batch"],
    size: int,
    in_order: Int64[Tensor, "second batch slot"],
    generator: torch.Generator,
) -> Int64[Tensor, "second batch slot"]:
    """`size` of each `count`, without replacement, ascending; those with `size` or fewer keep their order."""
    most = int(count.max()) if count.numel() else 0
    if most <= size:
        return in_order
    every = torch.arange(most, device=count.device).expand(*count.shape, most)
    key = random_like(every, generator).masked_fill(every >= count[..., None], 2.0)
    return key.topk(size, largest=False).indices.sort().values


class SlotBuffers:
    """Room for the long-term rows of a batch, from `bank.long_term_buffers`.

    A batch is written over the last one: only slots that hold a row are written, and only those that held one before
    and hold none now are set to zero. What `bank.long_term(..., out=buffers)` returns are views into the buffers, right
    until the next call. Do not write to them, or call `clear` afterwards.

    Args:
        batch: moments of the largest batch.
        slots: slots of a moment, `window_s * per_second`.
        dim: numbers in a row.
        dtype: float32, or the type in which the bank holds its rows, which saves memory and time.
        device: that of the bank.
        pin_memory: keep them in page-locked memory, from which copies to a GPU need not be waited for.
    """

    def __init__(
        self,
        batch: int,
        slots: int,
        dim: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        pin_memory: bool = False,
    ) -> None:
        self.rows: Float[Tensor, "batch slots dim"] = torch.zeros(
            batch, slots, dim, dtype=dtype, device=device, pin_memory=pin_memory
        )
        self.mask: Bool[Tensor, "batch slots"] = torch.zeros(
            batch, slots, dtype=torch.bool, device=device, pin_memory=pin_memory
        )
        self._filled = torch.zeros(batch, slots, dtype=torch.bool, device=device)

    def clear(self) -> None:
        """Empty every slot."""
        self.rows.zero_()
        self.mask.zero_()
        self._filled.zero_()

    def fill(
        self, store: Rows, row: Int64[Tensor, "part slots"], mask: Bool[Tensor, "part slots"]
    ) -> tuple[Float[Tensor, "part slots dim"], Bool[Tensor, "part slots"]]:
        """Write rows of a bank to the slots of the first moments; returns views of those moments.

        Raises:
            ValueError: more moments, other slots, another dim, device or type than the buffers have room for.
        """
        self._check(store, row)
        rows, held, filled = self.rows[: len(row)], self.mask[: len(row)], self._filled[: len(row)]
        flat = rows.view(-1, store.dim)
        widest(flat)[(filled & ~mask).view(-1).nonzero().squeeze(1)] = 0
        # Until all is written, slots may hold anything: a gather that fails half-way must not leave them as empty.
        filled |= mask
        place_rows(store, row[mask], mask.reshape(-1).nonzero().squeeze(1), flat)
        filled.copy_(mask)
        held.copy_(mask)
        return rows, held

    def _check(self, store: Rows, row: Int64[Tensor, "part slots"]) -> None:
        batch, slots, dim = self.rows.shape
        if len(row) > batch or row.shape[1] != slots or store.dim != dim:
            raise ValueError(
                f"buffers for {batch} moments of {slots} slots of {dim} numbers have no room for {len(row)} of "
                f"{row.shape[1]} of {store.dim}: make them with bank.long_term_buffers"
            )
        if self.rows.device != store.device or self.rows.dtype not in (torch.float32, store.dtype):
            raise ValueError(
                f"buffers of {self.rows.dtype} on {self.rows.device} do not fit a bank of {store.dtype} on "
                f"{store.device}: make them with bank.long_term_buffers"
            )
