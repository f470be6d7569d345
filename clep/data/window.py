"""What of a moment's window becomes the video side of a batch: its mean, or its rows with a mask."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from jaxtyping import Int64
from torch import Tensor

from clep.bank import FeatureBank
from clep.errors import InputError


@dataclass(frozen=True)
class Window:
    """How rows are cut around a moment and handed to the model; a saved model remembers it.

    Attributes:
        align: "centre" takes the rows whose centre lies in the span, "start" the published tutorial's.
        pool: "mean" gives `video [batch, dim]`; "rows" gives `video [batch, places, dim]` with `video_mask`: all
            rows where they fit, else `max_rows` of them.
        max_rows: the most places that the time axis has for "rows"; it is no longer than the longest window.
        sample: how rows are chosen where more than `max_rows` are there: "uniform" (fixed) or "random" (in training;
            evaluation is always uniform).
    """

    align: Literal["centre", "start"] = "centre"
    pool: Literal["mean", "rows"] = "mean"
    max_rows: int = 16
    sample: Literal["uniform", "random"] = "uniform"

    def __post_init__(self) -> None:
        if self.max_rows < 1:
            raise InputError(f"window.max_rows={self.max_rows} must be at least 1")

    @classmethod
    def of_model(cls, metadata: Mapping[str, Any]) -> "Window":
        """Return the window that a model was trained with, for evaluation: rows are chosen uniformly.

        Args:
            metadata: of a saved model; the default window where it does not say.
        """
        return cls(**{**metadata.get("window", {}), "sample": "uniform"})

    def gather(
        self,
        bank: FeatureBank,
        first: Int64[Tensor, " batch"],
        last: Int64[Tensor, " batch"],
        seed: int | None = None,
        places: int | None = None,
    ) -> dict[str, Tensor]:
        """Return the video side of a batch from rows `[first, last)` of `bank`, float32, on the bank's device.

        Args:
            bank: where the rows lie.
            first, last: the window of each moment.
            seed: of a "random" sample (the same seed, the same rows); None takes the uniform one.
            places: length of the time axis, from `places` of all windows that should be alike in it; None for what
                these windows need, which waits for the device that they are on.
        """
        if self.pool == "mean":
            return {"video": bank.mean(first, last)}
        places = self.places(first, last) if places is None else places
        generator = None
        if self.sample == "random" and seed is not None:
            generator = torch.Generator(device=bank.device).manual_seed(seed)
        rows, mask = bank.rows(first, last, places, "uniform" if generator is None else "random", generator)
        return {"video": rows, "video_mask": mask}

    def places(self, first: Int64[Tensor, " batch"], last: Int64[Tensor, " batch"]) -> int:
        """Return how long a time axis the windows `[first, last)` need: the longest's rows, in 1 … `max_rows`."""
        longest = int((last - first).max()) if len(first) else 0
        return max(1, min(longest, self.max_rows))

    def plain(self) -> dict[str, Any]:
        """Return the settings as a plain dict, to be stored with a model."""
        return asdict(self)
