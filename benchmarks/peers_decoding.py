"""Decoding all dense windows of a film (8 of 32 frames each, resized), for `benchmarks.peers`."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks.films import RATE, drawn, write_film
from clep.video import DenseWindows, VideoReader

if TYPE_CHECKING:
    from benchmarks.peers import Settings

FRAMES = 8
WINDOWS = DenseWindows()


def sides(settings: "Settings", left_out: dict[str, str]) -> tuple[dict[str, Callable[[], float]], str, dict[str, Any]]:
    """Return what measures each side as multiples of real time, the unit, and notes.

    decord and torchcodec read the frames of each window in one call, as their documentation shows; "all frames" is one
    pass over the film without windows, which does less than the others. Threads are chosen by each library.
    """
    from benchmarks.peers import OURS, optional

    folder = Path(tempfile.mkdtemp(prefix="clep-peers-"))
    film = folder / "film.mp4"
    write_film(
        film, drawn(round(settings.film_s * RATE), settings.width, settings.height), settings.width, settings.height
    )
    scale = settings.short_side_px / min(settings.width, settings.height)
    width, height = (2 * round(side * scale / 2) for side in (settings.width, settings.height))
    count = round(settings.film_s * RATE)
    starts = WINDOWS.starts(WINDOWS.canonical_frames(settings.film_s))
    windows = [[min(start + at, count - 1) for at in WINDOWS.positions(FRAMES)] for start in starts]

    def speed(work: Callable[[], int]) -> Callable[[], float]:
        def measure() -> float:
            started = perf_counter()
            found = work()
            seconds = perf_counter() - started
            assert found in (len(windows), count), f"{found} windows or frames instead of {len(windows)} or {count}"
            return settings.film_s / seconds

        return measure

    def ours() -> int:
        return sum(1 for _ in VideoReader(film, settings.short_side_px).clips(WINDOWS, FRAMES))

    found: dict[str, Callable[[], int]] = {OURS: ours}
    decord = optional("decord", left_out)
    if decord is not None:
        decord.bridge.set_bridge("torch")

        def decord_windows() -> int:
            reader = decord.VideoReader(str(film), width=width, height=height)
            return sum(len(reader.get_batch(window)) == FRAMES for window in windows)

        def decord_frames() -> int:
            return sum(1 for _ in decord.VideoReader(str(film), width=width, height=height))

        found |= {"decord, windows": decord_windows, "decord, all frames": decord_frames}
    torchcodec = optional("torchcodec", left_out)
    if torchcodec is not None:
        from torchcodec.decoders import VideoDecoder
        from torchcodec.transforms import Resize

        def opened() -> Any:
            return VideoDecoder(str(film), num_ffmpeg_threads=0, transforms=[Resize((height, width))])

        def torchcodec_windows() -> int:
            decoder = opened()
            return sum(len(decoder.get_frames_at(window).data) == FRAMES for window in windows)

        def torchcodec_frames() -> int:
            return sum(1 for _ in opened())

        found |= {"torchcodec, windows": torchcodec_windows, "torchcodec, all frames": torchcodec_frames}
    notes = {"windows": len(windows), "film": f"{settings.film_s:g} s of {settings.width}x{settings.height}, H.264"}
    return {name: speed(work) for name, work in found.items()}, "× real time", notes
