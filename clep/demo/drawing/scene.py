"""A scene to draw: a place, the objects in view, the actions and their times, and the motion of the camera."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from clep.demo.drawing.motions import MOTIONS, Hand, MotionState, Variation, draw_hand
from clep.demo.drawing.shapes import OBJECTS, Colour, Number, Patch, ellipse, half, placed, tinted
from clep.demo.grammar import NOUNS, VERBS

_SKINS = ((236, 188, 152), (206, 152, 112), (152, 100, 70), (100, 66, 48))
_LEAD_S = 0.2
_HAND = 0.72
"""Length of a hand, in units of an object's size."""
_BACK_ROW, _WORKPLACE = (0.36, 0.45), (0.55, 0.62)


class DrawnAction(NamedTuple):
    """A verb on a noun, both as indices in the grammar, from `start_s` to `end_s` (seconds)."""

    verb: int
    noun: int
    start_s: Number
    end_s: Number


@dataclass(frozen=True)
class _Look:
    """Position, size and colour of one object, or of one instance of an action."""

    x: Number
    y: Number
    size: Number
    degrees: Number
    tint: tuple[int, int, int]
    mirrored: bool


@dataclass(frozen=True)
class Scene:
    """Contents of a drawn video. Everything that the other attributes leave open is drawn from `rng_seed`.

    Lengths are in frame heights: the scene is `width` wide and `height` high, somewhat more than a frame, since the
    camera sways.

    Attributes:
        rng_seed: seed for `numpy.random.default_rng`.
        nouns: objects in view, as indices in the grammar.
        actions: actions in order of time; they do not overlap.
        place: index of the place in the grammar, which gives the colours of the background.
    """

    rng_seed: int
    nouns: tuple[int, ...]
    actions: tuple[DrawnAction, ...]
    place: int
    width: Number = 1.75
    height: Number = 1.3

    def busy_noun(self, second: Number) -> int | None:
        """Return the noun of the action at a second, which `standing` leaves out; None without an action."""
        action = self._action_at(second)
        return action.noun if action else None

    def standing(self, busy: int | None) -> list[Patch]:
        """Return the objects in view except the busy one, back to front."""
        drawn: list[Patch] = []
        for noun, look in zip(self.nouns, self._looks, strict=True):
            if noun != busy:
                drawn += self._shadow(look.x, look.y + 0.45 * look.size, look.size)
                drawn += self._object(noun, look, look.x, look.y, 0.0)
        return drawn

    def moving(self, second: Number) -> list[Patch]:
        """Return the busy object, the hands and what else belongs to the action at a second, back to front."""
        action = self._action_at(second)
        return self._action(action, second) if action else []

    def view(self, second: Number) -> tuple[float, float]:
        """Return left and top of the camera's frame, as fractions (0 … 1) of the margin that it can sway in."""
        rhythm, phase = self._camera
        sway = 0.07 * np.sin(2 * np.pi * (rhythm * second + phase)).reshape(2, 3).sum(1)
        x = 0.5 + sway[0]
        y = 0.5 + sway[1]
        return float(np.clip(x, 0, 1)), float(np.clip(y, 0, 1))

    def _action_at(self, second: Number) -> DrawnAction | None:
        for action in self.actions:
            if action.start_s - _LEAD_S <= second <= action.end_s + _LEAD_S:
                return action
        return None

    def _action(self, action: DrawnAction, second: Number) -> list[Patch]:
        look, variation = self._instances[action]
        progress = min(1.0, max(0.0, (second - action.start_s) / (action.end_s - action.start_s)))
        state: MotionState = MOTIONS[VERBS[action.verb].base](progress, variation)
        side = -1 if look.mirrored else 1
        x, y = look.x + side * look.size * state.x, look.y + look.size * (state.y - state.lift)
        drawn = placed(state.behind, look.x, look.y, look.size, mirrored=look.mirrored)
        if state.visible:
            low = look.y + look.size * (state.y + 0.45)
            drawn += self._shadow(x, low, look.size * (1 + 0.3 * state.lift))
            for k, (dx, dy, degrees) in enumerate(state.blur):
                ghost = self._object(
                    action.noun, look, x + side * look.size * dx, y + look.size * dy, state.degrees + degrees
                )
                drawn += tinted(ghost, (0, 0, 0), (80, 110, 110, 80)[k % 4])
            drawn += self._object(action.noun, look, x, y, state.degrees, state.gap)
        drawn += placed(state.before, look.x, look.y, look.size, mirrored=look.mirrored)
        for hand in state.hands:
            drawn += self._hand(hand, look)
        return drawn

    def _hand(self, hand: Hand, look: _Look) -> list[Patch]:
        # Mirroring a hand about its own fingers, which changes the thumb's side only, is a mirror and half a turn.
        degrees = hand.degrees + 180 if hand.mirrored else hand.degrees
        own = placed(draw_hand(hand.pose, *self._wearer), hand.x, hand.y, _HAND, degrees, hand.mirrored)
        return placed(own, look.x, look.y, look.size, mirrored=look.mirrored)

    def _object(self, noun: int, look: _Look, x: Number, y: Number, degrees: Number, gap: Number = 0.0) -> list[Patch]:
        shape = tinted(OBJECTS[NOUNS[noun]], look.tint)
        if gap:
            shape = placed(half(shape, -1), -gap / 2, 0, 1, -12 * gap) + placed(half(shape, 1), gap / 2, 0, 1, 12 * gap)
        return placed(shape, x, y, look.size, look.degrees + degrees, look.mirrored)

    @staticmethod
    def _shadow(x: Number, y: Number, size: Number) -> list[Patch]:
        return [ellipse((16, 14, 14, 70), x, y, 0.5 * size, 0.14 * size, 16)]

    def _rng(self, *what: int) -> np.random.Generator:
        return np.random.default_rng([self.rng_seed, *what])

    @cached_property
    def _wearer(self) -> tuple[Colour, Colour]:
        rng = self._rng(0)
        skin = _SKINS[rng.integers(len(_SKINS))]
        return skin, tuple(int(value) for value in rng.integers(30, 210, 3))

    @cached_property
    def _camera(self) -> tuple[np.ndarray, np.ndarray]:
        rng = self._rng(1)
        return rng.uniform(0.1, 0.7, 6), rng.uniform(0, 1, 6)

    @cached_property
    def _looks(self) -> list[_Look]:
        """Looks of the objects in view, in a row at the back."""
        looks = []
        slots = self._rng(2).permutation(len(self.nouns))
        for index, slot in enumerate(slots):
            rng = self._rng(3, index)
            x = self.width * (slot + rng.uniform(0.35, 0.65)) / len(self.nouns)
            y = self.height * rng.uniform(*_BACK_ROW)
            looks.append(_look(rng, x, y, rng.uniform(0.16, 0.2)))
        return looks

    @cached_property
    def _instances(self) -> dict[DrawnAction, tuple[_Look, Variation]]:
        """Position, look and variation of each action."""
        made = {}
        for index, action in enumerate(self.actions):
            rng = self._rng(4, index)
            x, y = self.width * rng.uniform(0.42, 0.58), self.height * rng.uniform(*_WORKPLACE)
            look = _look(rng, x, y, rng.uniform(0.3, 0.4))
            cloth = tuple(int(value) for value in rng.integers(40, 190, 3))
            cycles = (action.end_s - action.start_s) * rng.uniform(1.0, 1.8)
            made[action] = look, Variation(rng.uniform(0.8, 1.15), cycles, rng.uniform(), cloth)
        return made


def _look(rng: np.random.Generator, x: Number, y: Number, size: Number) -> _Look:
    tint = rng.integers(-26, 27, 3) + rng.integers(-16, 17)
    return _Look(
        float(x),
        float(y),
        float(size),
        float(rng.uniform(-12, 12)),
        (int(tint[0]), int(tint[1]), int(tint[2])),
        bool(rng.random() < 0.5),
    )
