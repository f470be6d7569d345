"""Frames at given seconds: the one on screen, upright, of one height, in the order asked."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from clep.errors import InputError
from clep.video import frames_at
from tests.video.made_videos import number_of, on_screen, regular, write_video


def test_the_frame_on_screen_in_any_order(tmp_path: Path) -> None:
    times = regular(100, 25)
    path = write_video(tmp_path / "v.mp4", times, rate=25)
    seconds = [3.0, 0.0, 1.99, 2.0, 3.0, 3.97]
    frames = frames_at(path, seconds, height=96)
    assert [number_of(frame) for frame in frames] == [on_screen(times, second) for second in seconds]
    assert {tuple(frame.shape) for frame in frames} == {(3, 96, 160)}
    assert frames[0].dtype == torch.uint8


def test_after_the_end_there_is_none(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", regular(50, 25), rate=25)
    frames = frames_at(path, [1.0, 2.5, 100.0], height=48)
    assert [frame is None for frame in frames] == [False, True, True]
    assert frames_at(path, []) == []
    with pytest.raises(InputError, match=r"v\.mp4 lasts 2\.0 s"):
        frames_at(path, [5.0])
    with pytest.raises(InputError, match="height=0"):
        frames_at(path, [1.0], height=0)
    with pytest.raises(InputError, match=r"none\.mp4"):
        frames_at(tmp_path / "none.mp4", [1.0])


@pytest.mark.parametrize(("height", "width"), [(40, 30), (120, 90), (7, 5)])
def test_rotation_and_height(tmp_path: Path, height: int, width: int) -> None:
    """A picture that is 4:3 as stored and is turned: the height is that of the upright picture."""
    picture = np.zeros((64, 48, 3), np.uint8)
    picture[:32] = 200
    path = write_video(tmp_path / "v.mp4", regular(10, 25), rate=25, rotation=90, pictures=[picture] * 10)
    (frame,) = frames_at(path, [0.1], height=height)
    assert frame.shape == (3, height, width)
    assert frame[:, : height // 3].float().mean() > 150
    assert frame[:, -(height // 3) :].float().mean() < 50


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", regular(10, 25), rate=25, aspect=Fraction(2))
    (frame,) = frames_at(path, [0.1], height=48)
    assert frame.shape == (3, 48, 160)
