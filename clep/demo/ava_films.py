"""Films of coloured people who walk about, for the drawn AVA: what is seen in each, and its pixels."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8

from clep.errors import InputError
from clep.files import atomic_path

WIDTH, HEIGHT, RATE = 160, 96, 5
SIZE = (0.22, 0.6)
"""Width and height of a person, as fractions of the frame."""

COLOURS = {"red": (205, 50, 40), "green": (40, 165, 60), "blue": (50, 80, 205), "yellow": (240, 215, 40)}
_GREY, _SKIN = (118, 118, 122), (225, 180, 150)


@dataclass(frozen=True)
class Person:
    """Someone who walks from one place to another.

    Attributes:
        colour: of the clothes, a key of `COLOURS`.
        start_s, end_s: seconds of the film in which the person is there.
        from_x, to_x: left side at these seconds, as fractions of the width.
        y: top, as a fraction of the height.
    """

    colour: str
    start_s: float
    end_s: float
    from_x: float
    to_x: float
    y: float

    def box(self, second: float | int) -> Float64[np.ndarray, " 4"] | None:
        """Return x1, y1, x2, y2 at a second of the film, as fractions; None while the person is not there."""
        if not self.start_s <= second < self.end_s:
            return None
        share = (second - self.start_s) / (self.end_s - self.start_s)
        x = self.from_x + share * (self.to_x - self.from_x)
        return np.array([x, self.y, x + SIZE[0], self.y + SIZE[1]])


def draw(people: list[Person], second: float | int) -> UInt8[np.ndarray, "rows columns 3"]:
    """Draw the picture of a second of the film: a box of the person's colour with a head on it."""
    picture = np.full((HEIGHT, WIDTH, 3), _GREY, np.uint8)
    picture[-HEIGHT // 6 :] = (90, 80, 70)
    for person in people:
        box = person.box(second)
        if box is None:
            continue
        left, top, right, bottom = (box * [WIDTH, HEIGHT, WIDTH, HEIGHT]).round().astype(int).tolist()
        neck, middle = top + (bottom - top) // 3, (left + right) // 2
        picture[neck:bottom, left:right] = COLOURS[person.colour]
        picture[top:neck, middle - 6 : middle + 6] = _SKIN
    return picture


def write_film(path: Path, people: list[Person], duration_s: int) -> None:
    """Write the film as H.264, whole or not at all.

    Raises:
        InputError: PyAV is not installed or was built without libx264, or the file cannot be written.
    """
    try:
        import av
    except ImportError as error:
        raise InputError("the drawn AVA needs PyAV: pip install 'clep[video]'") from error
    if "libx264" not in av.codecs_available:
        raise InputError("this PyAV cannot encode H.264; install its wheel from PyPI: pip install 'clep[video]'")
    with atomic_path(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(RATE), options={"crf": "20", "preset": "superfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.thread_count = 1
        for number in range(duration_s * RATE):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(draw(people, number / RATE), format="rgb24")))
        container.mux(stream.encode())
