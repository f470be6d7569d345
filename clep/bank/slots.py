"""Buffers for the rows around moments, filled again batch after batch instead of allocated."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from clep.bank.gather import place_rows, widest
from clep.bank.storage import Rows


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
