"""Rows of pixels are the pixels."""

from pathlib import Path

import numpy as np
import pytest
import torch

from clep.bank import FeatureBank
from clep.errors import InputError
from clep.preprocess.videos import Videos
from clep.video import DenseWindows, VideoReader
from clep.video.encoders import Pixels
from tests.video.made_videos import regular, write_video


def test_a_bank_of_pixels_is_a_cache_of_frames(tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    film = write_video(tmp_path / "films" / "a.mp4", regular(40, 30))
    encoder = {"_target_": "clep.video.encoders.Pixels", "side_px": 24}
    Videos(
        videos=film.parent,
        output=tmp_path / "bank.h5",
        dtype="uint8",
        extraction={"encoder": encoder, "window": 4, "stride": 4},
    ).run()
    bank = FeatureBank.open(tmp_path / "bank.h5")
    assert (bank.encoder, bank.dtype, bank.dim, bank.clock.rows_per_second) == (
        "pixels-24",
        torch.uint8,
        3 * 24**2,
        7.5,
    )
    frames = [clip.frames[0] for clip in VideoReader(film, 24).clips(DenseWindows(4, 4), 1)]
    cut = torch.stack([frame[:, :, 8:32] for frame in frames])  # 24 of 40 columns
    np.testing.assert_array_equal(bank.video_rows("a").unflatten(1, (3, 24, 24)), cut)


def test_its_name_says_its_size_and_a_size_there_must_be() -> None:
    assert (Pixels(32).name, Pixels(32).dim, Pixels(32, "mine").name) == ("pixels-32", 3072, "mine")
    with pytest.raises(InputError, match=r"side_px=0 must be at least 1"):
        Pixels(0)
