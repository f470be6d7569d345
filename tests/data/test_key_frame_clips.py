"""Clips around key frames, and boxes that are transformed together with the pixels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from clep.data import KeyFrameClips
from clep.data.key_frame_clips import flipped
from clep.errors import InputError
from tests.video.made_videos import regular, write_video


def film(path: Path) -> Path:
    frame = np.full((64, 128, 3), 30, np.uint8)
    frame[16:48, 64:96] = (250, 0, 0)
    return write_video(path, regular(30, 10), rate=10, pictures=[frame] * 30)


BOX = torch.tensor([[0.5, 0.25, 0.75, 0.75], [0.1, 0.1, 0.3, 0.9]])


def redness(clip: Tensor, box: Tensor) -> float:
    """The fraction of the box that is red."""
    side = clip.shape[-1]
    left, top, right, bottom = (box * side).round().int().tolist()
    inside = clip[:, :, top:bottom, left:right].float()
    return float(((inside[:, 0] > 150) & (inside[:, 1] < 100)).float().mean())


def test_a_clip_is_the_frame_squeezed_to_a_square(tmp_path: Path) -> None:
    film(tmp_path / "v.mp4")
    clips = KeyFrameClips(str(tmp_path), frames=3, side_px=48, clip_s=1.0)
    found = clips.read("v", [902.0, 901.0])
    assert set(found) == {901.0, 902.0}
    assert found[901.0].shape == (3, 3, 48, 48)
    assert found[901.0].dtype == torch.uint8
    assert redness(found[901.0], BOX[0]) > 0.9
    assert redness(found[901.0], BOX[1]) == 0.0


def test_boxes_move_with_the_pixels(tmp_path: Path) -> None:
    film(tmp_path / "v.mp4")
    clips = KeyFrameClips(str(tmp_path), frames=1, side_px=96, scale=0.6, flip=0.5)
    clip = clips.read("v", [901.0])[901.0]
    seen = set()
    for seed in range(20):
        moved, boxes = clips.augment(clip, BOX, torch.Generator().manual_seed(seed))
        assert moved.shape == clip.shape
        assert ((boxes >= 0) & (boxes <= 1)).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert redness(moved, boxes[0]) > 0.8
        seen.add(tuple(boxes[0].tolist()))
        again, same = clips.augment(clip, BOX, torch.Generator().manual_seed(seed))
        assert torch.equal(again, moved)
        assert torch.equal(same, boxes)
    assert len(seen) > 10
    still = KeyFrameClips(str(tmp_path), scale=1.0, flip=0.0)
    moved, boxes = still.augment(clip, BOX, torch.Generator().manual_seed(0))
    assert torch.equal(moved, clip)
    torch.testing.assert_close(boxes, BOX)


def test_a_video_in_a_subfolder_is_found_as_by_the_job(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    film(tmp_path / "part" / "v.mp4").rename(tmp_path / "part" / "v.MP4")
    assert set(KeyFrameClips(str(tmp_path), frames=1, side_px=32).read("v", [901.0])) == {901.0}


def test_a_flipped_box() -> None:
    torch.testing.assert_close(flipped(torch.tensor([[0.1, 0.2, 0.4, 0.8]])), torch.tensor([[0.6, 0.2, 0.9, 0.8]]))


def test_missing_videos_are_named(tmp_path: Path) -> None:
    film(tmp_path / "v.mp4")
    clips = KeyFrameClips(str(tmp_path))
    with pytest.raises(InputError, match=r"has no w\.mp4 and no folder w"):
        clips.read("w", [901.0])
    with pytest.raises(InputError, match=r"v\.mp4 has no frame at second 950"):
        clips.read("v", [901.0, 950.0])
    for wrong in ({"frames": 0}, {"scale": 0.0}, {"flip": 2.0}):
        with pytest.raises(InputError, match=r"data\.clips"):
            KeyFrameClips(str(tmp_path), **wrong)
