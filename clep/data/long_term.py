"""The long-term side of a moment: the rows of the minute around it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from clep.bank import FeatureBank
from clep.errors import InputError

ROWS_AT_ONCE = 32_768
SHARED_AT_ONCE = 128


@dataclass(frozen=True)
class LongTerm:
    """How the context of a moment is cut from the bank that its window comes from; a saved model remembers it.

    The context is what `FeatureBank.long_term` gives for the middle of the moment: `window_s * per_second` slots with a
    mask. A row belongs to the second that it starts in. On a regular grid of 1.875 rows a second, which Ego4D's
    features have, seconds hold two rows or, one in eight, a single one: with `per_second=2` the context is all rows of
    the window (112 or 113 of 60 seconds, in 120 slots), with `per_second=1` the first of each second, or either one.

    Attributes:
        window_s: seconds, half of them before the moment's own (`window_size` in the paper's code).
        per_second: slots of each second (`max_num_feat_per_step` in mmaction2).
        sample: which rows are taken of a second with more rows than slots: the "first" in stored order, or "random"
            ones in training (evaluation always takes the first).
        pool: "rows" hands over all slots. "mean" and "max" hand over one slot, with the mean or the maximum of the rows
            that are there: what `operator=avg` and `operator=max` make of them, without a copy of the rows.
    """

    window_s: int = 60
    per_second: int = 2
    sample: Literal["first", "random"] = "random"
    pool: Literal["rows", "mean", "max"] = "rows"

    def __post_init__(self) -> None:
        if self.window_s < 1 or self.per_second < 1:
            raise InputError(
                f"context.window_s={self.window_s} and context.per_second={self.per_second} must be at least 1"
            )

    @classmethod
    def of_model(cls, metadata: Mapping[str, Any]) -> "LongTerm | None":
        """Return the context that a model was trained with, for evaluation; None if it was trained without.

        Args:
            metadata: of a saved model.
        """
        remembered = metadata.get("context")
        return None if remembered is None else cls(**remembered).fixed()

    def fixed(self) -> "LongTerm":
        """Return the same context for evaluation: nothing in it is random."""
        return replace(self, sample="first")

    def gather(
        self,
        bank: FeatureBank,
        video: Int64[Tensor, " batch"],
        middle_s: Float64[Tensor, " batch"],
        seed: int | None = None,
        on_missing: str = "error",
    ) -> dict[str, Tensor]:
        """Return `context` `[batch, slots, dim]` and `context_mask` `[batch, slots]`, float32, on the bank's device.

        Args:
            bank: with a clock.
            video: number of each moment's video.
            middle_s: second of each moment's middle.
            seed: of a "random" sample (the same seed, the same rows); None takes the first rows.
            on_missing: what becomes of a video that the bank lacks (number -1), see `FeatureBank.long_term`.
        """
        generator = None
        if self.sample == "random" and seed is not None:
            # Another stream than the seed's own, from which the window's rows are drawn.
            generator = torch.Generator(device=bank.device).manual_seed((seed * 31 + 17) % 2**63)
        where = (video, middle_s, self.window_s, self.per_second, generator, on_missing)
        if self.pool == "rows":
            rows, mask = bank.long_term(*where)
            return {"context": rows, "context_mask": mask}
        pooled, present = bank.long_term_pooled(*where, pool=self.pool)
        return {"context": pooled[:, None], "context_mask": present[:, None]}

    def gather_shared(
        self, bank: FeatureBank, video: Int64[Tensor, " batch"], middle_s: Float64[Tensor, " batch"]
    ) -> dict[str, Tensor]:
        """Return the contexts of moments that lie close together: `context` `[rows, dim]`, each row once.

        `context_mask` `[batch, rows]` says which of them each moment has. A `LongTermTower` makes the same of them as
        of what `gather` returns, and projects a row once instead of once a moment. With another `pool` than "rows" it
        is what `gather` returns.

        Args:
            those of `gather`; nothing is random.
        """
        if self.pool != "rows":
            return self.gather(bank, video, middle_s)
        rows, mask = bank.long_term_shared(video, middle_s, self.window_s, self.per_second)
        return {"context": rows, "context_mask": mask}

    def at_once(self, batch_size: int) -> int:
        """Return how many of `batch_size` moments to encode at once, so that their contexts stay within some 200 MB."""
        slots = self.window_s * self.per_second if self.pool == "rows" else 1
        return max(1, min(batch_size, ROWS_AT_ONCE // slots))

    def shared_at_once(self, batch_size: int) -> int:
        """Return how many of `batch_size` neighbouring moments to encode at once with `gather_shared`.

        Each moment is compared with the rows of all: many share more rows, and compare more that are another's.
        """
        return min(batch_size, SHARED_AT_ONCE) if self.pool == "rows" else batch_size

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a plain dict, to be stored with a model."""
        return asdict(self)
