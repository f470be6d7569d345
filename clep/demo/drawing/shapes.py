"""Objects as flat polygons: the shape of each noun that can be drawn.

An object is centred at the origin in units of its own size: x to the right, y downwards, most of it within ±0.5.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

Number = float | int
Colour = tuple[int, ...]
"""Red, green, blue in 0 … 255, and opacity in 0 … 255 where it is not opaque."""


class Patch(NamedTuple):
    """A filled polygon."""

    points: Float[np.ndarray, "points 2"]
    colour: Colour


def polygon(colour: Colour, *points: tuple[Number, Number]) -> Patch:
    """Return a polygon with the given corners."""
    return Patch(np.array(points, dtype=np.float64), colour)


def ellipse(colour: Colour, x: Number, y: Number, rx: Number, ry: Number, corners: int = 20) -> Patch:
    """Return an ellipse with centre (x, y) and radii rx and ry."""
    return Patch(np.array([x, y]) + _circle(corners) * np.array([rx, ry]), colour)


def rectangle(colour: Colour, left: Number, top: Number, right: Number, bottom: Number) -> Patch:
    """Return an axis-aligned rectangle."""
    return polygon(colour, (left, top), (right, top), (right, bottom), (left, bottom))


def placed(
    patches: Iterable[Patch],
    x: Number,
    y: Number,
    size: Number,
    degrees: Number = 0.0,
    mirrored: bool = False,
) -> list[Patch]:
    """Mirror patches left to right, rotate them clockwise, scale them, and move them to (x, y)."""
    patches = list(patches)
    if not patches:
        return []
    turn = np.deg2rad(degrees)
    along, across = size * np.cos(turn), size * np.sin(turn)
    side = -1.0 if mirrored else 1.0
    axes = np.array([[side * along, side * across], [-across, along]])
    moved = np.concatenate([patch.points for patch in patches]) @ axes + np.array([x, y])
    ends = list(accumulate(len(patch.points) for patch in patches))
    return [Patch(moved[start:end], patch.colour) for start, end, patch in zip([0, *ends], ends, patches, strict=False)]


def tinted(patches: Iterable[Patch], add: Sequence[int], opacity: int = 255) -> list[Patch]:
    """Add `add` to the colours of patches, and multiply their opacity by `opacity` / 255."""
    changed = []
    for points, colour in patches:
        rgb = tuple(min(255, max(0, value + change)) for value, change in zip(colour[:3], add, strict=True))
        alpha = opacity * (colour[3] if len(colour) > 3 else 255) // 255
        changed.append(Patch(points, rgb if alpha == 255 else (*rgb, alpha)))
    return changed


def half(patches: Iterable[Patch], side: int) -> list[Patch]:
    """Cut patches along x = 0 and keep the part to the left (`side` -1) or to the right (+1)."""
    kept = []
    for points, colour in patches:
        inside = points[:, 0] * side >= 0
        corners: list[np.ndarray] = []
        for i in range(len(points)):
            previous = points[i - 1]
            if inside[i] != inside[i - 1]:
                share = previous[0] / (previous[0] - points[i, 0])
                corners.append(previous + share * (points[i] - previous))
            if inside[i]:
                corners.append(points[i])
        if len(corners) > 2:
            kept.append(Patch(np.array(corners), colour))
    return kept


@lru_cache
def _circle(corners: int) -> Float[np.ndarray, "corners 2"]:
    turn = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.stack([np.cos(turn), np.sin(turn)], 1)


def _tomato() -> list[Patch]:
    star = [(0.30 * np.sin(k * np.pi / 5) * (1, 0.35)[k % 2], -0.36 - 0.14 * np.cos(k * np.pi / 5)) for k in range(10)]
    return [
        ellipse((196, 42, 34), 0, 0.04, 0.48, 0.42),
        ellipse((232, 110, 92), -0.18, -0.10, 0.12, 0.08),
        polygon((52, 128, 48), *star),
    ]


def _flower() -> list[Patch]:
    petals = [
        ellipse((226, 120, 186), 0.24 * np.cos(k * np.pi / 3), -0.2 + 0.24 * np.sin(k * np.pi / 3), 0.16, 0.16)
        for k in range(6)
    ]
    return [
        rectangle((66, 140, 60), -0.035, -0.1, 0.035, 0.5),
        polygon((84, 164, 70), (0, 0.36), (0.22, 0.14), (0.30, 0.30)),
        *petals,
        ellipse((240, 200, 60), 0, -0.2, 0.13, 0.13),
    ]


OBJECTS: dict[str, list[Patch]] = {
    "cup": [
        ellipse((44, 92, 190), 0.40, 0.06, 0.20, 0.22),
        ellipse((150, 150, 150), 0.40, 0.06, 0.11, 0.13),
        polygon((54, 108, 210), (-0.42, -0.36), (0.42, -0.36), (0.30, 0.48), (-0.30, 0.48)),
        ellipse((120, 160, 230), 0, -0.36, 0.42, 0.12),
        ellipse((40, 44, 60), 0, -0.35, 0.34, 0.08),
    ],
    "plate": [
        ellipse((222, 220, 214), 0, 0.05, 0.66, 0.34, 28),
        ellipse((178, 176, 172), 0, 0.06, 0.46, 0.22, 28),
        ellipse((236, 234, 230), 0, 0.075, 0.43, 0.20, 28),
    ],
    "bottle": [
        polygon((34, 110, 62), (-0.2, -0.12), (-0.08, -0.3), (0.08, -0.3), (0.2, -0.12), (0.2, 0.5), (-0.2, 0.5)),
        rectangle((44, 128, 74), -0.075, -0.55, 0.075, -0.28),
        rectangle((200, 170, 60), -0.085, -0.62, 0.085, -0.52),
        rectangle((226, 218, 190), -0.2, 0.04, 0.2, 0.3),
        rectangle((110, 190, 130), -0.16, -0.1, -0.11, 0.02),
    ],
    "box": [
        polygon((206, 164, 110), (-0.46, -0.22), (-0.24, -0.44), (0.56, -0.44), (0.36, -0.22)),
        rectangle((172, 128, 76), -0.46, -0.22, 0.36, 0.48),
        polygon((136, 98, 56), (0.36, -0.22), (0.56, -0.44), (0.56, 0.26), (0.36, 0.48)),
        rectangle((224, 206, 160), -0.11, -0.22, 0.02, 0.48),
    ],
    "hammer": [
        polygon((162, 108, 54), (-0.52, 0.36), (-0.44, 0.48), (0.30, -0.20), (0.22, -0.30)),
        polygon((92, 96, 104), (0.02, -0.42), (0.16, -0.56), (0.54, -0.14), (0.42, 0.0)),
        polygon((140, 146, 154), (0.02, -0.42), (0.16, -0.56), (0.20, -0.52), (0.06, -0.38)),
    ],
    "sponge": [
        rectangle((232, 204, 66), -0.5, -0.16, 0.5, 0.30),
        rectangle((48, 110, 60), -0.5, -0.30, 0.5, -0.12),
        *(
            ellipse((196, 164, 40), x, y, 0.05, 0.04, 8)
            for x, y in ((-0.34, 0.0), (-0.1, 0.14), (0.14, 0.0), (0.36, 0.16))
        ),
    ],
    "book": [
        polygon((150, 30, 44), (-0.40, -0.50), (0.36, -0.50), (0.36, 0.46), (-0.40, 0.46)),
        polygon((236, 230, 214), (0.36, -0.50), (0.46, -0.44), (0.46, 0.50), (0.36, 0.46)),
        polygon((226, 220, 204), (-0.40, 0.46), (0.36, 0.46), (0.46, 0.50), (-0.30, 0.54)),
        rectangle((228, 196, 110), -0.22, -0.32, 0.20, -0.24),
        rectangle((228, 196, 110), -0.14, -0.16, 0.12, -0.11),
    ],
    "hat": [
        ellipse((70, 44, 104), 0, 0.28, 0.66, 0.18, 24),
        polygon(
            (92, 60, 134), (-0.36, 0.26), (-0.30, -0.30), (-0.12, -0.42), (0.14, -0.42), (0.30, -0.30), (0.36, 0.26)
        ),
        polygon((224, 186, 70), (-0.36, 0.26), (-0.345, 0.08), (0.345, 0.08), (0.36, 0.26)),
    ],
    "tomato": _tomato(),
    "carrot": [
        polygon(
            (62, 148, 58), (-0.36, -0.02), (-0.66, -0.22), (-0.56, -0.02), (-0.70, 0.10), (-0.54, 0.12), (-0.58, 0.28)
        ),
        polygon(
            (234, 126, 34), (-0.42, -0.16), (-0.30, -0.19), (0.62, 0.06), (0.62, 0.12), (-0.30, 0.24), (-0.42, 0.20)
        ),
        *(rectangle((196, 94, 20), x, -0.10, x + 0.025, 0.06) for x in (-0.22, 0.0, 0.2)),
    ],
    "flower": _flower(),
    "phone": [
        rectangle((30, 32, 38), -0.28, -0.52, 0.28, 0.52),
        rectangle((86, 206, 222), -0.23, -0.43, 0.23, 0.40),
        *(rectangle((240, 250, 250), x, y, x + 0.1, y + 0.1) for x in (-0.18, -0.05, 0.08) for y in (-0.36, -0.2)),
        ellipse((150, 150, 156), 0, 0.46, 0.04, 0.03, 8),
    ],
}
"""Patches of each noun that can be drawn, back to front. All of them are nouns of the grammar."""
