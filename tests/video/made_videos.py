"""Video files whose frames say which they are: their number stands in ten black or white blocks."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from torch import Tensor

WIDTH, HEIGHT = 160, 96
BITS = 10
GRID = (2, 5)  # blocks down and across


def numbered(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Draw the picture of a frame, `[height, width, 3]`."""
    bits = np.array([(number >> bit) & 1 for bit in range(BITS)], np.uint8).reshape(GRID)
    rows = np.arange(height) * GRID[0] // height
    columns = np.arange(width) * GRID[1] // width
    return np.repeat(bits[rows][:, columns, None] * 215 + 20, 3, axis=2).astype(np.uint8)


def number_of(pixels: Tensor) -> int:
    """Read the number of a frame `[3, h, w]` back."""
    grey = pixels.float().mean(0)
    height, width = grey.shape
    number = 0
    for bit in range(BITS):
        row, column = divmod(bit, GRID[1])
        top, left = row * height // GRID[0], column * width // GRID[1]
        block = grey[top + height // 8 : top + 3 * height // 8, left + width // 20 : left + 3 * width // 20]
        number |= int(block.mean() > 127) << bit
    return number


def regular(frames: int, rate: Fraction | int) -> list[Fraction]:
    """Seconds of the frames of a constant rate."""
    return [Fraction(frame) / Fraction(rate) for frame in range(frames)]


def write_video(
    path: Path,
    times: Sequence[Fraction],
    codec: str = "libx264",
    rate: Fraction | int = 30,
    rotation: int = 0,
    pictures: Sequence[np.ndarray] | None = None,
    group: int = 12,
    aspect: Fraction | None = None,
    audio_s: float = 0.0,
    container: str | None = None,
    pixel_format: str = "yuv420p",
) -> Path:
    """Write a video whose frames are shown from `times` on; `pictures` replace the numbered ones."""
    if pictures is None:
        pictures = [numbered(number) for number in range(len(times))]
    pictures = [np.ascontiguousarray(np.rot90(picture, -rotation // 90)) for picture in pictures]
    clock = 1 / Fraction(rate) if codec.startswith("mpeg") else Fraction(1, 90000)
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=Fraction(rate))
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = clock
        stream.codec_context.gop_size = group
        if codec == "libx264":
            stream.options = {"preset": "ultrafast", "bf": "2", "crf": "20"}
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotation:
            stream.set_display_rotation(rotation)
        sound = file.add_stream("aac", rate=16000) if audio_s else None
        if sound is not None:
            for packet in sound.encode(_silence(0)):
                file.mux(packet)
        for second, picture in zip(times, pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = round(second / clock), clock
            for packet in stream.encode(frame):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)
        if sound is not None:
            for block in range(1, int(audio_s * 16000) // 1024):
                for packet in sound.encode(_silence(block)):
                    file.mux(packet)
            for packet in sound.encode():
                file.mux(packet)
    return path


def _silence(block: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
    frame.sample_rate, frame.pts, frame.time_base = 16000, block * 1024, Fraction(1, 16000)
    return frame


def on_screen(times: Sequence[Fraction | float], second: float) -> int:
    """Which frame is on screen at a second after the first frame, with a millisecond of grace."""
    return max(frame for frame, time in enumerate(times) if frame == 0 or float(time - times[0]) <= second + 1.001e-3)


def dense_by_hand(
    times: Sequence[Fraction | float], end_s: float, window: int, stride: int, rate: float, frames: int
) -> list[list[int]]:
    """Frame numbers of each row, from the rule and nothing else."""
    count = max(1, round(end_s * rate))
    starts = [start for start in range(count) if start % stride == 0 and start + window <= count]
    if not starts or starts[-1] + window < count:
        starts.append(max(0, count - window))
    places = [int((part + 0.5) * window / frames) for part in range(frames)]
    return [[on_screen(times, min(start + place, count - 1) / rate) for place in places] for start in starts]
