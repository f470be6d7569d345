"""The long-term context of a moment: the rows of the minute around it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from clep.bank import FeatureBank
from clep.config.build import call
from clep.errors import InputError

ROWS_AT_ONCE = 32_768
SHARED_AT_ONCE = 128


@dataclass(frozen=True)
class LongTerm:
    """Rule for the long-term context of a moment; stored with a saved model.

    The context is `FeatureBank.long_term` at the middle of the moment: up to `window_s * per_second` rows with a mask.
    A row belongs to the second that it starts in. Ego4D's features have 1.875 rows per second, so most seconds hold two
    rows and one in eight holds one: `per_second=2` takes all rows of the window (112 or 113 rows in 120 slots for 60
    seconds), `per_second=1` the first of each second, or a random one.

    Attributes:
        window_s: length in seconds, half of it before the middle of the moment (`window_size` in the paper's code).
        per_second: slots per second (`max_num_feat_per_step` in mmaction2).
        sample: rows of a second with more rows than slots: the "first" in stored order, or "random" ones in training
            and the first in evaluation.
        pool: "rows" gives all slots; "mean" and "max" give a single slot, the mean or maximum of the rows: the input of
            `operator=avg` and `operator=max`, without a copy of the rows.
        gaps: True keeps empty slots, so that every batch has `window_s * per_second` slots. False removes them: less
            memory and computation, and the same output of a model that ignores empty slots (`empty_slots=masked`).

    Raises:
        InputError: `window_s` or `per_second` is below 1.

    Examples:
        >>> import torch
        >>> from clep.bank import FeatureBank
        >>> from clep.data import LongTerm
        >>> context = LongTerm(window_s=20, per_second=2, sample="first")
        >>> found = context.gather(FeatureBank.open("features.h5"), torch.tensor([0]), torch.tensor([30.0]).double())
        >>> found["context"].shape, int(found["context_mask"].sum())
        (torch.Size([1, 37, 12]), 37)
    """

    window_s: int = 60
    per_second: int = 2
    sample: Literal["first", "random"] = "random"
    pool: Literal["rows", "mean", "max"] = "rows"
    gaps: bool = False

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

        Raises:
            InputError: `metadata.context` has an unknown key, or a value of another type.
        """
        remembered = metadata.get("context")
        if isinstance(remembered, Mapping):
            remembered = {"gaps": True, **remembered}  # a model that was saved before there was a choice had all slots
        return None if remembered is None else call(cls, remembered, "metadata.context").fixed()

    def fixed(self) -> "LongTerm":
        """Return the same context without random samples, for evaluation."""
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

        Without `gaps`, `slots` is the largest number of rows that a moment of the batch has.

        Args:
            bank: a bank with a clock.
            video: index of each moment's video.
            middle_s: middle of each moment in seconds.
            seed: of a "random" sample; None takes the first rows.
            on_missing: "error" or "skip" for a video that is not in the bank (index -1), see `FeatureBank.long_term`.
        """
        generator = None
        if self.sample == "random" and seed is not None:
            # A different stream than that of the window's random rows, which uses the seed itself.
            generator = torch.Generator().manual_seed((seed * 31 + 17) % 2**63)
        where = (video, middle_s, self.window_s, self.per_second, generator, on_missing)
        if self.pool == "rows":
            rows, mask = bank.long_term(*where, gaps=self.gaps)
            return {"context": rows, "context_mask": mask}
        pooled, present = bank.long_term_pooled(*where, pool=self.pool)
        return {"context": pooled[:, None], "context_mask": present[:, None]}

    def gather_shared(
        self, bank: FeatureBank, video: Int64[Tensor, " batch"], middle_s: Float64[Tensor, " batch"]
    ) -> dict[str, Tensor]:
        """Return the contexts of neighbouring moments with each row once: `context` `[rows, dim]`.

        `context_mask` `[batch, rows]` is True for the rows of each moment's context. A `LongTermTower` returns the same
        for it as for `gather`, and projects each row once rather than once per moment. With a `pool` other than "rows",
        it equals `gather`.

        Args:
            bank, video, middle_s: as in `gather`; the first rows of each second are taken.
        """
        if self.pool != "rows":
            return self.gather(bank, video, middle_s)
        rows, mask = bank.long_term_shared(video, middle_s, self.window_s, self.per_second)
        return {"context": rows, "context_mask": mask}

    def at_once(self, batch_size: int) -> int:
        """Return how many of `batch_size` moments to encode at once to keep contexts within about 200 MB."""
        slots = self.window_s * self.per_second if self.pool == "rows" else 1
        return max(1, min(batch_size, ROWS_AT_ONCE // slots))

    def shared_at_once(self, batch_size: int) -> int:
        """Return how many of `batch_size` neighbouring moments to encode at once with `gather_shared`.

        With more moments at once more rows are shared, but each moment is compared with the rows of all.
        """
        return min(batch_size, SHARED_AT_ONCE) if self.pool == "rows" else batch_size

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a plain dict, for a saved model."""
        return asdict(self)
