"""A synthetic AVA in the official formats: drawn videos of people, annotations, detections and excluded frames."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8

from clep.demo.annotation_files import write_text
from clep.demo.drawing.video_file import open_h264
from clep.demo.synthetic import SyntheticDataset
from clep.errors import InputError

_START_S = 900
WIDTH, HEIGHT, RATE = 160, 96, 5
PERSON_SIZE = (0.22, 0.6)
"""Width and height of a person, as fractions of the frame."""
COLOURS = {"red": (205, 50, 40), "green": (40, 165, 60), "blue": (50, 80, 205), "yellow": (240, 215, 40)}
_WALL, _FLOOR, _SKIN = (118, 118, 122), (90, 80, 70), (225, 180, 150)
POSES = {"red": 12, "green": 11, "blue": 14}
"""Action ids of standing, sitting and walking by colour: visible in the person's own region."""
TALKS, WATCHES = 79, 80
"""People in yellow talk; in a video in which somebody talks, at any time, all others watch."""


@dataclass(frozen=True)
class Person:
    """Someone who walks from one side to another.

    Attributes:
        colour: colour of the clothes, a key of `COLOURS`.
        start_s, end_s: seconds of the video between which the person is visible.
        from_x, to_x: left edge at these seconds, as fractions of the width.
        y: top edge, as a fraction of the height.
    """

    colour: str
    start_s: float
    end_s: float
    from_x: float
    to_x: float
    y: float

    def box(self, second: float | int) -> Float64[np.ndarray, " 4"] | None:
        """Return x1, y1, x2, y2 at a second of the video, as fractions; None while the person is absent."""
        if not self.start_s <= second < self.end_s:
            return None
        fraction = (second - self.start_s) / (self.end_s - self.start_s)
        x = self.from_x + fraction * (self.to_x - self.from_x)
        return np.array([x, self.y, x + PERSON_SIZE[0], self.y + PERSON_SIZE[1]])


@dataclass(frozen=True)
class SyntheticAVA(SyntheticDataset):
    """A synthetic AVA with drawn videos.

    Generates ava/videos/<id>.mp4, which start at second 900 as AVA's 15-minute clips do, ava/ava_{train,val}_v2.2.csv,
    ava/ava_{train,val}_excluded_timestamps_v2.2.csv and ava/ava_proposals_{train,val}.csv (annotated boxes with a small
    offset, and false ones with low scores).

    A person's region shows all actions except one: people watch (80) if somebody talks anywhere in the video, which
    only long-term context reveals.

    Raises:
        InputError: a setting is out of range. `make` also raises if PyAV is missing.
    """

    format = "clep-synthetic-ava"
    folders = ("ava",)

    train_videos: int = 24
    """Training videos; in every second video somebody talks for some seconds."""
    val_videos: int = 12
    """Validation videos."""
    video_s: int = 20
    """Seconds of a video."""
    talk_s: int = 5
    """Seconds in which the talker is visible."""

    def check(self) -> None:
        """Check every setting."""
        self._check_range("train_videos", 2)
        self._check_range("val_videos", 2)
        self._check_range("talk_s", 1)
        if self.talk_s > self.video_s - 4:
            raise InputError(
                f"{type(self).__name__}: talk_s={self.talk_s} must be at most video_s - 4, got video_s={self.video_s}"
            )

    def generate(self, folder: Path, seed: int, progress: bool) -> dict[str, Any]:
        """Write videos and csv files, and return their counts."""
        ava, counts = folder / "ava", dict[str, int]()
        for split_index, (split, videos) in enumerate((("train", self.train_videos), ("val", self.val_videos))):
            lines: dict[str, list[str]] = {"boxes": [], "proposals": [], "excluded": []}
            for index in range(videos):
                rng = np.random.default_rng([seed, split_index, index])
                name = f"{split}{index:03d}"
                people = self._people(rng, with_talker=index % 2 == 0)
                _write_video(ava / "videos" / f"{name}.mp4", people, self.video_s)
                self._annotate(lines, name, people, rng)
            for path, kind in (
                (ava / f"ava_{split}_v2.2.csv", "boxes"),
                (ava / f"ava_proposals_{split}.csv", "proposals"),
                (ava / f"ava_{split}_excluded_timestamps_v2.2.csv", "excluded"),
            ):
                write_text(path, "\n".join(lines[kind]) + "\n")
            counts |= {f"{split}_videos": videos, f"{split}_annotations": len(lines["boxes"])}
        return {**counts, "actions": len(POSES) + 2}

    def _people(self, rng: np.random.Generator, with_talker: bool) -> list[Person]:
        ends = float(self.video_s)
        people = []
        for side in (0.02, 0.52):
            edges = side + rng.uniform(0, 0.2, 2)
            colour = str(rng.choice(list(POSES)))
            people.append(Person(colour, 0.0, ends, float(edges[0]), float(edges[1]), float(rng.uniform(0.1, 0.3))))
        if with_talker:
            start = float(rng.integers(2, self.video_s - self.talk_s - 1))
            x = float(rng.uniform(0.3, 0.45))
            people.append(Person("yellow", start, start + self.talk_s, x, x, float(rng.uniform(0.05, 0.2))))
        return people

    def _annotate(self, lines: dict[str, list[str]], name: str, people: list[Person], rng: np.random.Generator) -> None:
        """Append the csv lines of one video."""
        someone_talks = any(person.colour == "yellow" for person in people)
        for second in range(2, self.video_s - 1):
            key = f"{name},{_START_S + second:04d}"
            for index, person in enumerate(people):
                box = person.box(float(second))
                if box is None:
                    continue
                watches = [WATCHES] * someone_talks
                for action in [TALKS] if person.colour == "yellow" else [POSES[person.colour], *watches]:
                    lines["boxes"].append(f"{key},{_cells(box)},{action},{index}")
                detected = (box + rng.normal(0, 0.008, 4)).clip(0, 1)
                lines["proposals"].append(f"{key},{_cells(detected)},{rng.uniform(0.93, 1):.3f}")
            corner = rng.uniform(0, 0.4, 2)
            false_box = np.concatenate([corner, corner + PERSON_SIZE])
            lines["proposals"].append(f"{key},{_cells(false_box)},{rng.uniform(0.1, 0.85):.3f}")
        lines["excluded"].append(f"{name},{_START_S + int(rng.integers(2, self.video_s - 1)):04d}")


def _cells(box: Float64[np.ndarray, " 4"]) -> str:
    return ",".join(f"{value:.3f}" for value in box)


def _draw(people: list[Person], second: float | int) -> UInt8[np.ndarray, "height width 3"]:
    """Draw the frame at a second of the video: for each person a box of the clothes' colour, with a head."""
    frame = np.full((HEIGHT, WIDTH, 3), _WALL, np.uint8)
    frame[-HEIGHT // 6 :] = _FLOOR
    for person in people:
        box = person.box(second)
        if box is None:
            continue
        left, top, right, bottom = (box * [WIDTH, HEIGHT, WIDTH, HEIGHT]).round().astype(int).tolist()
        neck, middle = top + (bottom - top) // 3, (left + right) // 2
        frame[neck:bottom, left:right] = COLOURS[person.colour]
        frame[top:neck, middle - 6 : middle + 6] = _SKIN
    return frame


def _write_video(path: Path, people: list[Person], duration_s: int) -> None:
    with open_h264(path, WIDTH, HEIGHT, Fraction(RATE), {"crf": "20", "preset": "superfast"}) as video:
        for index in range(duration_s * RATE):
            video.write(_draw(people, index / RATE))
