"""A filmed scene: a place, the things in sight, what is done with them and when, and where the camera looks."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from clep.demo.grammar import NOUNS, VERBS
from clep.demo.pixels.hands import Hand, draw_hand
from clep.demo.pixels.motions import MOTIONS, Manner, Moment
from clep.demo.pixels.shapes import THINGS, Colour, Number, Patch, ellipse, half, placed, tinted

_SKINS = ((236, 188, 152), (206, 152, 112), (152, 100, 70), (100, 66, 48))
_LEAD_S = 0.2
_HAND = 0.72
"""Length of a hand, in sizes of a thing."""
_BACK_ROW, _WORKPLACE = (0.36, 0.45), (0.55, 0.62)


class Deed(NamedTuple):
    """A verb done to a noun, both as numbers in the grammar, from one second to another."""

    verb: int
    noun: int
    start_s: Number
    end_s: Number


@dataclass(frozen=True)
class _Look:
    """How one thing, or one performance, differs from others of its kind."""

    x: Number
    y: Number
    size: Number
    degrees: Number
    tint: tuple[int, int, int]
    mirrored: bool


@dataclass(frozen=True)
class Scene:
    """What there is to film. Everything that the words do not say is drawn from `rng_seed`.

    Lengths are in heights of the picture: the table is `width` wide and `height` high, somewhat more than the picture
    shows, since the camera sways over it.

    Attributes:
        rng_seed: seeds of everything drawn, as `numpy.random.default_rng` takes them.
        nouns: numbers of the things that stand around.
        deeds: what is done, in order of time; two deeds do not overlap.
        place: number of the place in the grammar, which gives the colours of the background.
    """

    rng_seed: int
    nouns: tuple[int, ...]
    deeds: tuple[Deed, ...]
    place: int
    width: Number = 1.75
    height: Number = 1.3

    def busy_noun(self, second: Number) -> int | None:
        """Give the number of the thing that something is done with at a second, which is missing from the others."""
        deed = self._deed_at(second)
        return deed.noun if deed else None

    def standing(self, busy: int | None) -> list[Patch]:
        """Give the things that stand around, without the one that is busy, the hindmost patch first."""
        drawn: list[Patch] = []
        for noun, look in zip(self.nouns, self._looks, strict=True):
            if noun != busy:
                drawn += self._shadow(look.x, look.y + 0.45 * look.size, look.size)
                drawn += self._thing(noun, look, look.x, look.y, 0.0)
        return drawn

    def action(self, second: Number) -> list[Patch]:
        """Give the busy thing, the hands and all that belongs to the action at a second, the hindmost first."""
        deed = self._deed_at(second)
        return self._action(deed, second) if deed else []

    def view(self, second: Number) -> tuple[float, float]:
        """Give the left and the top of what the camera sees, as shares (0 … 1) of the room that it has for swaying."""
        rhythm, phase = self._camera
        sway = 0.07 * np.sin(2 * np.pi * (rhythm * second + phase)).reshape(2, 3).sum(1)
        x = 0.5 + sway[0]
        y = 0.5 + sway[1]
        return float(np.clip(x, 0, 1)), float(np.clip(y, 0, 1))

    def _deed_at(self, second: Number) -> Deed | None:
        for deed in self.deeds:
            if deed.start_s - _LEAD_S <= second <= deed.end_s + _LEAD_S:
                return deed
        return None

    def _action(self, deed: Deed, second: Number) -> list[Patch]:
        look, manner = self._performances[deed]
        progress = min(1.0, max(0.0, (second - deed.start_s) / (deed.end_s - deed.start_s)))
        moment: Moment = MOTIONS[VERBS[deed.verb].base](progress, manner)
        side = -1 if look.mirrored else 1
        x, y = look.x + side * look.size * moment.x, look.y + look.size * (moment.y - moment.lift)
        drawn = placed(moment.behind, look.x, look.y, look.size, mirrored=look.mirrored)
        if moment.visible:
            low = look.y + look.size * (moment.y + 0.45)
            drawn += self._shadow(x, low, look.size * (1 + 0.3 * moment.lift))
            for k, (dx, dy, degrees) in enumerate(moment.blur):
                ghost = self._thing(
                    deed.noun, look, x + side * look.size * dx, y + look.size * dy, moment.degrees + degrees
                )
                drawn += tinted(ghost, (0, 0, 0), (80, 110, 110, 80)[k % 4])
            drawn += self._thing(deed.noun, look, x, y, moment.degrees, moment.gap)
        drawn += placed(moment.before, look.x, look.y, look.size, mirrored=look.mirrored)
        for hand in moment.hands:
            drawn += self._hand(hand, look)
        return drawn

    def _hand(self, hand: Hand, look: _Look) -> list[Patch]:
        # Mirroring a hand about its own fingers, which changes the thumb's side alone, is a mirror and half a turn.
        degrees = hand.degrees + 180 if hand.mirrored else hand.degrees
        own = placed(draw_hand(hand.pose, *self._wearer), hand.x, hand.y, _HAND, degrees, hand.mirrored)
        return placed(own, look.x, look.y, look.size, mirrored=look.mirrored)

    def _thing(self, noun: int, look: _Look, x: Number, y: Number, degrees: Number, gap: Number = 0.0) -> list[Patch]:
        shape = tinted(THINGS[NOUNS[noun]], look.tint)
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
        """How the things that stand around look, in a row at the back."""
        looks = []
        slots = self._rng(2).permutation(len(self.nouns))
        for number, slot in enumerate(slots):
            rng = self._rng(3, number)
            x = self.width * (slot + rng.uniform(0.35, 0.65)) / len(self.nouns)
            y = self.height * rng.uniform(*_BACK_ROW)
            looks.append(_look(rng, x, y, rng.uniform(0.16, 0.2)))
        return looks

    @cached_property
    def _performances(self) -> dict[Deed, tuple[_Look, Manner]]:
        """How each deed is done: where, with a thing that looks how, and in what manner."""
        made = {}
        for number, deed in enumerate(self.deeds):
            rng = self._rng(4, number)
            x, y = self.width * rng.uniform(0.42, 0.58), self.height * rng.uniform(*_WORKPLACE)
            look = _look(rng, x, y, rng.uniform(0.3, 0.4))
            cloth = tuple(int(value) for value in rng.integers(40, 190, 3))
            cycles = (deed.end_s - deed.start_s) * rng.uniform(1.0, 1.8)
            made[deed] = look, Manner(rng.uniform(0.8, 1.15), cycles, rng.uniform(), cloth)
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
