"""Clips decoded for training and for evaluation."""

from pathlib import Path

import pytest
import torch

from clep.data import Augmentation, LabelledVideos
from clep.data.sampler import Draw
from clep.data.video_clips import FixedViews, RandomClips
from clep.errors import InputError
from clep.video import ClipSpec, Segments, VideoReader
from tests.colour_films import COLOURS, write_films
from tests.video.made_videos import number_of, regular, write_video

SPEC = ClipSpec(4, 16, 16, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
NOTHING = Augmentation(short_side=1.0, scales=[1.0], flip=0.0)


def test_augmentation_depends_only_on_the_seed_and_the_example(tmp_path: Path) -> None:
    videos = LabelledVideos.read(write_films(tmp_path, 5))
    clips = RandomClips(videos, SPEC, Augmentation())
    batch = clips.__getitems__(Draw(torch.tensor([3, 1, 4]), seed=7))
    assert (batch["pixels"].shape, batch["pixels"].dtype) == ((3, 4, 3, 16, 16), torch.uint8)
    assert batch["target"].tolist() == [0, 1, 1]
    assert batch["unreadable"] == []
    alone = clips.__getitems__(Draw(torch.tensor([1]), seed=7))
    assert torch.equal(alone["pixels"][0], batch["pixels"][1])
    assert not torch.equal(clips.__getitems__(Draw(torch.tensor([1]), seed=8))["pixels"], alone["pixels"])
    mean = batch["pixels"].float().mean((1, 3, 4))
    torch.testing.assert_close(mean, torch.tensor([COLOURS[0], COLOURS[1], COLOURS[1]]).float(), atol=8, rtol=0)


def test_frames_of_a_training_clip_come_from_all_of_the_video_in_order(tmp_path: Path) -> None:
    write_video(tmp_path / "numbered.mp4", regular(80, 20), rate=20)
    (tmp_path / "list.csv").write_text("numbered.mp4 0\n")
    spec = ClipSpec(4, 96, 96, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    seen = set()
    for seed in range(12):
        sampled = VideoReader(tmp_path / "numbered.mp4", 96).clips(_random(seed), spec.frames)
        numbers = [number_of(frame) for frame in next(sampled).frames]
        assert [number // 20 for number in numbers] == [0, 1, 2, 3]
        seen |= set(numbers)
    assert len(seen) > 25


def _random(seed: int) -> Segments:
    from clep.video import RandomSegment

    return RandomSegment(seed=seed)


def test_fixed_views_are_segments_and_crops(tmp_path: Path) -> None:
    videos = LabelledVideos.read(write_films(tmp_path, 2, frames=16))
    views = FixedViews(videos, SPEC, views=2, crops="three")
    pixels = views.__getitems__([1])["pixels"]
    assert pixels.shape == (1, 6, 4, 3, 16, 16)
    parts = [torch.stack(clip.frames) for clip in VideoReader(tmp_path / "film1.mp4", 16).clips(Segments(2), 4)]
    wide = parts[0].shape[-1]
    expected = [part[..., left : left + 16] for part in parts for left in (0, (wide - 16) // 2, wide - 16)]
    assert torch.equal(pixels[0], torch.stack(expected))
    assert torch.equal(views.__getitems__(Draw(torch.tensor([1]), 99))["pixels"], pixels)


def test_a_video_that_cannot_be_decoded_has_no_target(tmp_path: Path) -> None:
    videos = LabelledVideos.read(write_films(tmp_path, 3, broken=[1]))
    for dataset in (RandomClips(videos, SPEC, NOTHING), FixedViews(videos, SPEC)):
        batch = dataset.__getitems__([0, 1, 2])
        assert batch["target"].tolist() == [0, -1, 2]
        assert not batch["pixels"][1].any()
        (reason,) = batch["unreadable"]
        assert "film1.mp4" in reason


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"short_side": 0.9}, r"short_side=0\.9"),
        ({"views": 0}, r"views=0"),
        ({"flip": 1.5}, r"flip=1\.5"),
        ({"scales": []}, r"scales=\[\]"),
        ({"scales": [1.0, 1.2]}, r"scales=\[1\.0, 1\.2\]"),
    ],
)
def test_invalid_augmentations_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Augmentation(**options)
