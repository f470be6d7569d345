"""Small films, and an encoder that costs nothing."""

import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clep.extraction import shard
from clep.extraction import videos as video_rows
from clep.preprocess.videos import Videos
from clep.video import ClipSpec, VideoEncoder
from tests.flushes import recorded_flushes
from tests.preprocess.conftest import canary
from tests.video.made_videos import regular, write_video

__all__ = ["canary"]
FAKE = {"_target_": "clep.video.encoders.EfficientNetLite0"}  # replaced below, so that nothing is loaded
EXTRACTION = {"encoder": FAKE, "clip_batch": 1}


def run(films: Path, output: Path, **options) -> dict[str, Any]:
    """Run the job `videos` with options of the job and of its extraction; batches of one clip need no padding."""
    outer = {key: options.pop(key) for key in ("dtype", "on_error", "overwrite") if key in options}
    return Videos(videos=films, output=output, extraction={**EXTRACTION, **options}, **outer).run()


class Brightness(VideoEncoder):
    """A clip's row is the mean of its colours and of its left half; `error` makes it fail after `error_after` clips."""

    name, dim, frame_wise = "brightness", 4, False

    def __init__(self) -> None:
        super().__init__()
        self.clip = ClipSpec(2, 32, 32, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        self.clips = 0
        self.error: BaseException | None = None
        self.error_after = 0

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.clips += len(pixels)
        if self.error is not None and self.clips > self.error_after:
            raise self.error
        return torch.cat([pixels.mean((1, 3, 4)), pixels[..., :16].mean((1, 2, 3, 4))[:, None]], 1)


@pytest.fixture(autouse=True)
def _flushed(tmp_path) -> Iterator[None]:
    """Every job of every test writes so that a power cut leaves a file whole or absent."""
    with recorded_flushes(tmp_path) as record:
        yield
    assert record.faults == []


@pytest.fixture
def encoder(monkeypatch) -> Brightness:
    made = Brightness()
    shard.unload_encoder()
    monkeypatch.setattr(video_rows, "load_video_encoder", lambda config, device: made)
    return made


@pytest.fixture
def films(tmp_path, encoded_films):
    """Five films of 1 to 3 seconds in two folders."""
    return shutil.copytree(encoded_films, tmp_path / "films")


@pytest.fixture(scope="session")
def encoded_films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoded") / "films"
    (folder / "more").mkdir(parents=True)
    for name, frames, rate in (
        ("a", 60, 30),
        ("b", 25, 25),
        ("more/c", 90, 30),
        ("more/d", 45, Fraction(30000, 1001)),
        ("e", 31, 30),
    ):
        level = np.random.default_rng(len(name) + frames).integers(0, 255, (frames, 1, 1, 3), dtype=np.uint8)
        pictures = [np.broadcast_to(one, (48, 64, 3)) for one in level]
        write_video(folder / f"{name}.mp4", regular(frames, rate), rate=rate, pictures=pictures)
    return folder
