from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from clep.bank import Clock, FeatureBank, convert_per_video
from clep.errors import InputError
from tests.bank.banks import opened, random_videos, write, write_per_video


@pytest.mark.parametrize("device", ["disk", "cpu", "lmdb"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_the_tutorials_file_is_a_bank(tmp_path: Path, device: str, dtype: type) -> None:
    videos = random_videos(20)
    stored = {
        uid: rows.astype(dtype)[:, None] if i % 2 else rows.astype(dtype)
        for i, (uid, rows) in enumerate(videos.items())
    }
    bank = opened(write_per_video(tmp_path / "old.h5", stored), device, Clock())
    same = FeatureBank.open(write(tmp_path / "new.h5", {uid: videos[uid] for uid in sorted(videos)}, dtype="float32"))
    assert bank.videos == same.videos
    assert bank.clock == Clock()
    video, start = torch.randint(0, 20, (300,)), torch.rand(300, dtype=torch.float64) * 20
    first, last = bank.window(video, start, start + 4)
    assert first.equal(same.window(video, start, start + 4)[0])
    torch.testing.assert_close(bank.mean(first, last), same.mean(first, last), rtol=2e-3, atol=1e-3)
    for uid, rows in videos.items():
        np.testing.assert_array_equal(bank.video_rows(uid), rows)


def test_the_tutorials_file_needs_a_clock(tmp_path: Path) -> None:
    path = write_per_video(tmp_path / "old.h5", random_videos())
    with pytest.raises(InputError, match=r"old\.h5 has one dataset per video.*pass clock=Clock"):
        FeatureBank.open(path)
    with pytest.raises(InputError, match="pass a regular clock"):
        FeatureBank.open(path, clock=Clock.irregular(1.0))


def test_its_keys_are_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_per_video(tmp_path / "old.h5", random_videos())
    listed = []
    whole = h5py.File.__iter__
    monkeypatch.setattr(h5py.File, "__iter__", lambda self: listed.append(1) or whole(self))
    bank = FeatureBank.open(path, clock=Clock())
    asked = len(listed)
    assert asked <= 2  # once the first key, to recognise the layout, and once all keys
    bank.index(bank.videos)
    bank.mean(*bank.window(torch.arange(7), torch.zeros(7), torch.ones(7)))
    assert len(listed) == asked


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (np.ones((2, 5), np.float32), r"'zz' has the feature dimension 5, video 'v0_0' has 6"),
        (np.ones((2, 2, 6), np.float32), r"'zz' has the shape \[2, 2, 6\]"),
        (np.ones(6, np.float32), r"'zz' has the shape \[6\]"),
        (np.ones((0, 6), np.float32), r"'zz' has the shape \[0, 6\]"),
        (np.ones((2, 6), np.int32), "'zz' holds int32"),
    ],
)
def test_an_invalid_video_is_named(tmp_path: Path, wrong: np.ndarray, words: str) -> None:
    path = write_per_video(tmp_path / "old.h5", random_videos() | {"zz": wrong})
    with pytest.raises(InputError, match=rf"old\.h5.*{words}"):
        FeatureBank.open(path, clock=Clock())


def test_compressed_and_double_precision_files_open_in_ram(tmp_path: Path) -> None:
    videos = random_videos()
    path = write_per_video(tmp_path / "old.h5", videos, compression="gzip")
    with pytest.raises(InputError, match=r"old\.h5: 'v0_\d' is chunked, compressed"):
        FeatureBank.open(path, clock=Clock())
    assert FeatureBank.open(path, "cpu", clock=Clock()).n_rows == sum(map(len, videos.values()))
    double = write_per_video(tmp_path / "double.h5", {"a": np.full((3, 2), 0.1)})
    with pytest.raises(InputError, match="stores float64: open the bank with device='cpu', dtype='float32'"):
        FeatureBank.open(double, clock=Clock())
    assert FeatureBank.open(double, "cpu", "float32", Clock()).mean([0], [3]).tolist()[0] == pytest.approx([0.1, 0.1])


def test_conversion(tmp_path: Path) -> None:
    videos = random_videos()
    path = write_per_video(tmp_path / "old.h5", {uid: rows[:, None].astype(np.float32) for uid, rows in videos.items()})
    convert_per_video(path, tmp_path / "new.h5", Clock(2.0, 1.0), encoder="e")
    bank = FeatureBank.open(tmp_path / "new.h5")
    assert (bank.clock, bank.encoder, bank.source, bank.dtype) == (Clock(2.0, 1.0), "e", "old.h5", torch.float16)
    for uid, rows in videos.items():
        np.testing.assert_array_equal(bank.video_rows(uid), rows)
    with pytest.raises(InputError, match="does not exist"):
        convert_per_video(tmp_path / "none.h5", tmp_path / "out.h5", Clock())
