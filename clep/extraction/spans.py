"""Spans of videos → one row each: items and options for the engine, and the batches across videos."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from hashlib import blake2b
from itertools import groupby
from math import isfinite, isnan
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float32, Shaped
from torch import Tensor

from clep.bank import Clock
from clep.compute.threads import Background
from clep.errors import InputError
from clep.extraction.items import EncodedItem, RowFacts, file_fingerprint
from clep.extraction.listing import VideoItem
from clep.extraction.settings import Extraction
from clep.video import VideoEncoder
from clep.video.batches import BatchEncoder, Mark, encode_in_batches
from clep.video.span_frames import FilmFrames, FrameOptions, open_frames
from clep.video.spans import Dataset, FrameRule, frame_indices, span_in_frames

Clip = tuple[Shaped[Tensor, "crops 3 _ _"], ...]

_LEAST_COST_S = 0.5  # of a short span: to open its file and decode up to it


@dataclass(frozen=True)
class SpanItem(VideoItem):
    """A span of a video that becomes one row.

    Attributes:
        path: video file, folder of its chunks, or folder of its frames.
        start, end: of the span, in `unit`; NaN for a film from its first to its last frame.
        unit: "seconds", or "frames": numbers of frames as their images are called (of a film: indices from 0).
    """

    start: float | int = 0.0
    end: float | int = 0.0
    unit: Literal["seconds", "frames"] = "seconds"

    @property
    def group(self) -> str:
        """The video: spans of one video are encoded by one worker, which decodes it once."""
        return self.path

    @property
    def cost(self) -> float:
        """Seconds of video to decode, about."""
        return max(float(self.duration_s), _LEAST_COST_S)

    def compute_fingerprint(self) -> str:
        """Digest the file, or the names in the folder, and the span; "" where there is nothing to read."""
        path = Path(self.path)
        try:
            status = path.stat()
        except OSError:
            return ""
        own = _source_fingerprint(self.path, status.st_mtime_ns, status.st_size)
        return f"{own}-{self.unit}{self.start}-{self.end}" if own else ""


@lru_cache(4096)
def _source_fingerprint(path: str, modified_ns: int, size: int) -> str:
    """Return the fingerprint of a file or folder, once for all of its spans."""
    if not Path(path).is_dir():
        return file_fingerprint(path)
    names = sorted(entry.name for entry in Path(path).iterdir() if not entry.name.startswith("."))
    return f"{len(names)}-{blake2b(chr(0).join(names).encode(errors='backslashreplace'), digest_size=8).hexdigest()}"


@dataclass(frozen=True)
class SpanExtraction(Extraction):
    """How spans become rows: the frames of a published rule, the encoder's pixels, one row each.

    Args:
        encoder: the frozen model, one of conf/encoder, e.g. encoder=lavila encoder.weights=FILE.
        compute: where it runs, one of conf/compute: local or slurm.
        frame_rule: which frames of a span: "lavila", "avion", "egovlp", "pe", or "middle" of equal parts. null: the
            rule of the encoder.
        rounding: how LaViLa's code rounds seconds to frames: as for "ego4d" or for "epic".
        fps: frames per second of the videos. null: that of each file; folders of images need it.
        chunk_s: length in seconds of the files that each video was cut into (15, 300 or 600), which lie in a folder
            that is called by the video. null: whole videos.
        t0: where second 0 of a file is: "container", the start of its clock, or "first_frame".
        crops: "centre"; "three" or "ten" crops, whose rows are averaged.
        clip_batch: spans that go through the encoder at once, also those of several videos.
        precision: "float32", or on a GPU "bf16", which is faster and gives slightly other rows.
        compile: compile the encoder with torch.compile, where that works. Rows differ by rounding.
        channels_last: hold the weights of convolutions with the channels last, faster on many GPUs. Rows differ by
            rounding.
        transform_on_device: resize and normalise full-size frames on the device, for published models, which otherwise
            do so in the decoding threads. Rows differ by rounding.
        device: e.g. cpu or cuda. null: a GPU if there is one.
        decode_threads: threads that decode one video. 0: as many as PyTorch has in that process.
        limit: encode only the first N spans.
        ids: encode these only: a list, or a text file with one id a line.
        shard: i/n, encode only part i of n (from 0), for machines that share nothing but the folder.
        n_shards: files that the work is cut into. null: one for each half hour of video, at least 8.
        retry_failed: try again also spans that could not be decoded before and whose files have not changed.

    Raises:
        InputError: a value is out of range.
    """

    frame_rule: FrameRule | None = None
    rounding: Dataset = "ego4d"
    fps: float | int | None = None
    chunk_s: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fps is not None and not (isfinite(self.fps) and self.fps > 0):
            raise InputError(f"fps={self.fps} must be a positive number of frames per second")
        if self.chunk_s is not None and self.chunk_s < 1:
            raise InputError(f"chunk_s={self.chunk_s} must be at least 1 second")

    def clock(self) -> Clock:
        """Return the clock: a row stands for the middle of its span."""
        return Clock.irregular(0.0)

    def cache_key_fields(self) -> dict[str, Any]:
        """Return the options that the rows depend on, beside those of `acceleration`, as JSON values."""
        names = ("frame_rule", "rounding", "fps", "chunk_s", "t0", "crops", "clip_batch", "precision")
        return {"encoder": self.encoder, "spans": True, **{name: getattr(self, name) for name in names}}


def encode_spans(
    items: Sequence[SpanItem],
    encoder: VideoEncoder,
    settings: SpanExtraction,
    device: str,
    begin: Callable[[SpanItem], None] = lambda item: None,
) -> Iterator[EncodedItem]:
    """Yield the row of each span.

    Videos are decoded one after the other in a thread, each in one forward pass over the frames of all of its spans.
    Spans of several videos share batches, which all have one shape. `begin` is called with each span before its video
    is read.
    """
    order = sorted(items, key=lambda item: (item.path, item.start, item.id))
    batches = BatchEncoder(encoder, settings.crops, device, settings.precision)
    encoder.to(device).eval()
    with ExitStack() as during:
        start, at_once = during.enter_context(batches.compute_threads(batches.start))
        ahead = 2 * settings.clip_batch * at_once
        clips = during.enter_context(closing(Background(lambda: _clips(order, batches, settings, begin), ahead)))
        found: Any = None
        for one in during.enter_context(closing(encode_in_batches(clips, settings.clip_batch, start, at_once))):
            if not isinstance(one, Mark):
                found = one
                continue
            item, error = one.content
            seconds = float(item.duration_s)
            facts = RowFacts(seconds=np.array([seconds / 2]), duration_s=seconds, video_s=seconds)
            yield EncodedItem(item, _blocks(error or found), partial(_same, facts))


def _same(facts: RowFacts) -> RowFacts:
    return facts


def _blocks(found: Float32[np.ndarray, " dim"] | Exception) -> Iterator[Float32[np.ndarray, "one dim"]]:
    if isinstance(found, Exception):
        raise found
    yield found[None]


def _clips(
    items: Sequence[SpanItem],
    batches: BatchEncoder,
    settings: SpanExtraction,
    begin: Callable[[SpanItem], None],
) -> Iterator[Clip | Mark]:
    """Yield the prepared frames of each span and its mark, which holds the span and why it cannot be read, or None."""
    options = FrameOptions(
        batches.decoded_short_side_px,
        batches.prepare,
        settings.fps,
        settings.chunk_s,
        settings.decode_threads or torch.get_num_threads(),
        settings.t0,
    )
    for path, group in groupby(items, key=lambda item: item.path):
        spans = list(group)
        for item in spans:
            begin(item)
        try:
            spans = [_whole_film(item, options) if isnan(item.start) else item for item in spans]
        except InputError as error:
            yield from (Mark((item, error)) for item in spans)
            continue
        while spans:
            done = 0
            try:
                for clip in _clips_of_video(path, spans, batches.encoder, settings, options):
                    if not isinstance(clip, InputError):
                        yield clip
                    yield Mark((spans[done], clip if isinstance(clip, InputError) else None))
                    done += 1
                break
            except InputError as error:
                # A chunk or image that cannot be read concerns the spans in it; a film concerns all.
                failed = 1 if Path(path).is_dir() else len(spans) - done
                for item in spans[done : done + failed]:
                    yield Mark((item, error))
                spans = spans[done + failed :]


def _whole_film(item: SpanItem, options: FrameOptions) -> SpanItem:
    """Return the span of all frames of a film."""
    source = FilmFrames(item.path, options)
    frames = source.count_frames()
    return replace(item, start=0, end=frames, unit="frames", duration_s=frames / source.fps)


def _clips_of_video(
    path: str, spans: Sequence[SpanItem], encoder: VideoEncoder, settings: SpanExtraction, options: FrameOptions
) -> Iterator[Clip | InputError]:
    source = open_frames(path, options)
    frames, rule = encoder.clip.frames, settings.frame_rule or encoder.clip.frame_rule
    chosen: list[Sequence[int]] = []
    for item in spans:
        if item.unit == "frames":
            start, end = round(item.start) - source.first, round(item.end) - source.first
        elif source.fps is None:
            raise InputError(f"{path} is a folder of images: give their rate, e.g. fps=59.94, or unit=frames")
        else:
            start, end = span_in_frames(rule, item.start, item.end, source.fps, frames, settings.rounding)
        chosen.append([max(int(index), 0) for index in frame_indices(rule, max(start, 0), max(end, start, 0), frames)])
    visits = source.read(sorted({index for indices in chosen for index in indices}))
    shown: dict[int, Tensor] = {}
    # Spans are sorted by their start, but one may begin with an earlier frame than the one before it.
    first = np.minimum.accumulate([indices[0] for indices in reversed(chosen)])[::-1]
    for position, indices in enumerate(chosen):
        while indices[-1] not in shown:
            index, pixels = next(visits)
            shown[index] = pixels
        clip = tuple(shown[index] for index in indices)
        if position + 1 < len(chosen):
            shown = {index: pixels for index, pixels in shown.items() if index >= first[position + 1]}
        start_s = indices[0] / source.fps if source.fps else 0.0
        if source.duration_s is not None and start_s > source.duration_s + 1.0:
            yield InputError(
                f"{path} lasts {source.duration_s:.1f} s, and the span starts at {start_s:.1f} s: is it "
                f"the right video?"
            )
        else:
            yield clip
