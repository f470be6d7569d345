"""Hands as flat polygons, in the poses that the motions need. The unit is the length of a hand; fingers point to +x."""

from functools import lru_cache
from typing import NamedTuple

from clep.demo.pixels.shapes import Colour, Number, Patch, ellipse, placed, polygon

_FOREARM = 5.0
_SLEEVE = 0.55


class Hand(NamedTuple):
    """A hand at one instant, relative to the centre of the thing and in units of its size."""

    pose: str
    """One of "open" (palm, spread fingers), "fist", "claw" (fingers bent to one side) and "flat" (fingers together)."""
    x: Number
    y: Number
    degrees: Number
    """Direction of the fingers: 0 to the right, 90 down; -90 is away from the wearer. The forearm points back."""
    mirrored: bool = False
    """Thumb on the other side."""


@lru_cache
def draw_hand(pose: str, skin: Colour, sleeve: Colour) -> tuple[Patch, ...]:
    """Draw a hand with its palm at the origin and its forearm, in a sleeve, towards -x.

    Raises:
        KeyError: there is no such pose.
    """
    dark: Colour = tuple(max(0, value - 38) for value in skin)
    arm = [
        polygon(skin, (-1.0, -0.19), (-0.25, -0.17), (-0.25, 0.17), (-1.0, 0.19)),
        polygon(sleeve, (-_SLEEVE, -0.25), (-_SLEEVE, 0.25), (-_FOREARM, 0.62), (-_FOREARM, -0.62)),
    ]
    return (*arm, *_POSES[pose](skin, dark))


def _finger(
    colour: Colour, x: Number, y: Number, length: Number, degrees: Number, width: Number = 0.075
) -> list[Patch]:
    shape = [polygon(colour, (0, -width), (length, -width * 0.8), (length, width * 0.8), (0, width))]
    tip = [ellipse(colour, length, 0, width * 0.9, width * 0.8, 10)]
    return placed(shape + tip, x, y, 1.0, degrees)


def _open(skin: Colour, dark: Colour) -> list[Patch]:
    fingers = [
        patch
        for k, angle in enumerate((-30, -10, 9, 28))
        for patch in _finger(skin, 0.2, -0.17 + 0.115 * k, (0.42, 0.52, 0.5, 0.38)[k], angle)
    ]
    lines = _finger(dark, -0.05, 0.0, 0.2, 35, 0.02)
    return [*fingers, *_finger(skin, -0.1, -0.2, 0.4, -65, 0.085), ellipse(skin, 0, 0, 0.32, 0.27), *lines]


def _fist(skin: Colour, dark: Colour) -> list[Patch]:
    knuckles = [ellipse(skin, 0.2, -0.18 + 0.12 * k, 0.12, 0.08, 10) for k in range(4)]
    gaps = [patch for k in range(3) for patch in _finger(dark, 0.1, -0.12 + 0.12 * k, 0.16, 0, 0.014)]
    return [ellipse(skin, 0, 0, 0.3, 0.27), *knuckles, *gaps, *_finger(skin, -0.02, -0.22, 0.26, 24, 0.075)]


def _claw(skin: Colour, dark: Colour) -> list[Patch]:
    bent = []
    for k in range(4):
        x = 0.12 + 0.13 * k
        bent += _finger((dark, skin)[k % 2], x, 0.02, 0.42 - 0.05 * abs(k - 1), 82 - 12 * k, 0.07)
    return [*bent, ellipse(skin, 0.12, -0.05, 0.44, 0.2), *_finger(skin, -0.2, 0.0, 0.42, 72, 0.085)]


def _flat(skin: Colour, dark: Colour) -> list[Patch]:
    fingers = [patch for k in range(4) for patch in _finger((skin, dark)[k % 2], 0.15, -0.15 + 0.1 * k, 0.5, 0, 0.06)]
    return [*fingers, ellipse(skin, 0, 0, 0.32, 0.24), *_finger(skin, 0.05, -0.2, 0.3, -14, 0.07)]


_POSES = {"open": _open, "fist": _fist, "claw": _claw, "flat": _flat}
