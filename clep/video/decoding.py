"""Decode the frames of a video file in order of time, tolerating damage."""

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clep.errors import InputError
from clep.files import check_input
from clep.remote import RemoteFile, is_remote, shown

if TYPE_CHECKING:
    import av

_NO_TIMESTAMPS = 0x80  # FFmpeg's AVFMT_NOTIMESTAMPS: bare pictures, whose duration is guessed from the bytes
_CLOCK_RESTARTS = 0x200  # FFmpeg's AVFMT_TS_DISCONT: transport streams, program streams, Ogg
_TEXT_CODECS = ("ansi", "bintext", "idf", "xbin")  # FFmpeg renders a text file as a terminal would
_USUAL_RATE = 30.0
_LARGE_BYTES = 64 << 20
_LARGE_REMOTE_BYTES = 8 << 20


@dataclass(frozen=True)
class DecodedFrame:
    """A frame from the decoder.

    Attributes:
        picture: PyAV's frame.
        second: its timestamp in seconds; None where the file has none.
        lasts_s: how long it is shown; None where the file does not state it.
    """

    picture: "av.VideoFrame"
    second: float | None
    lasts_s: float | None


def pyav() -> Any:
    """Import PyAV.

    Raises:
        InputError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise InputError("decoding video needs PyAV: pip install 'clep[video]'") from error
    return av


class PacketClock:
    """Corrects the timestamps of packets at discontinuities: the clock continues from its last value, as in ffmpeg.

    Decoding timestamps jump in recordings joined by `cat`, after a restart of the camera, and at a damaged stamp. A
    jump is a discontinuity if it goes back by more than 0.1 s and four frames, or forward by more than an hour, or by
    more than 10 s in a format whose clocks may restart (transport streams), or in other formats by more than 10 s
    beyond the length stated by the header. A stamp that fits the clock from before a discontinuity ends it, so a single
    wrong stamp affects only its packet.

    Args:
        time_base: seconds of a unit of the stamps.
        interval_s: usual time between packets.
        restarts: whether clocks of this format may restart.
        stated_s: length by the header; None: not stated.

    Attributes:
        discontinuities: corrected so far.
    """

    BACK_S, FORWARD_S, LONGEST_GAP_S = 0.1, 10.0, 3600.0
    _MOST_KNOWN = 64

    def __init__(self, time_base: float, interval_s: float, restarts: bool, stated_s: float | None) -> None:
        self.discontinuities = 0
        self._time_base = time_base
        self._interval = max(1, round(interval_s / time_base))
        self._restarts = restarts
        self._longest = None if stated_s is None else (1.25 * stated_s + 5.0) / time_base
        self._near = self.BACK_S / time_base
        # Matroska stores no decoding timestamps, and FFmpeg's guess at them may go back by a few reordered frames.
        self._back = max(self._near, 4 * self._interval)
        self._forward, self._gap = self.FORWARD_S / time_base, self.LONGEST_GAP_S / time_base
        self._offset = 0
        self._known = [0]
        self._first: int | None = None
        self._next: int | None = None
        self._end = 0

    def jump(self) -> None:
        """Accept any stamp next, after a seek."""
        self._first = self._next = None

    def correct(self, packet: Any) -> None:
        """Change the stamps of a packet in place."""
        duration = packet.duration or self._interval
        if packet.dts is not None:
            self._follow(packet, duration)
        if packet.pts is not None:
            packet.pts += self._offset
        if packet.dts is None:
            return
        packet.dts += self._offset
        if packet.pts is not None and abs(packet.pts - packet.dts) > max(self._forward, 32 * self._interval):
            packet.pts = packet.dts  # no decoder reorders frames that far
        self._end = max(self._end, (packet.dts if packet.pts is None else packet.pts) + duration)

    def _follow(self, packet: Any, duration: int) -> None:
        stamp = packet.dts
        if self._first is None:
            self._first = self._end = stamp
        if self._next is not None and self._is_jump(stamp + self._offset):
            fitting = (known for known in reversed(self._known) if abs(stamp + known - self._next) <= self._near)
            # The key frame of a new recording is shown when the last frame before it ends.
            begins = packet.is_keyframe and packet.pts is not None
            self._offset = next(fitting, self._end - packet.pts if begins else self._next - stamp)
            if self._offset not in self._known:
                self._known = [0, *self._known[1:][-self._MOST_KNOWN :], self._offset]
                self.discontinuities += 1
        self._next = stamp + self._offset + duration

    def _is_jump(self, stamp: int) -> bool:
        assert self._next is not None
        assert self._first is not None
        ahead = stamp - self._next
        if ahead <= self._forward:
            return ahead < -self._back
        past_the_end = self._longest is not None and stamp - self._first > self._longest
        return self._restarts or past_the_end or ahead > self._gap


class VideoFile:
    """A video file open for decoding.

    If there are several video streams, ffmpeg's choice is decoded, without attached pictures. The header, in particular
    its length, is only a hint: the frames determine the rows.

    Args:
        path: the file, or its URL: a remote video is read in place.
        threads: threads of the decoder; 0: one per processor.

    Attributes:
        path: the file.
        pixel_aspect: width of a pixel over its height.
        usual_interval_s: time between two frames, by the header.
        stamps_are_of_packets: whether the format (AVI) stores no timestamps of frames, only packets at a fixed rate.
            Timestamps of frames derived from the rate are often wrong, so a frame gets the time of the packet that
            completed it.
        start_s: start of the file's clock, e.g. with sound before the first picture; None if unknown.
        stated_s: length stated by the header; None if it states none.
        decoded_frames: count of frames decoded so far.
        corrupt_packets: count of packets so far that could not be read or completely decoded.

    Raises:
        InputError: the file does not exist, is empty, not a video or truncated before its index, or its codec is
            unknown. A remote one cannot be read; frames of it may raise this too.
    """

    def __init__(self, path: str | Path, threads: int = 0) -> None:
        self.path = shown(path) if is_remote(path) else Path(path)
        self._source = path
        self._remote: RemoteFile | None = None
        self._threads = threads
        self.decoded_frames = 0
        self.corrupt_packets = 0
        self._most_discontinuities = 0
        self._key_frames: list[float] = []
        self._open()
        self.stamps_are_of_packets = self._container.format.name == "avi"
        aspect = self._stream.sample_aspect_ratio
        self.pixel_aspect = float(aspect) if aspect and 0.1 < aspect < 10 else 1.0

    def _open(self) -> None:
        av = pyav()
        if is_remote(self._source):
            self._remote = RemoteFile(self._source)
            self._size = self._remote.size
        else:
            self._size = check_input(self._source).stat().st_size
        if self._size == 0:
            raise InputError(f"{self.path} is empty (0 bytes): fetch it again")
        try:
            self._container = _open_container(self._source, self._remote)
        except (av.FFmpegError, OSError, ValueError) as error:
            self._raise_read_error()
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{self.path} cannot be opened as a video: {reason}; not a video, or damaged?") from error
        try:
            self._stream = self._best_stream()
        except InputError:
            self.close()
            raise
        self._stream.thread_type = "AUTO"
        self._stream.thread_count = self._threads
        self._time_base = float(self._stream.time_base)
        rate = self._stream.guessed_rate or self._stream.average_rate
        self.usual_interval_s = 1 / float(rate) if rate and 0.1 < rate < 1000 else 1 / _USUAL_RATE
        flags, duration = self._container.format.flags, self._container.duration
        self.stated_s = duration / 1e6 if duration and not flags & _NO_TIMESTAMPS else None
        start = self._container.start_time
        self.start_s = None if start is None or flags & _NO_TIMESTAMPS else start / 1e6
        self._restarts = bool(flags & _CLOCK_RESTARTS)
        self._clock = PacketClock(self._time_base, self.usual_interval_s, self._restarts, self.stated_s)

    def _best_stream(self) -> Any:
        av = pyav()
        cover = av.stream.Disposition.attached_pic
        streams = [stream for stream in self._container.streams.video if not stream.disposition & cover]
        if not streams:
            raise InputError(f"{self.path} has no video stream; remove it from the list")
        films = [stream for stream in streams if stream.frames != 1] or streams  # not every thumbnail is marked as one
        best = self._container.streams.best("video")
        stream = best if best in films else max(films, key=lambda one: one.width * one.height)
        if stream.codec_context is None:
            raise InputError(f"{self.path} has a codec that this PyAV cannot decode; convert it, e.g. to H.264")
        if stream.codec_context.name in _TEXT_CODECS:
            raise InputError(f"{self.path} cannot be opened as a video: it is a text file; give a video")
        return stream

    @property
    def discontinuities(self) -> int:
        """Count of discontinuities of the clock, the maximum over passes."""
        return max(self._most_discontinuities, self._clock.discontinuities)

    def timeline(self, t0: str) -> "Timeline":
        """Return a new timeline of this file.

        Args:
            t0: where second 0 is: "container", the start of the file's clock, or "first_frame".
        """
        start_s = self.start_s if t0 == "container" and not self.stamps_are_of_packets else None
        return Timeline(self.usual_interval_s, self.stated_s, start_s)

    def close(self) -> None:
        """Close the file; closing again has no effect."""
        self._container.close()
        if self._remote is not None:
            self._remote.close()

    def rewind(self) -> None:
        """Go back to the first frame by opening the file again, since not every format can seek to it."""
        self._most_discontinuities = self.discontinuities
        self.close()
        self._open()

    def frames(self) -> Iterator[DecodedFrame]:
        """Decode from the current position; packets that cannot be read or decoded are counted and skipped."""
        av = pyav()
        for packet in self._packets():
            if packet.is_corrupt:
                self.corrupt_packets += 1
            try:
                pictures = packet.decode()
            except EOFError:  # flushed twice
                return
            except (av.FFmpegError, OSError, ValueError):
                self._raise_read_error()
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
        while True:
            try:
                packet = next(packets, None)
            except IndexError:  # PyAV does not know a stream that appears in the middle of a file
                self.corrupt_packets += 1
                packets = self._container.demux(self._stream)  # goes on behind that packet
                continue
            except (av.FFmpegError, OSError, ValueError):  # the rest cannot be read; the decoder still holds frames
                self._raise_read_error()
                self.corrupt_packets += 1
                flush = av.Packet()
                flush.stream = self._stream
                yield flush
                return
            if packet is None:
                self._raise_read_error()
                return
            self._clock.correct(packet)
            yield packet

    def seek(self, second: float) -> bool:
        """Go to the key frame at or before a timestamp; False where the format cannot.

        Only where there is no discontinuity before it: stamps behind one are known after reading up to it alone.
        """
        av = pyav()
        try:
            self._container.seek(math.floor(second / self._time_base), stream=self._stream)
        except (av.FFmpegError, OSError, ValueError):
            self._raise_read_error()
            return False
        self._clock.jump()
        return True

    def _raise_read_error(self) -> None:
        """Raise where a remote file could not be read; FFmpeg would take it for the end of the file."""
        if self._remote is not None and self._remote.failure is not None:
            raise self._remote.failure

    def key_frame_before(self, second: float) -> float | None:
        """Return the approximate target of a seek to a timestamp; None if the key frames are unknown."""
        if self._key_frames:
            return self._key_frames[max(0, bisect_right(self._key_frames, second) - 1)]
        entries = self._stream.index_entries
        stamp = math.floor(second / self._time_base)
        if not len(entries) or entries[len(entries) - 1].timestamp < stamp:  # may list only packets read so far
            return None
        found = entries.search_timestamp(stamp)
        return None if found < 0 else entries[found].timestamp * self._time_base

    def packet_span(self) -> tuple[float, float] | None:
        """Return the start of the first packet and the end of the last in seconds; None: packets have no timestamps.

        Nothing is decoded. Of a large file only the end is read, if the format can seek there and its clock does not
        restart; the first packet is then that of the end. The position in the file is undefined afterwards.
        """
        duration = self._container.duration
        large = self._size > (_LARGE_BYTES if self._remote is None else _LARGE_REMOTE_BYTES)
        if duration and large and not self.stamps_are_of_packets and not self._restarts:
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
            span = (second, second + lasts) if span is None else (min(span[0], second), max(span[1], second + lasts))
        self.corrupt_packets = corrupt
        return span


def _open_container(path: str | Path, remote: RemoteFile | None) -> Any:
    """Open a file that must not open others: a playlist with a video's name could name local files and URLs."""
    av = pyav()
    if remote is not None:
        return av.open(remote, options={"protocol_whitelist": "none"})
    return av.open(f"file:{check_input(path)}", options={"protocol_whitelist": "file"})


