"""Films of one colour each, and a list of them whose labels are the colours: what anything can learn in seconds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.video.encoders import tiny_models
from tests.video.made_videos import regular, write_video

COLOURS = ((220, 40, 40), (40, 200, 60), (50, 60, 220))


def write_films(folder: Path, count: int = 12, frames: int = 8, broken: Sequence[int] = ()) -> Path:
    """Write films of a colour with a little noise, some of them cut off, and `train.csv`; return the list."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(count):
        label = number % len(COLOURS)
        pictures = [np.clip(rng.normal(COLOURS[label], 8, (32, 48, 3)), 0, 255).astype(np.uint8) for _ in range(frames)]
        path = folder / f"film{number}.mp4"
        write_video(path, regular(frames, 8), rate=8, pictures=pictures)
        if number in broken:
            path.write_bytes(path.read_bytes()[:60])
        lines.append(f"{path.name} {label}")
    (folder / "train.csv").write_text("\n".join(lines) + "\n")
    return folder / "train.csv"


def tiny_timesformer(folder: Path) -> dict[str, object]:
    """Write a TimeSformer of two layers into a folder; return the config that loads it."""
    tiny_models.timesformer(folder)
    return {
        "_target_": "clep.video.encoders.TimeSformer",
        "weights": str(folder),
        "width": None,
        "depth": None,
        "heads": None,
    }
