from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from clep.video.decoding import DecodedFrame, Timeline


def picture(number: int) -> Any:
    import av

    frame = av.VideoFrame(2, 2, "gray")
    frame.pts = number
    return frame


def frames(seconds: Sequence[float | None], lasts: float | None = None) -> list[DecodedFrame]:
    return [DecodedFrame(picture(number), second, lasts) for number, second in enumerate(seconds)]


def given(timeline: Timeline, seconds: Sequence[float | None], lasts: float | None = None) -> SimpleNamespace:
    pairs = list(timeline.in_order(frames(seconds, lasts)))
    return SimpleNamespace(
        seconds=[pytest.approx(second, abs=1e-9) for second, _ in pairs], numbers=[f.picture.pts for _, f in pairs]
    )


def test_seconds_count_from_the_first_frame() -> None:
    timeline = Timeline(0.04)
    assert given(timeline, [5.0, 5.1, 5.3], 0.2).seconds == [0.0, 0.1, 0.3]
    assert timeline.end_s == pytest.approx(0.5)
    assert timeline.dropped == 0


def test_last_frame_lasts_the_mean_interval_where_nothing_is_said() -> None:
    timeline = Timeline(0.04)
    given(timeline, [0.0, 0.1, 0.4])
    assert timeline.end_s == pytest.approx(0.6)
    one = Timeline(0.04)
    given(one, [3.0])
    assert one.end_s == pytest.approx(0.04)


def test_missing_timestamps_follow_at_the_mean_interval() -> None:
    assert given(Timeline(0.04), [None, None, None]).seconds == [0.0, 0.04, 0.08]
    assert given(Timeline(0.04), [1.0, 1.1, 1.2, None]).seconds == [0.0, 0.1, 0.2, 0.3]


@pytest.mark.parametrize(
    ("seconds", "kept"),
    [
        ([0.0, 0.1, 0.05, 0.2], [0, 2, 3]),  # without the first of the two, time goes forward
        ([0.0, 0.1, 0.2, 0.0, 0.3], [0, 1, 2, 4]),  # without the second
        ([0.0, 0.1, 900.0, 0.2, 0.3], [0, 1, 3, 4]),  # far ahead
        ([77.0, 0.0, 0.1], [1, 2]),  # the very first one
        ([0.0, 0.1, 0.1, 0.2], [0, 2, 3]),  # the same twice
    ],
)
def test_one_wrong_timestamp_costs_one_frame(seconds: list[float], kept: list[int]) -> None:
    timeline = Timeline(0.1)
    result = given(timeline, seconds)
    assert result.numbers == kept
    assert result.seconds == [seconds[number] - seconds[kept[0]] for number in kept]
    assert timeline.dropped == 1


def test_drops_what_cannot_be_within_the_video() -> None:
    timeline = Timeline(0.1, longest_s=10.0)
    assert given(timeline, [0.0, 0.1, 1e6, 2e6, 0.2]).numbers == [0, 1, 4]
    assert timeline.dropped == 2
    last = Timeline(0.1, longest_s=10.0)
    given(last, [0.0, 0.1, 0.2], lasts=1e9)
    assert last.end_s == pytest.approx(0.3)


def test_clock_that_was_set_back_goes_on() -> None:
    timeline = Timeline(0.1)
    seconds = [number * 0.1 for number in range(50)]
    result = given(timeline, seconds + seconds)
    assert timeline.dropped == 16
    assert len(result.numbers) == 84
    assert result.numbers[50] == 50 + 16
    assert timeline.end_s == pytest.approx(8.5, abs=0.11)


def test_goes_on_after_a_seek_relative_to_the_first_frame() -> None:
    timeline = Timeline(0.1)
    given(timeline, [5.0, 5.1])
    assert given(timeline, [20.0, 20.1]).seconds == [15.0, 15.1]
    assert timeline.interval_s == pytest.approx(0.1)


def test_nothing_decoded() -> None:
    timeline = Timeline(0.1)
    assert list(timeline.in_order([])) == []
    assert timeline.first_s is None
