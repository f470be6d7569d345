"""Clips around given seconds: the frames that the rule names, whatever the order of the instants in the file."""

from fractions import Fraction
from pathlib import Path

import pytest

from clep.errors import InputError
from clep.video import KeyFrames, VideoReader
from tests.video.made_videos import number_of, on_screen, regular, write_video


def by_hand(times: list[Fraction], seconds: tuple[float, ...], span_s: float, frames: int, end_s: float) -> list:
    clips = []
    for second in seconds:
        instants = [second - span_s / 2 + (piece + 0.5) * span_s / frames for piece in range(frames)]
        clips.append([on_screen(times, min(max(at, 0.0), end_s)) for at in instants])
    return clips


@pytest.mark.parametrize(("span_s", "frames"), [(2.0, 4), (2.0, 5), (0.0, 1), (0.5, 3), (6.0, 2)])
def test_the_frames_around_each_second(tmp_path: Path, span_s: float, frames: int) -> None:
    times = regular(160, 10)
    path = write_video(tmp_path / "v.mp4", times, rate=10, group=25)
    seconds = (0.0, 1.0, 2.0, 2.5, 3.0, 9.0, 14.0, 15.0)
    reader = VideoReader(path, 48)
    clips = list(reader.clips(KeyFrames(seconds, span_s), frames))
    found = [[number_of(frame) for frame in clip.frames] for clip in clips]
    assert found == by_hand(times, seconds, span_s, frames, 15.99)
    assert [clip.second for clip in clips] == list(seconds)
    assert reader.duration_s == pytest.approx(16.0)
    assert reader.resized_frames <= len({number for clip in found for number in clip})


def test_frames_between_key_frames_are_not_decoded(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", regular(400, 10), rate=10, group=10)
    reader = VideoReader(path, 48)
    (first, second) = reader.clips(KeyFrames((1.0, 35.0), 0.0), 1)
    assert [number_of(first.frames[0]), number_of(second.frames[0])] == [10, 350]
    assert reader.decoded_frames < 60


def test_seconds_after_the_end_have_no_clip(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", regular(30, 10), rate=10)
    clips = VideoReader(path, 48).clips(KeyFrames((1.0, 2.9, 3.0, 900.0)), 2)
    assert [clip.second for clip in clips] == [1.0, 2.9]
    with pytest.raises(InputError, match=r"v\.mp4 lasts 3\.0 s, but the first key frame is at 902\.0 s"):
        list(VideoReader(path, 48).clips(KeyFrames((902.0,)), 2))


@pytest.mark.parametrize("seconds", [(1.0, 1.0), (2.0, 1.0), (-1.0,), (float("nan"),)])
def test_seconds_that_do_not_ascend_are_refused(seconds: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="ascending seconds"):
        KeyFrames(seconds)
    with pytest.raises(InputError, match="covers 0 s or more"):
        KeyFrames((1.0,), -1.0)


def test_a_stated_length_may_be_trusted(tmp_path: Path) -> None:
    times = regular(400, 10)
    path = write_video(tmp_path / "v.mp4", times, rate=10, group=10)
    told = [number_of(clip.frames[0]) for clip in VideoReader(path, 48).clips(KeyFrames((5.0, 20.0, 37.0), 0.0), 1)]
    trusted = KeyFrames((5.0, 20.0, 37.0), 0.0, trusts_length=True)
    reader = VideoReader(path, 48)
    assert [number_of(clip.frames[0]) for clip in reader.clips(trusted, 1)] == told == [50, 200, 370]
    assert reader.decoded_frames < 80
    late = KeyFrames((5.0, 99.0), 0.0, trusts_length=True)  # further than the file says that it reaches
    assert [clip.second for clip in VideoReader(path, 48).clips(late, 1)] == [5.0]
