from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from clep.video import DenseWindows, VideoReader
from clep.video import clips as dense_module
from tests.video.made_videos import dense_by_hand, number_of, numbered, regular, write_video

NTSC = Fraction(30000, 1001)
FILES = [
    ("mp4", "libx264", 25), ("mp4", "libx264", NTSC), ("mp4", "libx264", 30), ("mp4", "libx264", 60),
    ("mp4", "libx264", 10), ("mkv", "libx264", NTSC), ("mkv", "libx264", 60), ("mkv", "mpeg4", 25),
    ("avi", "libx264", 25), ("avi", "mpeg4", NTSC), ("avi", "mpeg4", 60), ("ts", "libx264", NTSC),
    ("mov", "libx264", 50),
]  # fmt: skip


def clips_of(path: Path, sampling: DenseWindows, frames: int, threads: int = 2) -> tuple[VideoReader, list[list[int]]]:
    reader = VideoReader(path, 48, threads=threads)
    return reader, [[number_of(frame) for frame in clip.frames] for clip in reader.clips(sampling, frames)]


@pytest.mark.parametrize(("ending", "codec", "rate"), FILES)
def test_each_clip_shows_the_right_frames(tmp_path: Path, ending: str, codec: str, rate: Fraction | int) -> None:
    times = regular(101, rate)
    path = write_video(tmp_path / f"v.{ending}", times, codec, rate)
    for sampling, frames in [(DenseWindows(), 8), (DenseWindows(32, 16, 30), 32), (DenseWindows(10, 7, 12.5), 3)]:
        reader, found = clips_of(path, sampling, frames)
        stored = [Fraction(round(1000 * second), 1000) for second in times] if ending == "mkv" else times
        assert found == dense_by_hand(stored, 101 / rate, sampling.window, sampling.stride, sampling.rate, frames)
        assert reader.duration_s == pytest.approx(float(101 / rate), abs=2e-3)
        assert reader.decoded_frames == 101
        assert reader.corrupt_packets == 0
        assert reader.resized_frames == len({number for clip in found for number in clip})


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_variable_rate(tmp_path: Path, ending: str) -> None:
    generator = np.random.default_rng(0)
    gaps = generator.choice([1 / 120, 1 / 60, 1 / 30, 0.1, 0.7], 150)
    times = [Fraction(round(1000 * second), 1000) for second in np.concatenate([[0], np.cumsum(gaps)])]
    path = write_video(tmp_path / f"v.{ending}", times)
    reader, found = clips_of(path, DenseWindows(), 8)
    assert reader.duration_s == pytest.approx(float(times[-1]), abs=0.5)
    assert reader.duration_s > float(times[-1])
    assert found == dense_by_hand(times, reader.duration_s, 32, 16, 30.0, 8)


@pytest.mark.parametrize("count", [1, 2, 5, 31, 32, 33, 39, 48])
def test_short_videos(tmp_path: Path, count: int) -> None:
    times = regular(count, 30)
    path = write_video(tmp_path / "v.mp4", times)
    _, found = clips_of(path, DenseWindows(), 4)
    assert found == dense_by_hand(times, count / 30, 32, 16, 30.0, 4)
    clips = list(VideoReader(path, 48).clips(DenseWindows(), 4))
    assert [round(clip.start_s * 30) for clip in clips] == DenseWindows().starts(count)


def test_windows_with_gaps_between_them(tmp_path: Path) -> None:
    times = regular(200, 30)
    path = write_video(tmp_path / "v.mp4", times)
    _, found = clips_of(path, DenseWindows(window=4, stride=50), 2)
    assert found == dense_by_hand(times, 200 / 30, 4, 50, 30.0, 2)
    assert found[-1] == [197, 199]


def test_first_frame_may_come_late(tmp_path: Path) -> None:
    times = [second + 5 for second in regular(60, 30)]
    path = write_video(tmp_path / "v.mkv", times)
    reader, found = clips_of(path, DenseWindows(), 8)
    assert found == dense_by_hand(times, 2.0, 32, 16, 30.0, 8)
    assert reader.duration_s == pytest.approx(2.0, abs=2e-3)


def test_sound_after_the_last_frame_gives_no_rows(tmp_path: Path) -> None:
    times = regular(39, 30)
    path = write_video(tmp_path / "v.mp4", times, audio_s=20.0)
    reader, found = clips_of(path, DenseWindows(), 8)
    assert len(found) == 2
    assert reader.duration_s == pytest.approx(1.3, abs=2e-3)


@pytest.mark.parametrize("ending", ["mp4", "avi"])
def test_number_of_threads_has_no_effect(tmp_path: Path, ending: str) -> None:
    path = write_video(tmp_path / f"v.{ending}", regular(70, 30))
    assert clips_of(path, DenseWindows(), 8, 1)[1] == clips_of(path, DenseWindows(), 8, 7)[1]


def test_without_timestamps_the_rate_counts(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.h264", regular(60, 25), rate=25, container="h264")
    _, found = clips_of(path, DenseWindows(10, 10, 25), 10)
    assert found == [list(range(start, start + 10)) for start in range(0, 60, 10)]


def test_equal_frame_indices_share_one_tensor(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", regular(30, 10), rate=10)
    seen: dict[int, int] = {}
    for clip in list(VideoReader(path, 48).clips(DenseWindows(), 16)):
        for number, frame in zip(clip.frame_indices, clip.frames, strict=True):
            assert seen.setdefault(number, frame.data_ptr()) == frame.data_ptr()
            assert number == number_of(frame)


def test_memory_holds_one_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 3000
    pictures = [numbered(number % 1024, 80, 48) for number in range(count)]
    path = write_video(tmp_path / "v.mp4", regular(count, 30), pictures=pictures, group=250)
    most = 0
    alive = 0

    class Counted(dense_module._Shown):
        def __init__(self, *args: object) -> None:
            nonlocal alive, most
            super().__init__(*args)
            alive += 1
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    monkeypatch.setattr(dense_module, "_Shown", Counted)
    rows = sum(1 for _ in VideoReader(path, 48).clips(DenseWindows(), 4))
    assert rows == len(DenseWindows().starts(count))
    assert most <= 36


def test_large_frames_are_resized_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = regular(60, 30)
    path = write_video(tmp_path / "v.mp4", times)
    monkeypatch.setattr(dense_module, "_WAITING_BYTES", 1)
    reader, found = clips_of(path, DenseWindows(), 2)
    assert found == dense_by_hand(times, 2.0, 32, 16, 30.0, 2)
    assert reader.resized_frames >= 59
