"""The decoded frames of a video file, one after the other, whatever is wrong with the file."""

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clep.errors import InputError

if TYPE_CHECKING:
    import av

_NO_TIMESTAMPS = 0x80  # FFmpeg's AVFMT_NOTIMESTAMPS: bare pictures, whose duration is guessed from the bytes
_TEXT_CODECS = ("ansi", "bintext", "idf", "xbin")  # FFmpeg films a text file as a terminal would show it
_USUAL_RATE = 30.0
_LARGE_BYTES = 64 << 20


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


def pyav() -> Any:
    """PyAV.

    Raises:
        InputError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise InputError("decoding video needs PyAV: pip install 'clep[video]'") from error
    return av


class VideoFile:
    """A video file that is open for decoding.

    Args:
        path: of the file.
        threads: that decode; 0: as many as there are processors.

    Attributes:
        path: of the file.
        pixel_aspect: width of a pixel over its height.
        usual_interval_s: between two frames, by the file's own word.
        stamps_are_of_packets: the format (AVI) stores no timestamps of frames, only packets in order at a fixed rate.
            What is guessed from that is often wrong, so frames are timed by the packets that completed them.
        stated_s: how long the file says that it lasts, None where it says nothing; a guess.
        longest_s: a timestamp further than that from the first one cannot be true; None: nothing is known.
        decoded_frames: so far.
        corrupt_packets: that could not be read or decoded, or only in part, so far.

    Raises:
        InputError: there is no such file, it is empty, not a video or cut off before its index, or nothing here decodes
            its pictures.
    """

    def __init__(self, path: str | Path, threads: int = 0) -> None:
        self.path = Path(path)
        self._threads = threads
        self.decoded_frames = 0
        self.corrupt_packets = 0
        self._key_frames: list[float] = []
        self._open()
        stream = self._stream
        aspect = stream.sample_aspect_ratio
        self.pixel_aspect = float(aspect) if aspect and 0.1 < aspect < 10 else 1.0
        rate = stream.guessed_rate or stream.average_rate
        self.usual_interval_s = 1 / float(rate) if rate and 0.1 < rate < 1000 else 1 / _USUAL_RATE
        self.stamps_are_of_packets = self._container.format.name == "avi"
        self.stated_s: float | None = None
        self.longest_s: float | None = None
        if self._container.duration and not self._container.format.flags & _NO_TIMESTAMPS:
            self.stated_s = self._container.duration / 1e6
            self.longest_s = 1.25 * self.stated_s + 5.0

    def _open(self) -> None:
        av = pyav()
        if not self.path.exists():
            raise InputError(f"{self.path} does not exist")
        if self.path.is_dir():
            raise InputError(f"{self.path} is a folder, not a video file")
        if self.path.stat().st_size == 0:
            raise InputError(f"{self.path} is empty (0 bytes): fetch it again")
        try:
            # A video file is one local file: a playlist in its place must not open others or reach the network.
            self._container = av.open(f"file:{self.path}", options={"protocol_whitelist": "file"})
        except (av.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{self.path} cannot be opened as a video: {reason}; not a video, or cut off?") from error
        cover = av.stream.Disposition.attached_pic
        streams = [stream for stream in self._container.streams.video if not stream.disposition & cover]
        if not streams:
            self.close()
            raise InputError(f"{self.path} has no video stream")
        self._stream = streams[0]
        if self._stream.codec_context is None:
            self.close()
            raise InputError(f"{self.path} is encoded in a way that this PyAV cannot decode")
        if self._stream.codec_context.name in _TEXT_CODECS:
            self.close()
            raise InputError(f"{self.path} cannot be opened as a video: it is a text")
        self._stream.thread_type = "AUTO"
        self._stream.thread_count = self._threads
        self._time_base = float(self._stream.time_base)

    def close(self) -> None:
        """Close the file; closing twice does nothing."""
        self._container.close()

    def rewind(self) -> None:
        """Go back to the first frame, by opening the file again: not every format can seek to it."""
        self.close()
        self._open()

    def frames(self) -> Iterator[DecodedFrame]:
        """Decode from where the file is; packets that cannot be read or decoded are counted and left out."""
        av = pyav()
        for packet in self._packets():
            if packet.is_corrupt:
                self.corrupt_packets += 1
            try:
                pictures = packet.decode()
            except EOFError:  # flushed twice
                return
            except (av.FFmpegError, OSError, ValueError):
                self.corrupt_packets += 1
                continue
            for picture in pictures:
                self.decoded_frames += 1
                self.corrupt_packets += picture.is_corrupt
                yield self._timed(picture)

    def _timed(self, picture: Any) -> DecodedFrame:
        stamp, lasts = (picture.dts, 0) if self.stamps_are_of_packets else (picture.pts, picture.duration)
        return DecodedFrame(
            picture, None if stamp is None else stamp * self._time_base, lasts * self._time_base if lasts else None
        )

    def _packets(self) -> Iterator[Any]:
        av = pyav()
        packets = self._container.demux(self._stream)
        try:
            yield from packets
        except (av.FFmpegError, OSError, ValueError):  # what follows is lost; the decoder still holds frames
            self.corrupt_packets += 1
            flush = av.Packet()
            flush.stream = self._stream
            yield flush

    def seek(self, second: float) -> bool:
        """Go to the key frame at or before a timestamp; False where the format cannot."""
        av = pyav()
        try:
            self._container.seek(math.floor(second / self._time_base), stream=self._stream)
        except (av.FFmpegError, OSError, ValueError):
            return False
        return True

    def key_frame_before(self, second: float) -> float | None:
        """Where a seek to a timestamp would go to, about; None where its key frames are not known."""
        if self._key_frames:
            return self._key_frames[max(0, bisect_right(self._key_frames, second) - 1)]
        entries = self._stream.index_entries
        stamp = math.floor(second / self._time_base)
        if not len(entries) or entries[len(entries) - 1].timestamp < stamp:  # it may list only what was read so far
            return None
        found = entries.search_timestamp(stamp)
        return None if found < 0 else entries[found].timestamp * self._time_base

    def packet_span(self) -> tuple[float, float] | None:
        """Timestamps at which the first packet starts and the last one ends; None where packets have no timestamps.

        Nothing is decoded. Of a large file the end alone is read, if the format can seek there, and the first is that
        of the packets there. The file is somewhere else afterwards.
        """
        duration = self._container.duration
        if duration and not self.stamps_are_of_packets and self.path.stat().st_size > _LARGE_BYTES:
            start = self._container.start_time or 0
            span = self._span() if self.seek((start + duration) / 1e6 - 1.0) else None
            self._key_frames = []
            if span is not None:
                return span
            self.rewind()
        self._key_frames = []
        span = self._span()
        self._key_frames.sort()
        return span

    def _span(self) -> tuple[float, float] | None:
        span: tuple[float, float] | None = None
        corrupt = self.corrupt_packets
        for packet in self._packets():
            stamp = packet.dts if self.stamps_are_of_packets or packet.pts is None else packet.pts
            if stamp is None or packet.is_discard:
                continue
            second = stamp * self._time_base
            if packet.is_keyframe:
                self._key_frames.append(second)
            lasts = 0 if self.stamps_are_of_packets or not packet.duration else packet.duration * self._time_base
            lasts = lasts or self.usual_interval_s
            if span is None:
                span = second, second + lasts
            elif self.longest_s is None or second - span[0] <= self.longest_s:
                span = min(span[0], second), max(span[1], second + lasts)
        self.corrupt_packets = corrupt
        return span


def expected_seconds(path: str | Path) -> float:
    """Return the seconds that a video file claims to last, NaN where it says nothing or cannot be opened.

    A guess at the cost of decoding it: how long it lasts shows only then.
    """
    av = pyav()
    try:
        with av.open(f"file:{path}", options={"protocol_whitelist": "file"}) as container:
            return container.duration / 1e6 if container.duration else nan
    except (av.FFmpegError, OSError, ValueError, InputError):
        return nan


# Containers round: Matroska to milliseconds. A frame that starts this little after an instant is on screen then. The
# microsecond keeps frame 30 of 29.97 a second, at 1.001 s, from being left to the last bit of a float.
TOLERANCE_S = 1e-3 + 1e-6
# So many frames in a row that lie in the past are a clock that was set back, not a few wrong timestamps.
_SET_BACK_FRAMES = 16


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
