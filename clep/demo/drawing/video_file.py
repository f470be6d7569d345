"""Draw the frames of a scene, and write them as an H.264 file with the recording properties of real cameras."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from clep.demo.drawing.scene import Scene
from clep.demo.drawing.shapes import Number, Patch, placed
from clep.errors import InputError
from clep.files import atomic_path

_OVERSAMPLING = 2
_NOISE_MARGIN = 64
_DARKEST, _LIGHTEST, _MOST_NOISE = 8, 247, 7
_CRF, _PRESET = "27", "superfast"
_DROPPED = 0.25
_EYE_DISTANCE = 0.02
_TICKS = 90_000


class Renderer:
    """Draws frames of one scene. Equal scenes, sizes and times give equal pixels, whatever was drawn before.

    Polygons are drawn at twice the size and averaged down for smooth edges. Sensor noise is added to the luminance.

    Args:
        scene: what is drawn.
        width, height: of a frame, in pixels.
        noise: standard deviation of the sensor noise, in levels of 255.

    Raises:
        InputError: Pillow is not installed.
    """

    def __init__(self, scene: Scene, width: int, height: int, noise: Number = 2.0) -> None:
        try:
            from PIL import Image, ImageDraw
        except ImportError as error:
            raise InputError("drawn videos need Pillow and PyAV: pip install 'clep[video]'") from error
        self._image, self._draw = Image, ImageDraw
        self.scene, self.width, self.height = scene, width, height
        self._scale = _OVERSAMPLING * height
        self._background = paint_background(scene, self._scale)
        self._with_objects: dict[int | None, UInt8[np.ndarray, "rows columns 3"]] = {}
        rng = np.random.default_rng([scene.rng_seed, 5])
        tile = rng.normal(0.0, noise, (height + _NOISE_MARGIN, width + _NOISE_MARGIN))
        self._noise = (
            np.clip(np.rint(tile), -_MOST_NOISE, _MOST_NOISE).astype(np.int8).view(np.uint8)[..., None].repeat(3, 2)
        )

    def frame(self, second: Number, eye: Number = 0.0) -> UInt8[np.ndarray, "height width 3"]:
        """Return the frame at a second; `eye` moves the camera to the right, in frame heights."""
        width, height = _OVERSAMPLING * self.width, _OVERSAMPLING * self.height
        behind = self._background_with_objects(self.scene.busy_noun(second))
        across, down = self.scene.view(second)
        left = round(across * (behind.shape[1] - width) + eye * self._scale)
        left = min(max(left, 0), behind.shape[1] - width)
        top = round(down * (behind.shape[0] - height))
        image = self._image.fromarray(behind[top : top + height, left : left + width])
        self._fill(image, self.scene.moving(second), left, top)
        pixels = np.clip(np.asarray(image.reduce(_OVERSAMPLING)), _DARKEST, _LIGHTEST)
        y, x = np.random.default_rng([self.scene.rng_seed, 6, round(second * 1000)]).integers(0, _NOISE_MARGIN, 2)
        # Signed noise is added modulo 256: no sum leaves 0 … 255, since the darkest and lightest levels are clipped.
        return pixels + self._noise[y : y + self.height, x : x + self.width]

    def _fill(self, image: Any, patches: list[Patch], left: int, top: int) -> None:
        opaque, transparent = self._draw.Draw(image, "RGB"), self._draw.Draw(image, "RGBA")
        for points, colour in placed(patches, -left, -top, self._scale):
            (opaque if len(colour) == 3 else transparent).polygon(points.ravel().tolist(), fill=colour)

    def _background_with_objects(self, busy: int | None) -> UInt8[np.ndarray, "rows columns 3"]:
        if busy not in self._with_objects:
            image = self._image.fromarray(self._background)
            self._fill(image, self.scene.standing(busy), 0, 0)
            self._with_objects[busy] = np.asarray(image)
        return self._with_objects[busy]


def paint_background(scene: Scene, scale: int) -> UInt8[np.ndarray, "rows columns 3"]:
    """Paint the table and the wall of a scene, with `scale` pixels per frame height.

    A place has its colours and its grain; each scene varies them a little and has its own light and clutter.
    """
    rows, columns = round(scene.height * scale), round(scene.width * scale)
    of_place = np.random.default_rng([7919, scene.place])
    own = np.random.default_rng([scene.rng_seed, 7])
    table = of_place.uniform(60, 200) + of_place.uniform(-45, 45, 3)
    wall = of_place.uniform(90, 210) + of_place.uniform(-40, 40, 3)
    stripes, grain = of_place.uniform(0, 14), of_place.uniform(4, 60)
    table, wall = table + own.normal(0, 8, 3), wall + own.normal(0, 10, 3)

    y, x = np.mgrid[0:rows, 0:columns] / scale
    texture = stripes * np.sin(grain * (x + 0.3 * y) + 3 * np.sin(3 * y)) + _clouds(own, rows, columns, 9)
    horizon = scene.height * own.uniform(0.28, 0.34)
    on_table = (y > horizon)[..., None]
    painted = np.where(on_table, table, wall) + np.where(on_table, texture[..., None], 0.4 * texture[..., None])
    for _ in range(own.integers(2, 6)):
        left, top = own.uniform(0, scene.width), own.uniform(0, horizon - 0.05)
        inside = (x > left) & (x < left + own.uniform(0.1, 0.4)) & (y > top) & (y < min(top + 0.4, horizon))
        painted[inside] = 0.3 * painted[inside] + 0.7 * own.uniform(40, 220, 3)
    light = own.uniform(0.85, 1.12) + 0.12 * own.uniform(-1, 1) * (x - scene.width / 2)
    return np.clip(painted * light[..., None], 12, 243).astype(np.uint8)


def _clouds(rng: np.random.Generator, rows: int, columns: int, strength: Number) -> Float[np.ndarray, "rows columns"]:
    """Return smooth random brightness: a coarse random grid, interpolated linearly."""
    coarse = rng.normal(0, strength, (8, 10))
    at_row, at_column = np.linspace(0, 7, rows), np.linspace(0, 9, columns)
    tall = np.stack([np.interp(at_row, np.arange(8), column) for column in coarse.T], 1)
    return np.stack([np.interp(at_column, np.arange(10), row) for row in tall])


@dataclass(frozen=True)
class Recording:
    """Recording properties of a camera.

    Attributes:
        rate: frames per second; of a variable rate the highest.
        variable: whether a quarter of the frames is missing, never the first or last; the others last until the next.
        rotated: whether frames are stored rotated by 90 degrees, with a display matrix that rotates them back.
        stereo: whether a frame shows two lenses side by side, the left one on the left.
    """

    rate: Fraction = Fraction(30)
    variable: bool = False
    rotated: bool = False
    stereo: bool = False

    def shown_size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height of a displayed frame for one lens of the given size."""
        return (2 * width if self.stereo else width), height

    def whole_frames(self, seconds: Number) -> Fraction:
        """Return the longest duration of whole frames up to `seconds`, in seconds, at least one frame."""
        return max(1, int(Fraction(seconds).limit_denominator(1000) * self.rate)) / self.rate

    def ticks(self, duration_s: Fraction, seed: int) -> Int[np.ndarray, " frames"]:
        """Return the time of each frame in 1/90,000 s, the first 0; `seed` draws the missing frames."""
        count = round(duration_s * self.rate)
        ticks = np.array([round(_TICKS * k / self.rate) for k in range(count)], dtype=np.int64)
        if self.variable:
            kept = np.random.default_rng([seed, 8]).random(count) >= _DROPPED
            kept[[0, -1]] = True  # files do not store the last frame's duration; players assume one frame
            ticks = ticks[kept]
        return ticks