def expected_seconds(path: str | Path) -> float:
    """Return the length stated by the header of a video file, NaN if it states none or cannot be opened.

    An estimate of the cost of decoding it; only decoding shows the true length.
    """
    av = pyav()
    try:
        with ExitStack() as files:
            remote = files.enter_context(RemoteFile(path)) if is_remote(path) else None
            container = files.enter_context(_open_container(path, remote))
            return container.duration / 1e6 if container.duration else nan
    except (av.FFmpegError, OSError, ValueError, InputError):
        return nan


# Matroska rounds timestamps to milliseconds: a frame that starts this little after an instant counts as on screen then.
# Without the microsecond, rounding of floats would decide about frame 30 of 29.97 a second, at 1.001 s.
TOLERANCE_S = 1e-3 + 1e-6
# This many consecutive frames in the past mean that the clock was set back; fewer are wrong timestamps.
_SET_BACK_FRAMES = 16


class Timeline:
    """Puts decoded frames in order of time and drops those with impossible timestamps.

    A frame without a timestamp is a mean interval after the previous one. If the second of two frames has the earlier
    timestamp, one is wrong: the first, if time ascends without it, else the second. Many consecutive frames of this
    kind mean that the clock was set back; it then continues from its last value.

    Args:
        usual_interval_s: time between frames, used until two of them have been seen.
        stated_s: length by the header, against which the duration of the last frame is checked; None: not stated.
        start_s: timestamp of second 0; None, or where it cannot be true: that of the first frame.

    Attributes:
        zero_s: timestamp of second 0; None until there is a frame.
        end_s: end of the last frame so far, in seconds.
        lead_s: second of the first frame; above 0 where the clock starts before it.
        dropped: frames with impossible timestamps.
    """

    def __init__(self, usual_interval_s: float, stated_s: float | None = None, start_s: float | None = None) -> None:
        self._usual_interval_s = usual_interval_s
        self._longest_s = 10.0 if stated_s is None else 1.25 * stated_s + 5.0
        self._start_s = start_s
        self.restart()

    def restart(self) -> None:
        """Forget all frames, before the file is read from its beginning again."""
        self.zero_s: float | None = None
        self.end_s = 0.0
        self.lead_s = 0.0
        self.dropped = 0
        self._given = 0
        self._run_given = 0
        self._run_first_s = 0.0
        self._last_s = 0.0
        self._set_back_s = 0.0

    def in_order(self, frames: Iterable[DecodedFrame]) -> Iterator[tuple[float, DecodedFrame]]:
        """Yield frames with their seconds, strictly ascending.

        May be called again after a seek: seconds stay relative to the same second 0.
        """
        held: tuple[float, DecodedFrame] | None = None
        before: float | None = None
        refused = 0
        self._run_given = 0
        for frame in frames:
            second = self._relative(frame, held)
            if held is None or second > held[0]:
                if held is not None:
                    yield self._give(held)
                    before = held[0]
                held, refused = (second, frame), 0
                continue
            self.dropped += 1
            refused += 1
            if before is None or second > before:
                if before is None and self._given == 0 and frame.second is not None:  # the first timestamp was wrong
                    self.zero_s = self._zero(frame.second)
                    second = frame.second - self.zero_s
                held, refused = (second, frame), 0
            elif refused == _SET_BACK_FRAMES:
                self._set_back_s += held[0] + self.interval_s - second
        if held is not None:
            yield self._give(held)

    @property
    def interval_s(self) -> float:
        """Mean interval between the frames yielded since the beginning or the last seek."""
        if self._run_given < 2:
            return self._usual_interval_s
        return (self._last_s - self._run_first_s) / (self._run_given - 1)

    def _relative(self, frame: DecodedFrame, held: tuple[float, DecodedFrame] | None) -> float:
        if frame.second is None:
            if self.zero_s is None:
                self.zero_s = 0.0
                return 0.0
            return (held[0] if held is not None else self._last_s) + self.interval_s
        if self.zero_s is None:
            self.zero_s = self._zero(frame.second)
        return frame.second - self.zero_s + self._set_back_s

    def _zero(self, first_s: float) -> float:
        """Return the timestamp of second 0, given that of the first frame."""
        if self._start_s is None or not TOLERANCE_S < first_s - self._start_s <= self._longest_s:
            return first_s
        return self._start_s

    def _give(self, held: tuple[float, DecodedFrame]) -> tuple[float, DecodedFrame]:
        second, frame = held
        if self._run_given == 0:
            self._run_first_s = second
        if self._given == 0:
            self.lead_s = second
        self._given += 1
        self._run_given += 1
        self._last_s = second
        lasts = frame.lasts_s
        if lasts is None or lasts <= 0 or second + lasts > max(self._longest_s, second + PacketClock.FORWARD_S):
            lasts = self.interval_s
        self.end_s = second + lasts
        return held
