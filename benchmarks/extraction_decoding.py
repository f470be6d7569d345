"""Decoding and sampling dense windows, beside a bare loop over the frames and beside a seek for each window."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarks.timing import medians, paired_ratio, seconds_of, take_turns
from clep.video import DenseWindows, VideoReader

CLIP_FRAMES = (8, 32)
FORMATS = ("rgb24", "gbrp")
WINDOWS = DenseWindows()


def compare(film: Path, short_side_px: int, threads: int, repeats: int) -> dict[str, Any]:
    """Measure all implementations alternately; return seconds, medians and the speed-up of clep over each.

    "bare" decodes every frame and calls `frame.reformat` on each, to the size that ours gives and with one thread of
    swscale as ours has (its own default, one for each core, is slower for small pictures). rgb24 is what people ask
    for; gbrp is what ours asks for, since swscale writes it faster. "seeks" goes to the key frame before each window
    and decodes to its end.
    """
    width, height = _size(film, short_side_px)
    sides: dict[str, Callable[[], object]] = {
        f"bare, {form}": lambda form=form: _bare(film, width, height, form, threads)  # type: ignore[misc]
        for form in FORMATS
    }
    sides["bare, decoding alone"] = lambda: _bare(film, width, height, None, threads)
    for frames in CLIP_FRAMES:
        sides[f"ours, {frames} of 32"] = lambda frames=frames: _ours(film, short_side_px, frames, threads)  # type: ignore[misc]
        sides[f"seeks, {frames} of 32"] = lambda frames=frames: _seeks(film, width, height, frames, threads)  # type: ignore[misc]
    raw = take_turns({name: seconds_of(work) for name, work in sides.items()}, repeats, warm=0)
    ratios = {
        f"{frames} of 32": {
            other: paired_ratio(raw, other, f"ours, {frames} of 32")
            for other in ("bare, rgb24", "bare, gbrp", f"seeks, {frames} of 32")
        }
        for frames in CLIP_FRAMES
    }
    return {"threads": threads, "seconds": raw, "median": medians(raw), "baseline_over_ours": ratios}


def _size(film: Path, short_side_px: int) -> tuple[int, int]:
    reader = VideoReader(film, short_side_px)
    height, width = next(reader.clips(WINDOWS, 1)).frames[0].shape[1:]
    return width, height


def _ours(film: Path, short_side_px: int, frames: int, threads: int) -> int:
    return sum(1 for _ in VideoReader(film, short_side_px, threads=threads).clips(WINDOWS, frames))


def _opened(film: Path, threads: int) -> tuple[Any, Any]:
    container = av.open(str(film))
    stream = container.streams.video[0]
    stream.thread_type, stream.thread_count = "AUTO", threads
    return container, stream


def _small(frame: av.VideoFrame, width: int, height: int, form: str) -> np.ndarray:
    return frame.reformat(width, height, form, interpolation="BILINEAR", threads=1).to_ndarray()


def _bare(film: Path, width: int, height: int, form: str | None, threads: int) -> int:
    count = 0
    container, stream = _opened(film, threads)
    with container:
        for frame in container.decode(stream):
            if form is not None:
                _small(frame, width, height, form)
            count += 1
    return count


def _seeks(film: Path, width: int, height: int, frames: int, threads: int) -> int:
    """Decode each window on its own: seek to the key frame before it, decode to its end, resize what is asked for."""
    container, stream = _opened(film, threads)
    with container:
        seconds = float(stream.duration * stream.time_base)
        starts = WINDOWS.starts(WINDOWS.canonical_frames(seconds))
        for start in starts:
            container.seek(round(start / WINDOWS.rate / stream.time_base), stream=stream)
            wanted = [(start + at) / WINDOWS.rate for at in WINDOWS.positions(frames)]
            np.stack(list(_at(container.decode(stream), wanted, width, height)))
    return len(starts)


def _at(decoded: Iterator[av.VideoFrame], wanted: list[float], width: int, height: int) -> Iterator[np.ndarray]:
    """Yield the first frame at or after each second; the film has one at each."""
    asked = 0
    for frame in decoded:
        if frame.time is not None and frame.time >= wanted[asked] - 1e-3:
            yield _small(frame, width, height, "rgb24")
            asked += 1
            if asked == len(wanted):
                return
