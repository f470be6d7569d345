"""Batches of one fixed shape over a stream of units (clips or frames) of any number of videos."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Shaped, UInt8
from torch import Tensor

from clep.compute.threads import one_core_each
from clep.device import find_device
from clep.errors import InputError
from clep.video.encoder import VideoEncoder
from clep.video.transforms import CROPS, crops_of, normalize

PRECISIONS = ("float32", "bf16")

Row = Float32[np.ndarray, " dim"]
Rows = Float32[np.ndarray, "units dim"]


@dataclass(frozen=True)
class Mark:
    """Something in a stream of units that is no unit, such as the end of a video; it keeps its position among rows."""

    content: Any


def encode_in_batches(
    stream: Iterable[Any], batch_size: int, encode: Callable[[list[Any]], Callable[[], Rows]], at_once: int = 1
) -> Generator[Row | Mark | Exception, None, None]:
    """Yield the row of each unit, and each `Mark` at its position in the stream.

    Every batch has exactly `batch_size` units, whichever videos these are of, so that a row does not depend on how the
    work is divided. The last batch repeats its last unit; the rows of the repetitions are dropped.

    Args:
        stream: units and marks, in order.
        batch_size: units of a batch.
        encode: starts the work on a batch and returns a function that waits for its rows.
        at_once: batches that are started before the first of them is waited for, so that the GPU, or the CPU cores,
            are not idle while rows are used.

    Yields:
        A row `[dim]`, a mark, or the exception of the batch in place of each of its rows, so that videos of other
        batches are not affected.
    """
    order: deque[Mark | None] = deque()  # None stands for the next row
    waiting: list[Any] = []
    started: deque[tuple[Callable[[], Rows], int]] = deque()
    rows: deque[Row | Exception] = deque()

    def start() -> None:
        padded = waiting + waiting[-1:] * (batch_size - len(waiting))
        started.append((encode(padded), len(waiting)))
        waiting.clear()

    def ready(keep: int) -> Iterator[Row | Mark | Exception]:
        """Yield what is known, leaving at most `keep` batches that have been started."""
        while order:
            if (mark := order[0]) is not None:
                yield mark
            elif rows or len(started) > keep:
                if not rows:
                    rows.extend(_rows(*started.popleft()))
                yield rows.popleft()
            else:
                return
            order.popleft()

    for one in stream:
        order.append(one if isinstance(one, Mark) else None)
        if not isinstance(one, Mark):
            waiting.append(one)
            if len(waiting) == batch_size:
                start()
        yield from ready(at_once)
    if waiting:
        start()
    yield from ready(0)


def _rows(wait: Callable[[], Rows], used: int) -> Sequence[Row | Exception]:
    try:
        return list(wait()[:used])
    except Exception as error:
        return [error] * used


@dataclass(frozen=True)
class BatchEncoder:
    """Encodes batches of clips whose frames are prepared, see `prepare`.

    Attributes:
        encoder: the encoder, on the device and in evaluation mode.
        crops: "centre", or "three" or "ten" crops whose rows are averaged.
        device: device of the encoder.
        precision: "float32", or "bf16" for autocast on a GPU; a CPU always computes in float32.

    Raises:
        InputError: an unknown setting, or a device that this machine does not have.
    """

    encoder: VideoEncoder
    crops: str = "centre"
    device: str | torch.device = "cpu"
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.crops not in CROPS:
            raise InputError(f"crops={self.crops!r} is unknown: choose one of {', '.join(CROPS)}")
        if self.precision not in PRECISIONS:
            raise InputError(f"precision={self.precision!r} is unknown: choose one of {', '.join(PRECISIONS)}")
        find_device(self.device)

    @property
    def on_cpu(self) -> bool:
        """Whether the encoder runs on the CPU."""
        return torch.device(self.device).type == "cpu"

    @property
    def decoded_short_side_px(self) -> int | None:
        """Short side of the frames that `prepare` takes; None: full size."""
        return None if self.encoder.own_transform else self.encoder.clip.short_side_px

    def prepare(self, frame: Shaped[Tensor, "3 height width"]) -> Shaped[Tensor, "crops 3 _ _"]:
        """Return what `start` takes of a frame.

        That are its crops, as bytes, or as normalised floats from an encoder with `own_transform`; with
        `transform_on_device` the frame itself, `[1, 3, height, width]`.
        """
        if self.encoder.transform_on_device:
            return frame[None]
        if self.encoder.own_transform:
            return self.encoder.transform(frame, self.crops)
        return crops_of(frame, self.crops, self.encoder.clip.crop_px).contiguous()

    def start(self, clips: Sequence[Sequence[Shaped[Tensor, "crops 3 _ _"]]]) -> Callable[[], Rows]:
        """Start to encode clips, each a sequence of prepared frames; the rows of their crops are averaged.

        Returns:
            A function that waits for the rows `[clips, dim]`.
        """
        with torch.inference_mode():
            frames = self._transformed(clips) if self.encoder.transform_on_device else self.to_device(clips)
            views, spec = frames.movedim(2, 0).flatten(0, 1), self.encoder.clip
            with self.autocast():
                pixels = views if self.encoder.own_transform else normalize(views, spec.mean, spec.std)
                rows = self.encoder(pixels).float().unflatten(0, (-1, len(clips))).mean(0)
            return to_host(rows)

    def _transformed(
        self, clips: Sequence[Sequence[UInt8[Tensor, "1 3 _ _"]]]
    ) -> Float[Tensor, "clips frames crops 3 side side"]:
        """Copy each frame to the device once, however many clips share it, and prepare it there."""
        frames = {id(frame): frame for clip in clips for frame in clip}
        ready = {
            key: self.encoder.transform(self.to_device([[frame]])[0, 0, 0], self.crops) for key, frame in frames.items()
        }
        return torch.stack([torch.stack([ready[id(frame)] for frame in clip]) for clip in clips])

    @contextmanager
    def compute_threads(
        self, start: Callable[[list[Any]], Callable[[], Rows]]
    ) -> Iterator[tuple[Callable[[list[Any]], Callable[[], Rows]], int]]:
        """Yield a function that starts a batch, and the number of batches to have under way.

        On a CPU each batch is computed by one thread on one core, so that rows do not depend on the number of cores; a
        GPU works while the next batch is prepared.

        Args:
            start: starts the work on a batch, e.g. `self.start`.
        """
        if not self.on_cpu:
            yield start, 1
            return
        with one_core_each() as cores:
            yield lambda batch: cores.start(lambda: start(batch)()), cores.count

    def autocast(self) -> torch.autocast:
        """Return the context of the precision."""
        return torch.autocast("cuda", torch.bfloat16, enabled=self.precision == "bf16" and not self.on_cpu)

    def to_device(self, clips: Sequence[Sequence[Shaped[Tensor, "*any"]]]) -> Shaped[Tensor, "clips frames *any"]:
        """Copy the frames of clips to the device in one transfer.

        To a GPU it goes from pinned memory on a stream of its own, so that it does not wait for the batch before.
        """
        frames = [frame for clip in clips for frame in clip]
        pixels = torch.empty(len(frames), *frames[0].shape, dtype=frames[0].dtype, pin_memory=not self.on_cpu)
        torch.stack(frames, out=pixels)
        device = torch.device(self.device)
        copied = copy_to_gpu(pixels, device) if device.type == "cuda" else pixels.to(device)
        return copied.unflatten(0, (len(clips), -1))


@cache
def _copying_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def copy_to_gpu(pixels: Shaped[Tensor, "*any"], device: torch.device) -> Shaped[Tensor, "*any"]:
    """Copy pinned pixels to a GPU while it computes; what follows on its current stream waits for the copy."""
    computing, copying = torch.cuda.current_stream(device), _copying_stream(device)
    with torch.cuda.stream(copying):
        copied = pixels.to(device, non_blocking=True)
    computing.wait_stream(copying)
    copied.record_stream(computing)  # its memory is not used again before the computing stream is done with it
    return copied


def to_host(rows: Float32[Tensor, "units dim"]) -> Callable[[], Rows]:
    """Start copying rows to the host; the returned function waits for these rows."""
    if rows.device.type != "cuda":
        return lambda: rows.cpu().numpy()
    host = torch.empty(rows.shape, pin_memory=True)
    host.copy_(rows, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record(torch.cuda.current_stream(rows.device))

    def wait() -> Rows:
        copied.synchronize()
        return host.numpy().copy()

    return wait
