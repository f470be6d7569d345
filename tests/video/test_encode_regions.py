"""Boxes to rows: the geometry of resizing, which seconds have rows, and what is told of those that have none."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from clep.errors import InputError
from clep.video import ClipSpec, VideoEncoder
from clep.video.regions import EncodedRegions
from tests.video.made_videos import regular, write_video

CELL = 8


class Colours(VideoEncoder):
    """The features of a place are the mean red, green and blue of a square of pixels."""

    name, dim, frame_wise = "colours", 3, False

    def __init__(self, frames: int = 2, side: int = 64, any_size: bool = False, frame_wise: bool = False) -> None:
        super().__init__()
        self.clip = ClipSpec(frames, side, side, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        self.any_size, self.frame_wise = any_size, frame_wise
        self.images = 0

    def spatial(self, pixels: Tensor) -> Tensor:
        self.images += pixels.shape[0] * pixels.shape[1]
        cells = torch.nn.functional.avg_pool2d(pixels.flatten(0, 1), CELL)
        return cells.unflatten(0, pixels.shape[:2]).transpose(1, 2)


PLACE = (0.5, 0.25, 0.75, 0.75)
"""Where the red rectangle is, in fractions of the frame: right of the middle, which a centre crop would move."""


def picture(width: int = 320, height: int = 128, colour: tuple[int, int, int] = (250, 0, 0)) -> np.ndarray:
    frame = np.full((height, width, 3), 40, np.uint8)
    left, top, right, bottom = (round(at * side) for at, side in zip(PLACE, (width, height) * 2, strict=True))
    frame[top:bottom, left:right] = colour
    return frame


def boxes(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


def encode(
    path: Path, encoder: VideoEncoder, at: dict[float, np.ndarray], **options
) -> tuple[np.ndarray, EncodedRegions]:
    encoded = EncodedRegions(path, encoder, at, threads=1, **options)
    return np.concatenate(list(encoded)), encoded


@pytest.mark.parametrize(("any_size", "rotation"), [(False, 0), (True, 0), (False, 90)])
def test_a_row_depends_on_its_box_in_the_upright_frame(tmp_path: Path, any_size: bool, rotation: int) -> None:
    frame = picture() if not rotation else picture(128, 320)
    path = write_video(tmp_path / "v.mp4", regular(30, 10), rate=10, pictures=[frame] * 30, rotation=rotation)
    x1, y1, x2, y2 = PLACE
    inside, left, below = PLACE, (x1 - 0.25, y1, x1, y2), (x1, y2, x2, 1.0)
    rows, _ = encode(path, Colours(any_size=any_size), {1.0: boxes(inside, left, below)}, size=1, samples=4, pool="avg")
    assert rows.shape == (3, 3)
    assert rows[0, 0] > 0.85  # red
    assert rows[0, 1] < 0.1
    assert np.abs(rows[1:] - 40 / 255).max() < 0.1  # grey beside and below it


def test_seconds_count_from_where_the_video_starts(tmp_path: Path) -> None:
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
    frames = [picture(colour=colours[number // 10]) for number in range(30)]
    path = write_video(tmp_path / "v.mp4", regular(30, 10), rate=10, pictures=frames)
    # Middles of the three seconds; one before the first frame, and one after the last.
    at = {
        899.0: boxes(PLACE),
        900.5: boxes(PLACE),
        901.5: boxes(PLACE, PLACE),
        902.5: boxes(PLACE),
        904.0: boxes(PLACE),
    }
    rows, encoded = encode(path, Colours(), at, start_s=900.0, span_s=0.4, size=1)
    assert encoded.seconds.tolist() == [900.5, 901.5, 901.5, 902.5]
    assert rows.argmax(1).tolist() == [0, 1, 1, 2]
    assert encoded.n_rows == 4
    assert encoded.note == "2 boxes of 2 seconds have no frame, first at second 899"
    assert encoded.duration_s == pytest.approx(3.0)
    assert encoded.ends_s == pytest.approx(903.0)


def test_frames_that_clips_share_are_encoded_once(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", regular(60, 10), rate=10, pictures=[picture()] * 60)
    at = {float(second): boxes(PLACE) for second in range(1, 5)}
    one_by_one = Colours(4, frame_wise=True)
    rows, _ = encode(path, one_by_one, at, span_s=2.0, batch_size=1)
    clips = Colours(4)
    expected, _ = encode(path, clips, at, span_s=2.0, batch_size=1)
    np.testing.assert_allclose(rows, expected, atol=1e-6)
    assert (one_by_one.images, clips.images) == (10, 16)


def test_max_and_mean_of_the_cells(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", regular(20, 10), rate=10, pictures=[picture()] * 20)
    wide = boxes((0.25, 0.25, 0.75, 0.75))  # half of it red
    largest, _ = encode(path, Colours(), {1.0: wide}, size=4, pool="max")
    mean, _ = encode(path, Colours(), {1.0: wide}, size=4, pool="avg")
    assert largest[0, 0] > 0.85
    assert 0.45 < mean[0, 0] < 0.7


def test_a_folder_of_key_frames(tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    folder.mkdir()
    Image.fromarray(picture()).save(folder / "0902.jpg", quality=95)
    Image.fromarray(picture(colour=(0, 250, 0))).save(folder / "903.png")
    (folder / "0904.jpg").write_bytes(b"not an image")
    (folder / "readme.txt").write_text("")
    at = {float(second): boxes(PLACE) for second in (902, 903, 904, 905)}
    rows, encoded = encode(folder, Colours(), at, size=1)
    assert rows.argmax(1).tolist() == [0, 1]
    assert encoded.seconds.tolist() == [902.0, 903.0]
    assert "2 boxes of 2 seconds have no frame, first at second 904" in encoded.note
    assert np.isnan(encoded.ends_s)
    with pytest.raises(InputError, match="none of the images of 1 key frames can be read: none is there"):
        list(EncodedRegions(folder, Colours(), {907.0: boxes(PLACE)}))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="no image named by its second, such as 0902.jpg"):
        list(EncodedRegions(empty, Colours(), at))


def test_invalid_inputs_are_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", regular(20, 10), rate=10)
    with pytest.raises(InputError, match="starts at second 900, after the last box"):
        EncodedRegions(path, Colours(), {5.0: boxes(PLACE)}, start_s=900.0)
    with pytest.raises(InputError, match=r"v\.mp4 lasts 2\.0 s, but the first key frame is at 3\.0 s"):
        list(EncodedRegions(path, Colours(), {903.0: boxes(PLACE)}, start_s=900.0))
    with pytest.raises(InputError, match="colours needs squares of 64 pixels; use fit=squeeze"):
        EncodedRegions(path, Colours(), {1.0: boxes(PLACE)}, how="whole")

    class Blind(Colours):
        spatial = VideoEncoder.spatial

    with pytest.raises(InputError, match="Blind has no feature map"):
        list(EncodedRegions(path, Blind(), {1.0: boxes(PLACE)}))