class H264Writer:
    """Encodes frames into an open container; see `open_h264`."""

    def __init__(self, container: Any, stream: Any) -> None:
        self._container, self.stream = container, stream

    def write(
        self, pixels: UInt8[np.ndarray, "height width 3"], tick: int | None = None, end: int | None = None
    ) -> None:
        """Encode a frame from `tick` to `end` (in 1/90,000 s; None: one frame of the stream's rate)."""
        import av

        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        if tick is not None and end is not None:
            frame.pts, frame.duration, frame.time_base = tick, end - tick, Fraction(1, _TICKS)
        self._container.mux(self.stream.encode(frame))


@contextmanager
def open_h264(path: Path, width: int, height: int, rate: Fraction, options: dict[str, str]) -> Iterator[H264Writer]:
    """Open an mp4 file for writing; it appears when the block ends, and not at all after an exception.

    Args:
        path: of the file.
        width, height: of the stored frames in pixels; both even.
        rate: frames per second.
        options: of libx264.

    Raises:
        InputError: PyAV is not installed or was built without libx264, or the file cannot be written.
    """
    try:
        import av
    except ImportError as error:
        raise InputError("drawn videos need PyAV: pip install 'clep[video]'") from error
    if "libx264" not in av.codecs_available:
        raise InputError("this PyAV cannot encode H.264; install its wheel from PyPI: pip install 'clep[video]'")
    with atomic_path(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1  # files are encoded in parallel, and equal bytes need one thread each
        yield H264Writer(container, stream)
        container.mux(stream.encode())


def write_video(
    path: str | Path, scene: Scene, duration_s: Fraction, recording: Recording, width: int, height: int
) -> int:
    """Write an mp4 of a scene atomically, and return the number of its frames.

    Args:
        path: of the file.
        scene: what is drawn, from second 0 on.
        duration_s: end of the last frame, a multiple of the frame duration.
        recording: frame rate, rotation and lenses.
        width, height: of the upright frame of one lens, in pixels; both even.

    Raises:
        InputError: PyAV or Pillow is not installed, PyAV is too old or was built without libx264, or the file cannot be
            written.
    """
    renderer = Renderer(scene, width, height)
    ticks = recording.ticks(duration_s, scene.rng_seed)
    ends = np.append(ticks[1:], round(_TICKS * duration_s))
    options = {"crf": _CRF, "preset": _PRESET}
    if recording.variable:  # reordered frames of unequal lengths make the container's duration wrong
        options["bf"] = "0"
    shown = recording.shown_size(width, height)
    stored = shown[::-1] if recording.rotated else shown
    with open_h264(Path(path), *stored, recording.rate, options) as video:
        video.stream.codec_context.time_base = Fraction(1, _TICKS)
        if recording.rotated:
            if not hasattr(video.stream, "set_display_rotation"):
                raise InputError("this PyAV cannot write rotated videos; install 18.1 or later")
            video.stream.set_display_rotation(90)
        for tick, end in zip(ticks.tolist(), ends.tolist(), strict=True):
            video.write(_pixels(renderer, tick / _TICKS, recording), tick, end)
    return len(ticks)


def _pixels(renderer: Renderer, second: Number, recording: Recording) -> UInt8[np.ndarray, "rows columns 3"]:
    upright = renderer.frame(second)
    if recording.stereo:
        upright = np.concatenate([upright, renderer.frame(second, _EYE_DISTANCE)], axis=1)
    # Players rotate the stored frame by 90 degrees to the left, so it is stored rotated to the right.
    return np.ascontiguousarray(np.rot90(upright, -1)) if recording.rotated else upright
