"""Frames in order of time, in seconds after the first one, whatever a file says about them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import av

# Containers round: Matroska to milliseconds. A frame that starts this little after an instant is on screen then. The
# microsecond keeps frame 30 of 29.97 a second, at 1.001 s, from being left to the last bit of a float.
TOLERANCE_S = 1e-3 + 1e-6
# So many frames in a row that lie in the past are a clock that was set back, not a few wrong timestamps.
_SET_BACK_FRAMES = 16


@dataclass(frozen=True)
class DecodedFrame:
    """A frame as the decoder gave it.

    Attributes:
        picture: PyAV's frame.
        second: its timestamp in seconds, None where the file has none.
        lasts_s: how long it is shown, None where the file does not say.
    """

    picture: "av.VideoFrame"
    second: float | None
    lasts_s: float | None


class Timeline:
    """Puts decoded frames in order of time and drops those whose timestamp cannot be true.

    A frame without a timestamp comes a mean interval after the one before. Of two frames of which the second claims to
    be earlier, one is wrong: the first, if without it time goes forward, else the second. Many in a row that claim
    to be earlier are a clock that was set back, and go on from where it stood.

    Args:
        usual_interval_s: between frames, until two of them have been seen.
        longest_s: a frame that claims to come later than that after the first is dropped; None: there is no bound.

    Attributes:
        first_s: timestamp of the first frame, None until there is one.
        end_s: when the last frame that was given ends, in seconds after the first frame.
        dropped: frames with timestamps that cannot be true.
    """

    def __init__(self, usual_interval_s: float, longest_s: float | None = None) -> None:
        self._usual_interval_s = usual_interval_s
        self._longest_s = longest_s
        self.restart()

    def restart(self) -> None:
        """Forget all frames: the file is read from its beginning again."""
        self.first_s: float | None = None
        self.end_s = 0.0
        self.dropped = 0
        self._given = 0
        self._run_given = 0
        self._run_first_s = 0.0
        self._last_s = 0.0
        self._set_back_s = 0.0

    def in_order(self, frames: Iterable[DecodedFrame]) -> Iterator[tuple[float, DecodedFrame]]:
        """Yield frames with their seconds after the first frame, which rise strictly.

        May be called again after a seek: seconds stay relative to the very first frame.
        """
        held: tuple[float, DecodedFrame] | None = None
        before: float | None = None
        refused = 0
        self._run_given = 0
        for frame in frames:
            second = self._relative(frame, held)
            if self._longest_s is not None and second > self._longest_s:
                self.dropped += 1
                continue
            if held is None or second > held[0]:
                if held is not None:
                    yield self._give(held)
                    before = held[0]
                held, refused = (second, frame), 0
                continue
            self.dropped += 1
            refused += 1
            if before is None or second > before:
                if before is None and self._given == 0:  # the very first frame was the wrong one
                    assert self.first_s is not None
                    self.first_s += second
                    second = 0.0
                held, refused = (second, frame), 0
            elif refused == _SET_BACK_FRAMES:
                self._set_back_s += held[0] + self.interval_s - second
        if held is not None:
            yield self._give(held)

    @property
    def interval_s(self) -> float:
        """Mean interval between the frames given since the beginning or the last seek."""
        if self._run_given < 2:
            return self._usual_interval_s
        return (self._last_s - self._run_first_s) / (self._run_given - 1)

    def _relative(self, frame: DecodedFrame, held: tuple[float, DecodedFrame] | None) -> float:
        if frame.second is None:
            if self.first_s is None:
                self.first_s = 0.0
                return 0.0
            return (held[0] if held is not None else self._last_s) + self.interval_s
        if self.first_s is None:
            self.first_s = frame.second
        return frame.second - self.first_s + self._set_back_s

    def _give(self, held: tuple[float, DecodedFrame]) -> tuple[float, DecodedFrame]:
        second, frame = held
        if self._run_given == 0:
            self._run_first_s = second
        self._given += 1
        self._run_given += 1
        self._last_s = second
        lasts = frame.lasts_s
        if lasts is None or lasts <= 0 or (self._longest_s is not None and second + lasts > self._longest_s):
            lasts = self.interval_s
        self.end_s = second + lasts
        return held
