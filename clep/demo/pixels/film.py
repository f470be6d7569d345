"""Film a scene: an H.264 file as cameras make them, with their rates, turned sensors and pairs of lenses."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from clep.demo.pixels.renderer import Renderer
from clep.demo.pixels.scene import Scene
from clep.demo.pixels.shapes import Number
from clep.errors import InputError
from clep.files import atomic_path

_CRF, _PRESET = "27", "superfast"
_DROPPED = 0.25
_EYES_APART = 0.02
_TICKS = 90_000


@dataclass(frozen=True)
class Recording:
    """How a camera records.

    Attributes:
        rate: frames a second; of a variable rate the highest.
        variable: a quarter of the frames is missing, never the first or last, and others stay on screen until the next.
        turned: the sensor is turned by a quarter, so that the file says how players turn its frames back.
        stereo: two lenses side by side in one frame, the left one to the left.
    """

    rate: Fraction = Fraction(30)
    variable: bool = False
    turned: bool = False
    stereo: bool = False

    def shown_size(self, width: int, height: int) -> tuple[int, int]:
        """Give width and height of a shown frame for one lens of the given size."""
        return (2 * width if self.stereo else width), height

    def whole_frames(self, seconds: Number) -> Fraction:
        """Give the longest duration of whole frames that is not above `seconds`, in seconds, at least one frame."""
        return max(1, int(Fraction(seconds).limit_denominator(1000) * self.rate)) / self.rate

    def ticks(self, duration_s: Fraction, seed: int) -> Int[np.ndarray, " frames"]:
        """Give the instant of each frame in 1/90,000 s, the first 0; `seed` chooses the frames that are missing."""
        count = round(duration_s * self.rate)
        ticks = np.array([round(_TICKS * k / self.rate) for k in range(count)], dtype=np.int64)
        if self.variable:
            kept = np.random.default_rng([seed, 8]).random(count) >= _DROPPED
            kept[[0, -1]] = True  # a file does not say how long its last frame lasts: one frame, players take it
            ticks = ticks[kept]
        return ticks


def film(path: str | Path, scene: Scene, duration_s: Fraction, recording: Recording, width: int, height: int) -> int:
    """Write an mp4 of a scene, whole or not at all, and give the number of its frames.

    Args:
        path: of the file.
        scene: what is filmed from second 0 on.
        duration_s: end of the last frame, a multiple of the time of a frame.
        recording: how.
        width, height: of what one lens shows upright, in pixels; both even.

    Raises:
        InputError: PyAV or Pillow is not installed, PyAV is too old or was built without libx264, or the file cannot be
            written.
    """
    try:
        import av
    except ImportError as error:
        raise InputError("the drawn demo world needs Pillow and PyAV: pip install 'clep[video]'") from error
    if "libx264" not in av.codecs_available:
        raise InputError("this PyAV cannot encode H.264; install its wheel from PyPI: pip install 'clep[video]'")
    renderer = Renderer(scene, width, height)
    ticks = recording.ticks(duration_s, scene.rng_seed)
    ends = np.append(ticks[1:], round(_TICKS * duration_s))
    options = {"crf": _CRF, "preset": _PRESET}
    if recording.variable:  # reordered frames of unequal lengths make the container's duration wrong
        options["bf"] = "0"
    with atomic_path(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=recording.rate, options=options)
        shown = recording.shown_size(width, height)
        stream.width, stream.height = shown[::-1] if recording.turned else shown
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1  # videos are filmed side by side, and the bytes do not depend on it
        stream.codec_context.time_base = Fraction(1, _TICKS)
        if recording.turned:
            if not hasattr(stream, "set_display_rotation"):
                raise InputError(f"PyAV {av.__version__} cannot write turned videos; install 18.1 or later")
            stream.set_display_rotation(90)
        for tick, end in zip(ticks.tolist(), ends.tolist(), strict=True):
            frame = av.VideoFrame.from_ndarray(_pixels(renderer, tick / _TICKS, recording), format="rgb24")
            frame.pts, frame.duration, frame.time_base = tick, end - tick, Fraction(1, _TICKS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return len(ticks)


def _pixels(renderer: Renderer, second: Number, recording: Recording) -> UInt8[np.ndarray, "rows columns 3"]:
    upright = renderer.frame(second)
    if recording.stereo:
        upright = np.concatenate([upright, renderer.frame(second, _EYES_APART)], axis=1)
    # Players turn what is stored by 90 degrees to the left, so it is stored turned to the right.
    return np.ascontiguousarray(np.rot90(upright, -1)) if recording.turned else upright
