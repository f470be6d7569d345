"""The windows of all videos of a bank as moments: which video and seconds each index stands for."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int64

from clep.errors import InputError

_MOST_MOMENTS = 4_000_000_000


@dataclass(frozen=True)
class MomentGrid:
    """Moments of `window_s` seconds, one every `stride_s`, of each video; the last of a video may be half as long.

    Nothing is stored per moment: index, video and seconds are computed from one another.

    Attributes:
        end_s: `[V]`, second at which each video ends.
        window_s: length of a moment.
        stride_s: seconds from the start of one moment to the next.

    Raises:
        InputError: a length is not positive.

    Examples:
        >>> import numpy as np
        >>> from clep.index import MomentGrid
        >>> grid = MomentGrid(np.array([6.0, 4.5]), window_s=4.0, stride_s=1.0)
        >>> len(grid), [column.tolist() for column in grid.spans(np.array([0, 1]))]
        (7, [[0, 0], [0.0, 1.0], [4.0, 5.0]])
    """

    end_s: Float64[np.ndarray, " videos"]
    window_s: float
    stride_s: float

    def __post_init__(self) -> None:
        if not (0 < self.window_s < np.inf and 0 < self.stride_s < np.inf):
            raise InputError(f"a search needs positive seconds, not window_s={self.window_s}, stride_s={self.stride_s}")
        total = float(np.maximum(1.0, self.end_s / self.stride_s).sum())
        if total > _MOST_MOMENTS:
            raise InputError(
                f"stride_s={self.stride_s} makes {total:.1e} moments of these videos, more than {_MOST_MOMENTS:,}; "
                f"give a larger stride_s"
            )

    @cached_property
    def first(self) -> Int64[np.ndarray, " videos_and_end"]:
        """First moment of each video, and the count of all moments."""
        last_start = np.maximum(self.end_s - self.window_s / 2, self.stride_s / 2)
        counts = np.maximum(1, np.ceil(last_start / self.stride_s)).astype(np.int64)
        return np.concatenate([[0], counts.cumsum()]).astype(np.int64)

    def __len__(self) -> int:
        return int(self.first[-1])

    def video(self, moment: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Index of the video of each moment."""
        return np.searchsorted(self.first, moment, side="right") - 1

    def spans(
        self, moment: Int64[np.ndarray, " n"]
    ) -> tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
        """Return the video, the first and the last second of each moment."""
        video = self.video(moment)
        start_s = (moment - self.first[video]) * self.stride_s
        return video, start_s, np.minimum(start_s + self.window_s, self.end_s[video])

    def moments_of(self, videos: Iterable[int]) -> Int64[np.ndarray, " n"]:
        """Return the moments of some videos, ascending."""
        chosen = sorted(set(videos))
        ranges = [np.arange(self.first[video], self.first[video + 1]) for video in chosen]
        return np.concatenate(ranges) if ranges else np.empty(0, np.int64)

    def nearest(self, video: int, start_s: float, end_s: float) -> int:
        """Return the moment of a video whose middle is nearest to that of a span."""
        first, last = int(self.first[video]), int(self.first[video + 1])
        guess = round((max(0.0, (start_s + end_s) / 2) - self.window_s / 2) / self.stride_s)
        return first + min(max(0, guess), last - first - 1)

    def without_overlaps(self, moment: Int64[np.ndarray, " n"], top: int) -> Int64[np.ndarray, " kept"]:
        """Return the positions of the first `top` moments that overlap no earlier one that was kept.

        Args:
            moment: indices of moments, best first.
            top: how many to keep at the most.
        """
        kept: list[int] = []
        taken: dict[int, list[tuple[float, float]]] = {}
        for position, (video, start_s, end_s) in enumerate(
            zip(*(column.tolist() for column in self.spans(moment)), strict=True)
        ):
            spans = taken.setdefault(video, [])
            if all(end_s <= start or end <= start_s for start, end in spans):
                spans.append((start_s, end_s))
                kept.append(position)
                if len(kept) == top:
                    break
        return np.array(kept, dtype=np.int64)
