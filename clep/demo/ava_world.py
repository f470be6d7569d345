"""A small drawn AVA in the official formats: films, annotations, detections and excluded frames."""

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from clep.demo.ava_films import SIZE, Person, write_film
from clep.demo.whole import WorldKind
from clep.errors import InputError
from clep.files import atomic_path

_KIND = WorldKind("clep-demo-ava-world", 1, ("ava",))
_START_S = 900
POSES = {"red": 12, "green": 11, "blue": 14}
"""Who stands, sits and walks: what a person's own region shows."""
TALKS, WATCHES = 79, 80
"""Who wears yellow talks; in a film in which somebody talks, now or at another time, the others watch."""


@dataclass(frozen=True)
class AvaWorldSettings:
    """How large the drawn AVA is.

    Attributes:
        train_films, val_films: films of each split; in every second one somebody in yellow talks for some seconds.
        film_s: seconds of a film.
        talk_s: seconds for which the talker is there.

    Raises:
        InputError: a number has no meaning.
    """

    train_films: int = 24
    val_films: int = 12
    film_s: int = 20
    talk_s: int = 5

    def __post_init__(self) -> None:
        if min(self.train_films, self.val_films) < 2 or not 0 < self.talk_s <= self.film_s - 4:
            raise InputError(f"a drawn AVA needs 2 films a split, and a talk that fits into a film, not {self}")


def make_ava_world(out: str | Path, settings: AvaWorldSettings | None = None, seed: int = 0) -> dict[str, Any]:
    """Make the drawn AVA in the folder `out`, or reuse the one that is there.

    Under `out`: ava/videos/<id>.mp4, which start at second 900 as AVA's 15-minute clips do,
    ava/ava_{train,val}_v2.2.csv, ava/ava_{train,val}_excluded_timestamps_v2.2.csv, ava/ava_proposals_{train,val}.csv
    (annotated boxes a little off, and wrong ones with low scores), and world.json, which is written last.

    What two people in each film do can be seen in their own regions, but for one action: they watch (80) wherever
    somebody talks in the film, be it before or after, which only their minute tells.

    Returns:
        The figures of world.json (counts), and `folder`.

    Raises:
        InputError: the folder holds a whole world of other settings, or other data; or PyAV is missing.
    """
    made_of, folder = settings or AvaWorldSettings(), Path(out)
    return _KIND.make_or_reuse(folder, asdict(made_of), seed, partial(_make, folder, made_of, seed))


def _make(out: Path, settings: AvaWorldSettings, seed: int) -> dict[str, Any]:
    folder, figures = out / "ava", dict[str, int]()
    for number, (split, films) in enumerate((("train", settings.train_films), ("val", settings.val_films))):
        lines: dict[str, list[str]] = {"boxes": [], "proposals": [], "excluded": []}
        for film in range(films):
            rng = np.random.default_rng([seed, number, film])
            name = f"{split}{film:03d}"
            people = _cast(settings, rng, talks=film % 2 == 0)
            write_film(folder / "videos" / f"{name}.mp4", people, settings.film_s)
            _describe(lines, name, people, settings, rng)
        _write(folder / f"ava_{split}_v2.2.csv", lines["boxes"])
        _write(folder / f"ava_proposals_{split}.csv", lines["proposals"])
        _write(folder / f"ava_{split}_excluded_timestamps_v2.2.csv", lines["excluded"])
        figures |= {f"{split}_films": films, f"{split}_annotations": len(lines["boxes"])}
    return {**figures, "actions": len(POSES) + 2, "bytes": _KIND.bytes_in(out)}


def _cast(settings: AvaWorldSettings, rng: np.random.Generator, talks: bool) -> list[Person]:
    ends = float(settings.film_s)
    people = []
    for side in (0.02, 0.52):
        places = side + rng.uniform(0, 0.2, 2)
        colour = str(rng.choice(list(POSES)))
        people.append(Person(colour, 0.0, ends, float(places[0]), float(places[1]), float(rng.uniform(0.1, 0.3))))
    if talks:
        start = float(rng.integers(2, settings.film_s - settings.talk_s - 1))
        x = float(rng.uniform(0.3, 0.45))
        people.append(Person("yellow", start, start + settings.talk_s, x, x, float(rng.uniform(0.05, 0.2))))
    return people


def _describe(
    lines: dict[str, list[str]], name: str, people: list[Person], settings: AvaWorldSettings, rng: np.random.Generator
) -> None:
    talks = any(person.colour == "yellow" for person in people)
    for second in range(2, settings.film_s - 1):
        at = f"{name},{_START_S + second:04d}"
        for number, person in enumerate(people):
            box = person.box(float(second))
            if box is None:
                continue
            watches = [WATCHES] * talks
            for action in [TALKS] if person.colour == "yellow" else [POSES[person.colour], *watches]:
                lines["boxes"].append(f"{at},{','.join(f'{value:.3f}' for value in box)},{action},{number}")
            off = (box + rng.normal(0, 0.008, 4)).clip(0, 1)
            lines["proposals"].append(f"{at},{','.join(f'{v:.3f}' for v in off)},{rng.uniform(0.93, 1):.3f}")
        corner = rng.uniform(0, 0.4, 2)
        wrong = [*corner, *(corner + SIZE)]
        lines["proposals"].append(f"{at},{','.join(f'{v:.3f}' for v in wrong)},{rng.uniform(0.1, 0.85):.3f}")
    lines["excluded"].append(f"{name},{_START_S + int(rng.integers(2, settings.film_s - 1)):04d}")


def _write(path: Path, lines: list[str]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
