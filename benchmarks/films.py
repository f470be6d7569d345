"""Films for the measurements of extraction: real clips joined, or drawn ones, as H.264 in MP4."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path

import av
import numpy as np

RATE = 30
SUFFIXES = {".mp4", ".mkv", ".avi", ".webm", ".mov"}


def clips_in(folder: str | Path) -> list[Path]:
    """Return the video files in a folder, by name."""
    return sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in SUFFIXES)


def write_film(path: Path, pictures: Iterator[av.VideoFrame], width: int, height: int, group: int = 60) -> Path:
    """Encode frames at 30 fps with libx264's defaults, except the interval of key frames.

    A key frame every `group` frames: a loop that seeks to each window starts near it.
    """
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = group
        stream.options = {"preset": "veryfast", "crf": "23"}
        for number, picture in enumerate(pictures):
            frame = picture.reformat(width, height, "yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def joined(clips: list[Path], frames: int) -> Iterator[av.VideoFrame]:
    """Yield the frames of real clips one after the other, from the first again after the last."""

    def once() -> Iterator[av.VideoFrame]:
        for clip in clips:
            with av.open(str(clip)) as file:
                yield from file.decode(video=0)

    return islice(chain.from_iterable(once() for _ in range(frames)), frames)


def drawn(frames: int, width: int, height: int) -> Iterator[av.VideoFrame]:
    """Yield frames of a camera panning over a textured wall with a moving disc, for realistic bit rates."""
    rng = np.random.default_rng(0)
    wall = rng.integers(40, 216, (height // 8 + 32, width // 8 + 32, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    down, across = np.mgrid[:height, :width]
    for number in range(frames):
        top, left = (round(124 + 120 * np.sin(number / slow)) for slow in (37, 53))
        picture = wall[top : top + height, left : left + width].copy()
        x, y = width * (0.5 + 0.4 * np.sin(number / 19)), height * (0.5 + 0.4 * np.cos(number / 23))
        picture[(across - x) ** 2 + (down - y) ** 2 < (height / 8) ** 2] = (220, 40, 40)
        yield av.VideoFrame.from_ndarray(picture, "rgb24")


def repeat_film(film: Path, times: int, path: Path) -> Path:
    """Write a film that shows another one several times, by copying its packets."""
    with av.open(str(path), "w") as longer:
        stream = None
        offset = 0
        for _ in range(times):
            with av.open(str(film)) as file:
                source = file.streams.video[0]
                if stream is None:
                    stream = longer.add_stream_from_template(source)
                assert source.duration is not None
                for packet in file.demux(source):
                    if packet.dts is None or packet.pts is None:
                        continue
                    packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                    packet.stream = stream
                    longer.mux(packet)
                offset += source.duration
    return path
