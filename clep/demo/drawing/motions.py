"""Motions of the drawn verbs: where the object and the hands are, and what else is drawn, at each instant.

A motion is a function of the progress of an action, 0 … 1, and of the variation of this instance. Positions are
relative to the place of the object, in units of its size; y points downwards, and the camera wearer is below the frame.
Hands are polygons too, in units of the length of a hand, with the fingers towards +x.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from clep.demo.drawing.shapes import Colour, Number, Patch, ellipse, placed, polygon, rectangle

_FOREARM = 5.0
_SLEEVE = 0.55


class Hand(NamedTuple):
    """A hand at one instant, relative to the centre of the object and in units of its size."""

    pose: str
    """One of "open" (palm, spread fingers), "fist", "claw" (fingers bent to one side) and "flat" (fingers together)."""
    x: Number
    y: Number
    degrees: Number
    """Direction of the fingers: 0 right, 90 down, -90 away from the wearer. The forearm has the opposite direction."""
    mirrored: bool = False
    """Whether the thumb is on the other side."""


@lru_cache
def draw_hand(pose: str, skin: Colour, sleeve: Colour) -> tuple[Patch, ...]:
    """Return a hand with its palm at the origin and its forearm, in a sleeve, towards -x.

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


@dataclass(frozen=True)
class Variation:
    """Parameters in which one instance of a verb differs from others; a motion to the left is drawn mirrored."""

    reach: Number
    """Scale of the displacement, about 1."""
    cycles: Number
    """Number of cycles of a repeated motion in the action."""
    phase: Number
    """Phase of the first cycle, 0 … 1."""
    cloth: Colour
    """Colour of the cloth, if there is one."""


@dataclass(frozen=True)
class MotionState:
    """One instant of a motion; `behind` and `before` are drawn behind and in front of the object."""

    x: Number = 0.0
    y: Number = 0.0
    lift: Number = 0.0
    """Height above the table, which moves the object and not its shadow."""
    degrees: Number = 0.0
    gap: Number = 0.0
    """Distance between the two halves of a cut object; 0 for a whole one."""
    blur: tuple[tuple[Number, Number, Number], ...] = ()
    """Motion blur: offsets (x, y, degrees) of further, transparent copies of the object."""
    visible: bool = True
    behind: list[Patch] = field(default_factory=list)
    before: list[Patch] = field(default_factory=list)
    hands: list[Hand] = field(default_factory=list)


def ease(progress: Number, start: Number, end: Number) -> float:
    """Smoothstep from 0 at `start` to 1 at `end`."""
    x = min(1.0, max(0.0, (progress - start) / (end - start)))
    return x * x * (3 - 2 * x)


def _held(hand: Hand, progress: Number, leave: Number = 0.85) -> Hand:
    """Move a hand in along its forearm before the motion and out after it."""
    away = 2.2 * (1 - ease(progress, 0.0, 0.14) + ease(progress, leave, 1.0))
    turn = np.deg2rad(hand.degrees)
    return hand._replace(x=hand.x - away * float(np.cos(turn)), y=hand.y - away * float(np.sin(turn)))


def _swing(progress: Number, variation: Variation) -> float:
    return float(np.sin(2 * np.pi * (variation.cycles * progress + variation.phase)))


def _pick_up(progress: Number, variation: Variation) -> MotionState:
    lift = 0.95 * variation.reach * ease(progress, 0.22, 0.6)
    taken = ease(progress, 0.84, 1.0)
    x, y = 0.5 * taken, 2.6 * taken
    away = 2.2 * (1 - ease(progress, 0.0, 0.2))
    return MotionState(
        x, y, lift, 6 * lift, hands=[Hand("claw", x + 0.05 + 0.3 * away, y - lift - 0.62 + away, -150 + 6 * lift, True)]
    )


def _put_down(progress: Number, variation: Variation) -> MotionState:
    come = 1 - ease(progress, 0.0, 0.5)
    x, y = -0.9 * come, 1.9 * come
    leave = ease(progress, 0.55, 1.0)
    hand = Hand("open", x - 0.6 - 0.5 * leave, y + 0.28 + 1.5 * leave, -28 - 30 * leave)
    return MotionState(
        x, y, 0.12 * come, -26 * min(1.0, 1.6 * come) * variation.reach, hands=[hand], visible=progress > 0.0
    )


def _move(progress: Number, variation: Variation) -> MotionState:
    done = ease(progress, 0.12, 0.9)
    x = variation.reach * (1.7 * done - 0.85)
    speed = 4 * done * (1 - done)
    start = -0.85 * variation.reach
    streaks = [
        polygon(
            (236, 236, 232, 120), (start - 0.3, y), (x - 0.2, y - 0.02), (x - 0.2, y + 0.05), (start - 0.3, y + 0.03)
        )
        for y in (0.28, 0.42, 0.54)
    ]
    blur = ((-0.11 * speed, 0.0, 0.0), (-0.22 * speed, 0.0, 0.0))
    hand = Hand("flat", x - 0.66, 0.22, -8)
    return MotionState(x, 0.0, 0.0, 4 * speed, blur=blur, behind=streaks, hands=[_held(hand, progress, 0.92)])


def _turn(progress: Number, variation: Variation) -> MotionState:
    degrees = 200 * variation.reach * ease(progress, 0.14, 0.86)
    twist = 34 * _swing(progress, variation)
    turn = np.deg2rad(twist)
    dx, dy = 0.62 * float(np.cos(turn)), 0.62 * float(np.sin(turn))
    hands = [Hand("claw", -dx, -dy - 0.2, -55 + twist), Hand("claw", dx, dy - 0.2, -125 + twist, True)]
    return MotionState(0.0, 0.0, 0.25, degrees, hands=[_held(hand, progress) for hand in hands])


