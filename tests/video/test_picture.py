from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from clep.video import DenseWindows, VideoReader
from tests.video.made_videos import number_of, numbered, regular, write_video


def first_frame(path: Path, short_side_px: int = 48, left_eye: bool = False) -> Tensor:
    return next(VideoReader(path, short_side_px, left_eye).clips(DenseWindows(), 1)).frames[0]


def corners(width: int = 160, height: int = 96) -> np.ndarray:
    """Draw a red, a green, a blue and a white quarter, from the top left by rows."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = [255, 0, 0]
    picture[: height // 2, width // 2 :] = [0, 255, 0]
    picture[height // 2 :, : width // 2] = [0, 0, 255]
    picture[height // 2 :, width // 2 :] = 255
    return picture


def colour(frame: Tensor, down: float, across: float) -> list[float]:
    return frame[:, int(down * frame.shape[1]), int(across * frame.shape[2])].tolist()


@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
def test_upright_in_the_right_colours(tmp_path: Path, rotation: int) -> None:
    path = write_video(tmp_path / "v.mp4", regular(3, 30), pictures=[corners()] * 3, rotation=rotation)
    frame = first_frame(path)
    assert frame.shape == (3, 48, 80)
    assert frame.dtype == torch.uint8
    assert frame.is_contiguous()
    for place, expected in {
        (0.25, 0.25): [255, 0, 0], (0.25, 0.75): [0, 255, 0], (0.75, 0.25): [0, 0, 255], (0.75, 0.75): [255, 255, 255],
    }.items():  # fmt: skip
        assert colour(frame, *place) == pytest.approx(expected, abs=12)


def test_close_to_a_slow_average_of_the_decoded_frame(tmp_path: Path) -> None:
    rows, columns = np.mgrid[0:96, 0:160]
    smooth = np.stack([2 * rows, columns, 255 - rows - columns], 2).astype(np.uint8)
    path = write_video(tmp_path / "v.mp4", regular(1, 30), pictures=[smooth])
    with av.open(str(path)) as file:
        whole = next(file.decode(video=0)).to_ndarray(format="rgb24")
    by_hand = whole.reshape(24, 4, 40, 4, 3).mean((1, 3)).transpose(2, 0, 1)
    assert np.abs(first_frame(path, 24).numpy() - by_hand).mean() < 2


@pytest.mark.parametrize(
    ("width", "height", "short", "shape"),
    [
        (160, 96, 24, (24, 40)), (96, 160, 24, (40, 24)), (98, 54, 27, (27, 49)), (16, 16, 64, (64, 64)),
        (32, 18, 224, (224, 398)), (640, 16, 32, (32, 512)), (130, 70, 33, (33, 61)),
    ],
)  # fmt: skip
def test_sizes(tmp_path: Path, width: int, height: int, short: int, shape: tuple[int, int]) -> None:
    path = write_video(tmp_path / "v.mp4", regular(2, 30), pictures=[numbered(0, width, height)] * 2)
    assert first_frame(path, short).shape == (3, *shape)


def test_odd_size(tmp_path: Path) -> None:
    pictures = [numbered(5, 161, 97)]
    path = write_video(tmp_path / "v.mkv", regular(1, 30), codec="ffv1", pictures=pictures, pixel_format="yuv444p")
    assert first_frame(path, 97).shape == (3, 97, 161)
    assert number_of(first_frame(path, 97)) == 5


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", regular(1, 30), aspect=Fraction(3, 2))
    assert first_frame(path, 48).shape == (3, 48, 120)


@pytest.mark.parametrize("rotation", [0, 90])
def test_left_eye_is_the_left_half(tmp_path: Path, rotation: int) -> None:
    stereo = np.concatenate([numbered(77), numbered(500)], axis=1)
    path = write_video(tmp_path / "v.mp4", regular(2, 30), pictures=[stereo] * 2, rotation=rotation)
    frame = first_frame(path, 48, left_eye=True)
    assert frame.shape == (3, 48, 80)
    assert number_of(frame) == 77


def test_ten_bits_a_colour(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "v.mkv", regular(1, 30), codec="ffv1", pictures=[corners()], pixel_format="yuv420p10le"
    )
    assert colour(first_frame(path), 0.25, 0.25) == pytest.approx([255, 0, 0], abs=4)
