from fractions import Fraction
from pathlib import Path

import pytest

from clep.video import Segments, VideoReader
from clep.video.decoding import VideoFile
from tests.video.made_videos import number_of, numbered, on_screen, regular, write_video

NTSC = Fraction(30000, 1001)


def by_hand(times: list[Fraction], end_s: float, rows: int, frames: int) -> list[list[int]]:
    part = end_s / rows
    return [
        [on_screen(times, row * part + (piece + 0.5) * part / frames) for piece in range(frames)] for row in range(rows)
    ]


def found(path: Path, rows: int, frames: int) -> tuple[VideoReader, list[list[int]]]:
    reader = VideoReader(path, 48, threads=2)
    return reader, [[number_of(frame) for frame in clip.frames] for clip in reader.clips(Segments(rows), frames)]


@pytest.mark.parametrize(
    ("ending", "codec", "rate"),
    [
        ("mp4", "libx264", NTSC), ("mp4", "libx264", 60), ("mkv", "libx264", 25), ("mkv", "mpeg4", 30),
        ("avi", "mpeg4", 25), ("avi", "libx264", 25), ("ts", "libx264", 25), ("h264", "libx264", 25),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("rows", "frames"), [(1, 8), (3, 2), (97, 1)])
def test_middle_frame_of_each_part(
    tmp_path: Path, ending: str, codec: str, rate: Fraction | int, rows: int, frames: int
) -> None:
    times = regular(100, rate)
    path = write_video(tmp_path / f"v.{ending}", times, codec, rate)
    stored = [Fraction(round(1000 * second), 1000) for second in times] if ending == "mkv" else times
    reader, clips = found(path, rows, frames)
    assert clips == by_hand(stored, reader.duration_s, rows, frames)
    assert reader.duration_s == pytest.approx(float(100 / rate), abs=2e-3)


def test_seconds_are_the_middles(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", regular(100, 25), rate=25)
    clips = list(VideoReader(path, 48).clips(Segments(4), 2))
    assert [clip.start_s for clip in clips] == pytest.approx([0, 1, 2, 3])
    assert [clip.second for clip in clips] == pytest.approx([0.5, 1.5, 2.5, 3.5])


def test_video_of_one_frame_fills_every_clip(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", regular(1, 30))
    clips = list(VideoReader(path, 48).clips(Segments(2), 3))
    assert [clip.frame_indices for clip in clips] == [(0, 0, 0), (0, 0, 0)]
    assert clips[0].frames[0] is clips[1].frames[2]


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_seeks_where_that_saves_work_and_lands_on_the_same_frames(tmp_path: Path, ending: str) -> None:
    times = [second + 3 for second in regular(1000, 10)]  # 100 s, a key frame every 2 s
    path = write_video(
        tmp_path / f"v.{ending}", times, rate=10, group=20, pictures=[numbered(n, 80, 48) for n in range(1000)]
    )
    reader, clips = found(path, 3, 1)
    assert clips == by_hand(times, 100.0, 3, 1)
    assert reader.decoded_frames < 400
    assert reader.corrupt_packets == 0


def test_near_instants_are_reached_by_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "v.mp4", regular(100, 25), rate=25, group=10)
    monkeypatch.setattr(VideoFile, "seek", lambda *_: pytest.fail("no need to seek"))
    reader, _ = found(path, 8, 4)
    assert reader.decoded_frames <= 102


@pytest.mark.parametrize("lands", [30.0, 1e6])
def test_seek_that_lands_too_late_starts_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lands: float) -> None:
    times = regular(600, 10)
    path = write_video(tmp_path / "v.mp4", times, rate=10, group=20, pictures=[numbered(n, 80, 48) for n in range(600)])
    honest = VideoFile.seek
    monkeypatch.setattr(VideoFile, "seek", lambda self, second: honest(self, second + lands))
    assert found(path, 3, 1)[1] == by_hand(times, 60.0, 3, 1)


def test_seek_that_the_format_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = regular(600, 10)
    path = write_video(tmp_path / "v.mp4", times, rate=10, group=20, pictures=[numbered(n, 80, 48) for n in range(600)])
    monkeypatch.setattr(VideoFile, "seek", lambda *_: False)
    assert found(path, 3, 1)[1] == by_hand(times, 60.0, 3, 1)


def test_only_the_end_of_a_large_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "v.mkv", regular(300, 10), rate=10, audio_s=31.0)
    file = VideoFile(path)
    whole = file.packet_span()
    monkeypatch.setattr("clep.video.decoding._LARGE_BYTES", 0)
    end = file.packet_span()
    file.close()
    assert whole is not None
    assert end is not None
    assert whole == pytest.approx((0.0, 30.0), abs=2e-3)
    assert end[1] == whole[1]
    assert end[0] > 20
