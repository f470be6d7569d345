"""How each verb of the drawn world looks: where the thing and the hands are, and what else is there, at each moment.

A motion is a function of the progress of an action, 0 … 1, and of how this performance differs from others. Places
are relative to where the thing stands, in units of its size; y points downwards, and the wearer's body is below the
picture.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from clep.demo.pixels.hands import Hand
from clep.demo.pixels.shapes import Colour, Number, Patch, ellipse, placed, polygon, rectangle


@dataclass(frozen=True)
class Manner:
    """How one performance of a verb differs from the others; a motion to the left is drawn mirrored."""

    reach: Number
    """How far things are moved, about 1."""
    cycles: Number
    """How often a repeated motion is repeated in the whole action."""
    phase: Number
    """Where it begins, 0 … 1."""
    cloth: Colour
    """Colour of a cloth, if there is one."""


@dataclass(frozen=True)
class Moment:
    """What one instant of a motion looks like; `behind` and `before` are drawn behind and in front of the thing."""

    x: Number = 0.0
    y: Number = 0.0
    lift: Number = 0.0
    """Height above the table, which moves the thing upwards and its shadow not."""
    degrees: Number = 0.0
    gap: Number = 0.0
    """The thing is in two halves so far apart; 0 for a whole one."""
    blur: tuple[tuple[Number, Number, Number], ...] = ()
    """Where else the thing was while the shutter was open: x, y and degrees from where it is."""
    visible: bool = True
    behind: list[Patch] = field(default_factory=list)
    before: list[Patch] = field(default_factory=list)
    hands: list[Hand] = field(default_factory=list)


def ease(progress: Number, start: Number, end: Number) -> float:
    """Go smoothly from 0 at `start` to 1 at `end`."""
    x = min(1.0, max(0.0, (progress - start) / (end - start)))
    return x * x * (3 - 2 * x)


def _held(hand: Hand, progress: Number, leave: Number = 0.85) -> Hand:
    """Let a hand come in along its forearm before the motion and go back after it."""
    away = 2.2 * (1 - ease(progress, 0.0, 0.14) + ease(progress, leave, 1.0))
    turn = np.deg2rad(hand.degrees)
    return hand._replace(x=hand.x - away * float(np.cos(turn)), y=hand.y - away * float(np.sin(turn)))


def _swing(progress: Number, manner: Manner) -> float:
    return float(np.sin(2 * np.pi * (manner.cycles * progress + manner.phase)))


def _pick_up(progress: Number, manner: Manner) -> Moment:
    lift = 0.95 * manner.reach * ease(progress, 0.22, 0.6)
    taken = ease(progress, 0.84, 1.0)
    x, y = 0.5 * taken, 2.6 * taken
    away = 2.2 * (1 - ease(progress, 0.0, 0.2))
    return Moment(
        x, y, lift, 6 * lift, hands=[Hand("claw", x + 0.05 + 0.3 * away, y - lift - 0.62 + away, -150 + 6 * lift, True)]
    )


def _put_down(progress: Number, manner: Manner) -> Moment:
    come = 1 - ease(progress, 0.0, 0.5)
    x, y = -0.9 * come, 1.9 * come
    leave = ease(progress, 0.55, 1.0)
    hand = Hand("open", x - 0.6 - 0.5 * leave, y + 0.28 + 1.5 * leave, -28 - 30 * leave)
    return Moment(x, y, 0.12 * come, -26 * min(1.0, 1.6 * come) * manner.reach, hands=[hand], visible=progress > 0.0)


def _move(progress: Number, manner: Manner) -> Moment:
    done = ease(progress, 0.12, 0.9)
    x = manner.reach * (1.7 * done - 0.85)
    speed = 4 * done * (1 - done)
    start = -0.85 * manner.reach
    streaks = [
        polygon(
            (236, 236, 232, 120), (start - 0.3, y), (x - 0.2, y - 0.02), (x - 0.2, y + 0.05), (start - 0.3, y + 0.03)
        )
        for y in (0.28, 0.42, 0.54)
    ]
    blur = ((-0.11 * speed, 0.0, 0.0), (-0.22 * speed, 0.0, 0.0))
    hand = Hand("flat", x - 0.66, 0.22, -8)
    return Moment(x, 0.0, 0.0, 4 * speed, blur=blur, behind=streaks, hands=[_held(hand, progress, 0.92)])


def _turn(progress: Number, manner: Manner) -> Moment:
    degrees = 200 * manner.reach * ease(progress, 0.14, 0.86)
    twist = 34 * _swing(progress, manner)
    turn = np.deg2rad(twist)
    dx, dy = 0.62 * float(np.cos(turn)), 0.62 * float(np.sin(turn))
    hands = [Hand("claw", -dx, -dy - 0.2, -55 + twist), Hand("claw", dx, dy - 0.2, -125 + twist, True)]
    return Moment(0.0, 0.0, 0.25, degrees, hands=[_held(hand, progress) for hand in hands])


def _shake(progress: Number, manner: Manner) -> Moment:
    shaking = ease(progress, 0.1, 0.22) * (1 - ease(progress, 0.8, 0.92))
    swing = _swing(progress, manner)
    x, degrees = 0.3 * manner.reach * swing * shaking, 26 * swing * shaking
    lift = 0.65 * shaking
    blur = tuple((k * 0.15 * shaking, 0.04 * abs(k), k * 13 * shaking) for k in (-2, -1, 1, 2)) if shaking > 0.3 else ()
    hand = Hand("fist", x + 0.1, 0.5 - lift, -82 + degrees * 0.5)
    return Moment(x, 0.0, lift, degrees, blur=blur, hands=[_held(hand, progress)])


def _wash(progress: Number, manner: Manner) -> Moment:
    on = ease(progress, 0.05, 0.15) * (1 - ease(progress, 0.88, 0.98))
    basin = [
        ellipse((96, 104, 116), 0, 0.55, 1.15, 0.5, 28),
        ellipse((206, 212, 220), 0, 0.5, 1.1, 0.45, 28),
        ellipse((112, 172, 216), 0, 0.53, 0.98, 0.37, 28),
    ]
    swing = _swing(progress, manner)
    stream = [rectangle((176, 218, 244, int(150 * on)), -0.08, -2.2, 0.1, 0.0)] if on > 0.1 else []
    drops = []
    for k in range(14 if on > 0.3 else 0):
        fall = (k * 0.618 + 6 * progress + manner.phase) % 1.0
        drops.append(ellipse((196, 230, 250), 0.9 * np.sin(2.4 * k), -0.35 + 0.9 * fall * fall, 0.045, 0.07, 8))
    foam = [
        ellipse((240, 242, 242, 225), 0.8 * np.cos(1.7 * k + swing), 0.62 + 0.12 * np.sin(2.9 * k), 0.13, 0.09, 12)
        for k in range(9)
    ]
    hands = [
        Hand("open", -0.52, 0.34 + 0.1 * swing, -48),
        Hand("open", 0.52, 0.34 - 0.1 * swing, -132, True),
    ]
    return Moment(
        0.06 * swing,
        0.05,
        0.05,
        10 * swing,
        behind=basin,
        before=[*stream, *drops, *foam],
        hands=[_held(h, progress) for h in hands],
    )


def _cut(progress: Number, manner: Manner) -> Moment:
    stroke = abs(_swing(progress, manner))
    gap = 0.3 * manner.reach * ease(progress, 0.3, 0.55)
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
    return Moment(gap=gap, behind=board, before=knife, hands=hands)


def _cover(progress: Number, manner: Manner) -> Moment:
    top = 1.7 - 1.85 * ease(progress, 0.1, 0.7) * min(1.0, manner.reach)
    wave = 0.05 * _swing(progress, manner)
    stripe: Colour = tuple(min(243, value + 60) for value in manner.cloth)
    edge = [(-0.85, top), (-0.3, top - 0.14 + wave), (0.3, top - 0.14 - wave), (0.85, top)]
    cloth = [polygon(manner.cloth, *edge, (1.25, top + 2.4), (-1.25, top + 2.4))]
    cloth += [
        polygon(stripe, (a, top - 0.05), (a + 0.1, top - 0.05), (1.3 * a + 0.15, top + 2.4), (1.3 * a, top + 2.4))
        for a in (-0.7, -0.4, -0.1, 0.2, 0.5)
    ]
    leave = ease(progress, 0.85, 1.0)
    hands = [
        Hand("fist", -0.85 - 0.3 * leave, top + 2 * leave, -62),
        Hand("fist", 0.85 + 0.3 * leave, top + 2 * leave, -118, True),
    ]
    return Moment(before=cloth, hands=hands)


MOTIONS: dict[str, Callable[[float, Manner], Moment]] = {
    "pick up": _pick_up,
    "put down": _put_down,
    "move": _move,
    "turn": _turn,
    "shake": _shake,
    "wash": _wash,
    "cut": _cut,
    "cover": _cover,
}
"""The motion of each verb that can be drawn. All of them are verbs of the demo's grammar."""
