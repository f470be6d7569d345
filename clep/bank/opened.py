"""An opened bank: what it says about itself, and the rows of one video."""

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from clep.bank.clock import Clock
from clep.bank.contents import BankContents, read_contents
from clep.bank.gather import select_rows
from clep.bank.storage import parse_device, parse_dtype
from clep.errors import InputError


class OpenedBank:
    """Path and options of a bank, and its contents, read when first asked for and again in every process."""

    def __init__(
        self,
        path: str | Path,
        device: str | torch.device = "disk",
        dtype: str | torch.dtype | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.path = Path(path).absolute()
        self._device, self._dtype, self._clock = device, dtype, clock
        self.storage = parse_device(device)[0]
        parse_dtype(dtype)
        self.skipped_moments = 0
        """Moments that `long_term` has given no context because the bank lacks their video, in this process."""

    @cached_property
    def _contents(self) -> BankContents:
        return read_contents(self.path, self._device, self._dtype, self._clock)

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
        """Numbers in a row."""
        return self._contents.rows.dim

    @property
    def n_rows(self) -> int:
        """Rows of all videos together."""
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
        """Type in which rows are held; results are float32 all the same."""
        return self._contents.rows.dtype

    @property
    def device(self) -> torch.device:
        """Where results are: the CPU for a bank on disk. `bank.storage` is "disk", "cpu", "cuda" or "lmdb"."""
        return self._contents.rows.device

    @property
    def first_row(self) -> Int64[Tensor, " videos_and_end"]:
        """Video `v` has the rows `[first_row[v], first_row[v + 1])`."""
        return self._contents.first_row

    @property
    def duration_s(self) -> Float64[Tensor, " videos"]:
        """Length of each video in seconds, NaN where unknown."""
        return self._contents.duration_s

    def video_rows(self, uid: str) -> Float32[Tensor, "time dim"]:
        """All rows of one video, copied.

        Raises:
            InputError: the bank lacks it.
        """
        first, last = self._span(uid)
        return select_rows(self._contents.rows, torch.arange(first, last, device=self.device))

    def video_seconds(self, uid: str) -> Float64[Tensor, " time"] | None:
        """Second at which each row of one video starts, where the clock is irregular; None on a regular grid.

        Raises:
            InputError: the bank lacks it.
        """
        first, last = self._span(uid)
        return None if self._contents.seconds is None else self._contents.seconds[first:last]

    def _span(self, uid: str) -> tuple[int, int]:
        contents = self._contents
        if uid not in contents.position:
            raise InputError(f"{self.path} has no rows for video {uid!r}; it holds {len(self)} others: see bank.videos")
        number = contents.position[uid]
        return int(contents.first_row[number]), int(contents.first_row[number + 1])