def _shake(progress: Number, variation: Variation) -> MotionState:
    shaking = ease(progress, 0.1, 0.22) * (1 - ease(progress, 0.8, 0.92))
    swing = _swing(progress, variation)
    x, degrees = 0.3 * variation.reach * swing * shaking, 26 * swing * shaking
    lift = 0.65 * shaking
    blur = tuple((k * 0.15 * shaking, 0.04 * abs(k), k * 13 * shaking) for k in (-2, -1, 1, 2)) if shaking > 0.3 else ()
    hand = Hand("fist", x + 0.1, 0.5 - lift, -82 + degrees * 0.5)
    return MotionState(x, 0.0, lift, degrees, blur=blur, hands=[_held(hand, progress)])


def _wash(progress: Number, variation: Variation) -> MotionState:
    on = ease(progress, 0.05, 0.15) * (1 - ease(progress, 0.88, 0.98))
    basin = [
        ellipse((96, 104, 116), 0, 0.55, 1.15, 0.5, 28),
        ellipse((206, 212, 220), 0, 0.5, 1.1, 0.45, 28),
        ellipse((112, 172, 216), 0, 0.53, 0.98, 0.37, 28),
    ]
    swing = _swing(progress, variation)
    stream = [rectangle((176, 218, 244, int(150 * on)), -0.08, -2.2, 0.1, 0.0)] if on > 0.1 else []
    drops = []
    for k in range(14 if on > 0.3 else 0):
        fall = (k * 0.618 + 6 * progress + variation.phase) % 1.0
        drops.append(ellipse((196, 230, 250), 0.9 * np.sin(2.4 * k), -0.35 + 0.9 * fall * fall, 0.045, 0.07, 8))
    foam = [
        ellipse((240, 242, 242, 225), 0.8 * np.cos(1.7 * k + swing), 0.62 + 0.12 * np.sin(2.9 * k), 0.13, 0.09, 12)
        for k in range(9)
    ]
    hands = [
        Hand("open", -0.52, 0.34 + 0.1 * swing, -48),
        Hand("open", 0.52, 0.34 - 0.1 * swing, -132, True),
    ]
    return MotionState(
        0.06 * swing,
        0.05,
        0.05,
        10 * swing,
        behind=basin,
        before=[*stream, *drops, *foam],
        hands=[_held(h, progress) for h in hands],
    )


def _cut(progress: Number, variation: Variation) -> MotionState:
    stroke = abs(_swing(progress, variation))
    gap = 0.3 * variation.reach * ease(progress, 0.3, 0.55)
    board = placed(
        [rectangle((214, 178, 124), -1.25, 0.12, 1.25, 0.72), rectangle((176, 138, 86), -1.25, 0.72, 1.25, 0.8)],
        0,
        0,
        1,
    )
    away = 1.8 * (1 - ease(progress, 0.0, 0.14) + ease(progress, 0.88, 1.0))
    x, y = 0.03 + 0.4 * away, -0.34 * stroke - 0.05 + away
    knife = placed(
        [
            polygon((206, 212, 218), (-0.75, -0.12), (0.3, -0.16), (0.3, 0.06), (-0.5, 0.06)),
            polygon((246, 248, 250), (-0.5, 0.06), (0.3, 0.06), (0.3, 0.02), (-0.55, 0.02)),
            rectangle((40, 34, 34), 0.28, -0.14, 0.85, 0.04),
        ],
        x,
        y,
        1.0,
        38,
    )
    hands = [
        _held(Hand("fist", -0.6, 0.22, -20), progress, 0.88),
        Hand("fist", x + 0.5, y + 0.42, -130, True),
    ]
    return MotionState(gap=gap, behind=board, before=knife, hands=hands)


def _cover(progress: Number, variation: Variation) -> MotionState:
    top = 1.7 - 1.85 * ease(progress, 0.1, 0.7) * min(1.0, variation.reach)
    wave = 0.05 * _swing(progress, variation)
    stripe: Colour = tuple(min(243, value + 60) for value in variation.cloth)
    edge = [(-0.85, top), (-0.3, top - 0.14 + wave), (0.3, top - 0.14 - wave), (0.85, top)]
    cloth = [polygon(variation.cloth, *edge, (1.25, top + 2.4), (-1.25, top + 2.4))]
    cloth += [
        polygon(stripe, (a, top - 0.05), (a + 0.1, top - 0.05), (1.3 * a + 0.15, top + 2.4), (1.3 * a, top + 2.4))
        for a in (-0.7, -0.4, -0.1, 0.2, 0.5)
    ]
    leave = ease(progress, 0.85, 1.0)
    hands = [
        Hand("fist", -0.85 - 0.3 * leave, top + 2 * leave, -62),
        Hand("fist", 0.85 + 0.3 * leave, top + 2 * leave, -118, True),
    ]
    return MotionState(before=cloth, hands=hands)


MOTIONS: dict[str, Callable[[float, Variation], MotionState]] = {
    "pick up": _pick_up,
    "put down": _put_down,
    "move": _move,
    "turn": _turn,
    "shake": _shake,
    "wash": _wash,
    "cut": _cut,
    "cover": _cover,
}
"""The motion of each verb that can be drawn. All of them are verbs of the grammar."""
