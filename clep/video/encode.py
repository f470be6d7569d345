"""Encode a video file to rows: one thread decodes, others encode, with a few batches in memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float32, Float64, Shaped, UInt8
from torch import Tensor

from clep.compute.threads import OneCoreThreads, in_background, one_core_each
from clep.errors import InputError
from clep.video.encoder import VideoEncoder
from clep.video.reader import VideoReader
from clep.video.sampling import DenseWindows, KeyFrames, SampledClip, Segments
from clep.video.transforms import CROPS, crops_of, normalize

Unit = TypeVar("Unit")
Rows = Float32[np.ndarray, "units dim"]


def remainder_sizes(left: int, batch_size: int) -> list[tuple[int, int]]:
    """Return the batches for the units after the last full batch: (size of the batch, units in it).

    Sizes are powers of two, largest first (18 = 16 + 2), or the next larger one if padding is at most an eighth of it
    (15 in 16). They depend on the number of units only, so the rows of a video do not depend on other videos.
    """
    sizes = []
    while left > 0:
        above = min(1 << (left - 1).bit_length(), batch_size)
        size = above if 8 * (above - left) <= above else 1 << (left.bit_length() - 1)
        sizes.append((size, min(size, left)))
        left -= sizes[-1][1]
    return sizes


def encode_in_batches(
    units: Iterable[Unit], batch_size: int, encode: Callable[[list[Unit]], Callable[[], Rows]], at_once: int = 1
) -> Iterator[Rows]:
    """Encode units in order: batches of exactly `batch_size`, and the last few in `remainder_sizes`.

    `encode` starts the work on a batch and returns a function that waits for its rows. Padding repeats the last unit;
    its rows are dropped. The next `at_once` batches are started before waiting for a batch, so that the GPU, or the
    CPU cores, are not idle while its rows are used.
    """
    started: deque[tuple[Callable[[], Rows], int]] = deque()
    for batch, used in _batches(units, batch_size):
        started.append((encode(batch), used))
        if len(started) > at_once:
            wait, used = started.popleft()
            yield wait()[:used]
    for wait, used in started:
        yield wait()[:used]


def _batches(units: Iterable[Unit], batch_size: int) -> Iterator[tuple[list[Unit], int]]:
    waiting: list[Unit] = []
    for unit in units:
        waiting.append(unit)
        if len(waiting) == batch_size:
            yield waiting, batch_size
            waiting = []
    for size, used in remainder_sizes(len(waiting), batch_size):
        batch, waiting = waiting[:used], waiting[used:]
        yield batch + batch[-1:] * (size - used), used


PRECISIONS = ("float32", "bf16")


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

    A row depends only on the video and these settings: a batch holds one video, and its shape depends only on the
    number of rows.

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
        decoded_frames: frames that were decoded.
        corrupt_packets: packets that could not be decoded completely, and frames with impossible timestamps.
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
        if crops not in CROPS:
            raise InputError(f"crops={crops!r} is unknown: choose one of {', '.join(CROPS)}")
        if precision not in PRECISIONS:
            raise InputError(f"precision={precision!r} is unknown: choose one of {', '.join(PRECISIONS)}")
        if batch_size < 1:
            raise InputError(f"batch_size={batch_size} must be at least 1")
        self._device = _usable(device)
        self._path, self._left_eye, self._threads, self._t0 = path, left_eye, threads, t0
        self._encoder, self._sampling = encoder, sampling
        self._crops, self._batch_size = crops, batch_size
        self._bf16 = precision == "bf16" and self._device.type == "cuda"
        self._reset()

    def _reset(self) -> None:
        self.note = ""
        self._seconds: list[float] = []
        self.n_rows = 0
        self.duration_s = 0.0
        self.decoded_frames = 0
        self.corrupt_packets = 0

    @property
    def seconds(self) -> Float64[np.ndarray, " rows"] | None:
        """Second of each row yielded so far; None for a regular grid."""
        return None if isinstance(self._sampling, DenseWindows) else np.asarray(self._seconds[: self.n_rows])

    @property
    def ends_s(self) -> float:
        """The end of the video, in the seconds of the rows."""
        return self.duration_s

    def __iter__(self) -> Iterator[Float32[np.ndarray, "rows dim"]]:
        """Yield blocks of rows."""
        self._reset()
        self._encoder.to(self._device).eval()
        clip = self._encoder.clip
        reader = self._reader()
        with ExitStack() as during:
            cores = during.enter_context(one_core_each()) if self._device.type == "cpu" else None
            ahead = self._ahead() * (cores.count if cores else 1)
            clips = during.enter_context(
                closing(in_background(lambda: reader.clips(self._sampling, clip.frames, clip.frame_rule), ahead))
            )
            blocks = self._by_frame(clips, cores) if self._encoder.frame_wise else self._by_clip(clips, cores)
            for block in blocks:
                self.n_rows += len(block)
                self.decoded_frames, self.corrupt_packets = reader.decoded_frames, reader.corrupt_packets
                yield block
        self.duration_s, self.note = reader.duration_s, getattr(reader, "note", "")
        self.decoded_frames, self.corrupt_packets = reader.decoded_frames, reader.corrupt_packets

    def _reader(self) -> Any:
        encoder, options = self._encoder, (self._left_eye, self._threads, self._t0)
        if encoder.own_transform:
            return VideoReader(self._path, None, *options, lambda frame: encoder.transform(frame, self._crops))
        return VideoReader(self._path, encoder.clip.short_side_px, *options)

    def _ahead(self) -> int:
        """Number of clips to decode in advance, so that decoding continues while a batch is encoded."""
        if not self._encoder.frame_wise:
            return 2 * self._batch_size
        return 4 * -(-self._batch_size // self._encoder.clip.frames)  # clips share half of their frames, or more

    def _note(self, clip: SampledClip) -> None:
        if not isinstance(self._sampling, DenseWindows):  # they are many, on a regular grid
            self._seconds.append(clip.second)

    def _by_clip(
        self, clips: Iterator[SampledClip], cores: OneCoreThreads | None
    ) -> Iterator[Float32[np.ndarray, "rows dim"]]:
        def units() -> Iterator[tuple[Tensor, ...]]:
            for clip in clips:
                self._note(clip)
                yield clip.frames

        yield from self._in_batches(units(), cores)

    def _by_frame(
        self, clips: Iterator[SampledClip], cores: OneCoreThreads | None
    ) -> Iterator[Float32[np.ndarray, "rows dim"]]:
        """Encode each frame once; the row of a clip is the mean over its frames.

        Clips start in order of time, so frames before the start of a clip can be dropped. Later clips may still use
        frames before those of the previous clip, since the last window is not on the grid.
        """
        waiting: deque[tuple[int, ...]] = deque()

        def units() -> Iterator[tuple[Tensor, ...]]:
            asked: set[int] = set()
            for clip in clips:
                self._note(clip)
                waiting.append(clip.frame_indices)
                asked = {index for index in asked if index >= clip.frame_indices[0]}
                for index, frame in zip(clip.frame_indices, clip.frames, strict=True):
                    if index not in asked:
                        asked.add(index)
                        to_encode.append(index)
                        yield (frame,)

        to_encode: deque[int] = deque()
        rows: dict[int, np.ndarray] = {}
        for block in self._in_batches(units(), cores):
            rows.update((to_encode.popleft(), row) for row in block)
            done = []
            while waiting and rows.keys() >= set(waiting[0]):
                done.append(np.mean([rows[index] for index in waiting[0]], axis=0, dtype=np.float32))
                oldest = waiting.popleft()[0]
                for number in [number for number in rows if number < oldest]:
                    del rows[number]
            if done:
                yield np.stack(done)

    def _in_batches(
        self, units: Iterator[tuple[Tensor, ...]], cores: OneCoreThreads | None
    ) -> Iterator[Float32[np.ndarray, "units dim"]]:
        if cores is None:
            return encode_in_batches(units, self._batch_size, self._encode)
        return encode_in_batches(
            units, self._batch_size, lambda batch: cores.start(lambda: self._encode(batch)()), cores.count
        )

    def _encode(self, units: list[tuple[Tensor, ...]]) -> Callable[[], Float32[np.ndarray, "units dim"]]:
        """Start to encode clips of frames."""
        spec = self._encoder.clip
        pixels = self._on_device(units)
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=self._bf16):
            if self._encoder.own_transform:
                views = pixels.movedim(2, 0).flatten(0, 1)
            else:
                views = normalize(crops_of(pixels, self._crops, spec.crop_px).flatten(0, 1), spec.mean, spec.std)
            rows = self._encoder(views).float()
            rows = rows.unflatten(0, (-1, len(units))).mean(0)
            return to_host(rows)

    def _on_device(self, units: list[tuple[Tensor, ...]]) -> Shaped[Tensor, "units frames *crops 3 height width"]:
        """Return the frames of a batch in one tensor, cropped first if the centre crop is the only one."""
        frames = [frame for unit in units for frame in unit]
        if self._crops == "centre" and not self._encoder.own_transform:
            frames = [crops_of(frame, "centre", self._encoder.clip.crop_px)[0] for frame in frames]
        cuda = self._device.type == "cuda"
        pixels = torch.empty(len(frames), *frames[0].shape, dtype=frames[0].dtype, pin_memory=cuda)
        torch.stack(frames, out=pixels)
        return pixels.to(self._device, non_blocking=True).unflatten(0, (len(units), -1))


def prepare_frame(
    encoder: VideoEncoder, frame: UInt8[Tensor, "3 height width"], crops: str
) -> Shaped[Tensor, "crops 3 side side"]:
    """Return the crops of a frame: uint8, or normalised floats from an encoder with `own_transform`.

    Args:
        encoder: the encoder of the crops.
        frame: full-size frame for an encoder with `own_transform`, else with its short side resized.
        crops: "centre", "three" or "ten".
    """
    if encoder.own_transform:
        return encoder.transform(frame, crops)
    return crops_of(frame, crops, encoder.clip.crop_px).contiguous()


def encode_prepared(
    encoder: VideoEncoder,
    clips: Sequence[Shaped[Tensor, "frames crops 3 side side"]],
    batch_size: int,
    device: str | torch.device,
    bf16: bool,
) -> Float32[np.ndarray, "clips dim"]:
    """Encode clips of prepared frames in one batch of exactly `batch_size`, so that all inputs have one shape.

    Padding repeats the last clip. The rows of crops are averaged.

    Args:
        encoder: the encoder, on the device and in evaluation mode.
        clips: at most `batch_size` clips.
        batch_size: clips per batch.
        device: device of the encoder.
        bf16: compute in bfloat16 (GPU).
    """
    padded = torch.stack([*clips, *([clips[-1]] * (batch_size - len(clips)))]).to(device)
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=bf16):
        views = padded.movedim(2, 0).flatten(0, 1)
        pixels = views if encoder.own_transform else normalize(views, encoder.clip.mean, encoder.clip.std)
        rows = encoder(pixels).float().unflatten(0, (-1, batch_size)).mean(0)
    return rows[: len(clips)].cpu().numpy()


def to_host(rows: Float32[Tensor, "units dim"]) -> Callable[[], Float32[np.ndarray, "units dim"]]:
    """Start copying rows to the host; the returned function waits for these rows."""
    if rows.device.type != "cuda":
        return lambda: rows.cpu().numpy()
    host = torch.empty(rows.shape, pin_memory=True)
    host.copy_(rows, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record(torch.cuda.current_stream(rows.device))

    def wait() -> Float32[np.ndarray, "units dim"]:
        copied.synchronize()
        return host.numpy().copy()

    return wait


def _usable(device: str | torch.device) -> torch.device:
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"device={device!r} is unknown: give cpu, cuda or cuda:0") from error
    if found.type == "cuda" and (not torch.cuda.is_available() or (found.index or 0) >= torch.cuda.device_count()):
        raise InputError(f"device={device}: this machine has no such GPU; give device=cpu")
    return found
