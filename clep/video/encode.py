"""Encode video files to rows: threads decode, others encode, and batches hold clips of several videos."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import Tensor

from clep.compute.threads import Background
from clep.errors import InputError
from clep.video.batches import BatchEncoder, Mark, encode_in_batches
from clep.video.encoder import VideoEncoder
from clep.video.reader import VideoReader
from clep.video.sampling import DenseWindows, KeyFrames, SampledClip, Segments
from clep.video.transforms import CROPS

Block = Float32[np.ndarray, "rows dim"]


def encode_video(
    path: str | Path,
    encoder: VideoEncoder,
    sampling: DenseWindows | Segments | KeyFrames,
    *,
    crops: str = "centre",
    batch_size: int = 8,
    device: str | torch.device = "cpu",
    precision: str = "float32",
    left_eye: bool = False,
    threads: int = 0,
    t0: str = "container",
) -> "EncodedVideo":
    """Encode a video; iterating over the result yields its rows in order of time.

    A row depends only on the video and these settings, also where `encode_together` puts it into one batch with rows of
    other videos: all batches have one shape.

    Args:
        path: the video file.
        encoder: the encoder; moved to the device and put into evaluation mode.
        sampling: sampling rule.
        crops: "centre", or "three" or "ten" crops whose rows are averaged.
        batch_size: clips per batch, or frames if the encoder is frame-wise; multiplied by the number of crops.
        device: device of the encoder.
        precision: "float32", or "bf16" for autocast on a GPU; a CPU always computes in float32.
        left_eye: keep the left half of a side-by-side stereo video.
        threads: threads of the decoder; 0: one per processor.
        t0: position of second 0, "container" or "first_frame"; see `VideoReader`.

    Raises:
        InputError: an unknown setting or device; while iterating, a file that cannot be decoded.
    """
    return EncodedVideo(path, encoder, sampling, crops, batch_size, device, precision, left_eye, threads, t0)


class EncodedVideo:
    """Rows of a video, computed at each iteration.

    Attributes:
        note: a remark, such as jumps of the file's clock; "" if none.
        n_rows: count of rows yielded so far.
        seconds: for `Segments`, the second of each row yielded so far; None for a regular grid.
        duration_s: end of the last frame in seconds; 0 until all rows were yielded.
        decoded_frames: frames that were decoded; 0 until all rows were yielded.
        corrupt_packets: packets that could not be decoded completely, and frames with impossible timestamps; 0 until
            all rows were yielded.
        skipped: set to end the decoding, as no more rows are needed.

    Examples:
        >>> import numpy as np
        >>> from clep.video import DenseWindows, encode_video
        >>> from clep.video.encoders import Pixels
        >>> encoded = encode_video("kitchen.mp4", Pixels(side_px=8), DenseWindows(window=20, stride=10, rate=10))
        >>> np.concatenate(list(encoded)).shape
        (3, 192)
        >>> encoded.duration_s, encoded.decoded_frames
        (4.0, 40)
    """

    def __init__(
        self,
        path: str | Path,
        encoder: VideoEncoder,
        sampling: DenseWindows | Segments | KeyFrames,
        crops: str,
        batch_size: int,
        device: str | torch.device,
        precision: str,
        left_eye: bool,
        threads: int,
        t0: str = "container",
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size={batch_size} must be at least 1")
        self.batches = BatchEncoder(encoder, crops, device, precision)
        self.batch_size = batch_size
        self._path, self._left_eye, self._threads, self._t0 = path, left_eye, threads, t0
        self._encoder, self._sampling = encoder, sampling
        self.reset()

    def reset(self) -> None:
        """Forget the facts of an earlier iteration."""
        self.note = ""
        self._seconds: list[float] = []
        self.n_rows = 0
        self.duration_s = 0.0
        self.decoded_frames = 0
        self.corrupt_packets = 0
        self.skipped = False

    @property
    def seconds(self) -> Float64[np.ndarray, " rows"] | None:
        """Second of each row yielded so far; None for a regular grid."""
        return None if isinstance(self._sampling, DenseWindows) else np.asarray(self._seconds)

    @property
    def ends_s(self) -> float:
        """The end of the video, in the seconds of the rows."""
        return self.duration_s

    def __iter__(self) -> Iterator[Block]:
        """Yield blocks of rows."""
        for _, blocks in encode_together([self]):
            yield from blocks

    def units(self) -> Iterator[tuple[Tensor, ...] | Mark]:
        """Decode the video: yield clips (frames of a frame-wise encoder), and after those of a row the row's mark.

        The last mark holds the facts about the video, or the exception that ended its decoding.
        """
        try:
            reader = self._reader()
            clip = self._encoder.clip
            clips = reader.clips(self._sampling, clip.frames, clip.frame_rule)
            for one in self._frames(clips) if self._encoder.frame_wise else self._clips(clips):
                yield one
                if self.skipped:
                    break
            clips.close()
            note = getattr(reader, "note", "")
            yield Mark(_End(reader.duration_s, note, reader.decoded_frames, reader.corrupt_packets))
        except Exception as error:  # of this video only
            yield Mark(error)

    def start_batch(self, units: list[tuple[Tensor, ...]]) -> Callable[[], Float32[np.ndarray, "units dim"]]:
        """Start to encode a batch of units, also those of other videos with the same settings."""
        return self.batches.start(units)

    def add(self, row: "_Row") -> None:
        """Count a row that is yielded."""
        self.n_rows += 1
        if not isinstance(self._sampling, DenseWindows):  # they are many, on a regular grid
            self._seconds.append(row.second)

    def finish(self, end: "_End") -> None:
        """Set what is known once the video was decoded."""
        self.duration_s, self.note = end.duration_s, end.note
        self.decoded_frames, self.corrupt_packets = end.decoded_frames, end.corrupt_packets

    def units_ahead(self) -> int:
        """Number of units to decode in advance, so that decoding continues while a batch is encoded."""
        return max(2, -(-2 * self.batch_size // CROPS[self.batches.crops]))

    def _reader(self) -> Any:
        short_side_px, prepare = self.batches.decoded_short_side_px, self.batches.prepare
        return VideoReader(self._path, short_side_px, self._left_eye, self._threads, self._t0, prepare)

    def _clips(self, clips: Iterator[SampledClip]) -> Iterator[tuple[Tensor, ...] | Mark]:
        for clip in clips:
            yield clip.frames
            yield Mark(_Row(clip.second))

    def _frames(self, clips: Iterator[SampledClip]) -> Iterator[tuple[Tensor, ...] | Mark]:
        """Yield each frame once; the row of a clip is the mean over its frames.

        Clips start in order of time, so frames before the start of a clip can be forgotten. Later clips may still use
        frames before those of the previous clip, since the last window is not on the grid.
        """
        known: set[int] = set()
        for clip in clips:
            known = {index for index in known if index >= clip.frame_indices[0]}
            for index, frame in zip(clip.frame_indices, clip.frames, strict=True):
                if index not in known:
                    known.add(index)
                    yield (frame,)
                    yield Mark(_Frame(index))
            yield Mark(_Row(clip.second, clip.frame_indices))


@dataclass(frozen=True)
class _Frame:
    """The row before this mark is that of a frame."""

    index: int


@dataclass(frozen=True)
class _Row:
    """The rows before this mark complete a row of the video: that of a clip, or the mean of frames."""

    second: float
    frames: tuple[int, ...] = ()


@dataclass(frozen=True)
class _End:
    """A video was decoded to its end."""

    duration_s: float
    note: str
    decoded_frames: int
    corrupt_packets: int


def encode_together(
    videos: Sequence[EncodedVideo], decoders: int = 1, begin: Callable[[int], None] = lambda index: None
) -> Iterator[tuple[EncodedVideo, Iterator[Block]]]:
    """Encode videos with the same settings; yield each with its blocks of rows, in order.

    As with `itertools.groupby`, the blocks of a video must be consumed before the next one. Iterating over them raises
    what ended the decoding of the video; the next videos are not affected.

    Args:
        videos: from `encode_video`, equal in all settings but the file.
        decoders: videos that are decoded at the same time, each in a thread.
        begin: called with the index of a video before it is decoded, in that thread.
    """
    if not videos:
        return
    for video in videos:
        video.reset()
    first = videos[0]
    first.batches.encoder.to(first.batches.device).eval()
    with ExitStack() as during:
        start, at_once = during.enter_context(first.batches.compute_threads(first.start_batch))
        ahead = first.units_ahead() * at_once
        stream = during.enter_context(closing(_decoded(videos, decoders, ahead, begin)))
        rows = during.enter_context(closing(encode_in_batches(stream, first.batch_size, start, at_once)))
        for video in videos:
            reading = _Reading(video, rows)
            yield video, reading.blocks()
            reading.skip_rest()


def _decoded(
    videos: Sequence[EncodedVideo], decoders: int, ahead: int, begin: Callable[[int], None]
) -> Generator[tuple[Tensor, ...] | Mark, None, None]:
    """Yield the units and marks of all videos in order; thread i of n decodes videos i, i + n, i + 2 n, …"""
    lanes = max(1, min(decoders, len(videos)))

    def lane(first: int) -> Iterator[tuple[Tensor, ...] | Mark]:
        for index in range(first, len(videos), lanes):
            begin(index)
            yield from videos[index].units()

    with ExitStack() as during:
        threads = []
        for number in range(lanes):
            thread = Background(partial(lane, number), max(2, 2 * ahead // lanes))
            threads.append(during.enter_context(closing(thread)))
        for index in range(len(videos)):
            for one in threads[index % lanes]:
                yield one
                if isinstance(one, Mark) and isinstance(one.content, _End | Exception):
                    break


class _Reading:
    """Reads the rows of one video from the stream of rows and marks."""

    def __init__(self, video: EncodedVideo, stream: Iterator[Any]) -> None:
        self._video, self._stream = video, stream
        self._ended = False

    def blocks(self) -> Iterator[Block]:
        frames: dict[int, np.ndarray] = {}
        latest: Any = None
        for one in self._stream:
            if isinstance(one, Exception):
                raise one
            if not isinstance(one, Mark):
                latest = one
                continue
            mark = one.content
            if isinstance(mark, _Frame):
                frames[mark.index] = latest
            elif isinstance(mark, _Row):
                self._video.add(mark)
                if not mark.frames:
                    yield latest[None]
                    continue
                yield np.stack([frames[index] for index in mark.frames]).mean(0, keepdims=True, dtype=np.float32)
                frames = {index: row for index, row in frames.items() if index >= mark.frames[0]}
            else:
                self._ended = True
                if isinstance(mark, Exception):
                    raise mark
                self._video.finish(mark)
                return

    def skip_rest(self) -> None:
        """Go to the end of the video, of which the caller needs no more rows."""
        if self._ended:
            return
        self._video.skipped = True
        for one in self._stream:
            if isinstance(one, Mark) and isinstance(one.content, _End | Exception):
                return
