from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from clep.video.decoding import DecodedFrame, PacketClock, Timeline


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


def test_last_frame_lasts_the_mean_interval_without_a_stated_duration() -> None:
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
def test_one_wrong_timestamp_drops_one_frame(seconds: list[float], kept: list[int]) -> None:
    timeline = Timeline(0.1)
    result = given(timeline, seconds)
    assert result.numbers == kept
    assert result.seconds == [seconds[number] - seconds[kept[0]] for number in kept]
    assert timeline.dropped == 1


def test_an_implausible_duration_of_the_last_frame() -> None:
    last = Timeline(0.1, stated_s=10.0)
    given(last, [0.0, 0.1, 0.2], lasts=1e9)
    assert last.end_s == pytest.approx(0.3)
    slide = Timeline(0.1, stated_s=10.0)
    given(slide, [0.0, 0.1, 0.2], lasts=8.0)
    assert slide.end_s == pytest.approx(8.2)


def test_a_clock_that_starts_before_the_first_frame() -> None:
    timeline = Timeline(0.1, stated_s=12.0, start_s=1.4)
    assert given(timeline, [3.4, 3.5]).seconds == [2.0, 2.1]
    assert (timeline.lead_s, timeline.end_s) == (pytest.approx(2.0), pytest.approx(2.2))
    for start in (3.5, 3.3995, -1e6):  # later, the same but for rounding, and further than the file is long
        assert given(Timeline(0.1, stated_s=12.0, start_s=start), [3.4, 3.5]).seconds == [0.0, 0.1]
    wrong = Timeline(0.1, stated_s=12.0, start_s=0.0)
    assert given(wrong, [11.0, 0.5, 0.6]).seconds == [0.5, 0.6]


class Packet:
    def __init__(self, dts: int | None, pts: int | None, duration: int = 10) -> None:
        self.dts, self.pts, self.duration, self.is_keyframe = dts, pts, duration, True


def continued(stamps: Sequence[int], restarts: bool = True, stated_s: float | None = None) -> tuple[list[int], int]:
    """Correct stamps of a clock of 100 Hz whose packets last 0.1 s."""
    clock = PacketClock(0.01, 0.1, restarts, stated_s)
    packets = [Packet(stamp, stamp) for stamp in stamps]
    for packet in packets:
        clock.correct(packet)
        assert packet.pts == packet.dts
    return [packet.dts for packet in packets], clock.discontinuities


PART = list(range(0, 300, 10))
WHOLE = list(range(0, 600, 10))


@pytest.mark.parametrize("restarts", [True, False])
@pytest.mark.parametrize("start", [0, 1000, 2**33 - 5000])
def test_joined_recordings_continue(start: int, restarts: bool) -> None:
    parts = [start + stamp for stamp in PART] + PART
    if start == 0:
        assert continued(parts, restarts) == (WHOLE, 1)
    else:
        assert continued(parts, restarts) == ([start + stamp for stamp in WHOLE], 1)


def test_a_jump_forward_is_a_gap_or_a_discontinuity() -> None:
    def after(gap_s: int, **options: object) -> list[int]:
        return continued(PART + [300 + 100 * gap_s + stamp for stamp in PART], **options)[0]

    assert after(95_443) == WHOLE  # what FFmpeg makes of a clock of 33 bits that was set back
    assert after(95_443, restarts=False) == WHOLE
    assert after(60) == WHOLE
    assert after(60, restarts=False, stated_s=10.0) == WHOLE
    for gap, options in ((9, {}), (60, {"restarts": False, "stated_s": 66.0}), (60, {"restarts": False})):
        assert after(gap, **options)[-1] == 590 + 100 * gap


@pytest.mark.parametrize("wrong", [[10**9], [10**9, 2 * 10**9], [-5000], [10**9, -5000, 10**9]])
def test_wrong_timestamps_affect_only_their_packets(wrong: list[int]) -> None:
    stamps = list(WHOLE)
    stamps[20 : 20 + len(wrong)] = wrong
    assert continued(stamps, restarts=False, stated_s=6.0)[0] == WHOLE


def test_presentation_far_from_decoding_is_ignored() -> None:
    clock = PacketClock(0.01, 0.1, restarts=False, stated_s=10.0)
    packets = [Packet(0, 20), Packet(10, 10**6), Packet(20, None), Packet(None, 50)]
    for packet in packets:
        clock.correct(packet)
    assert [packet.pts for packet in packets] == [20, 10, None, 50]


def test_clock_that_was_set_back_continues() -> None:
    timeline = Timeline(0.1)
    seconds = [number * 0.1 for number in range(50)]
    result = given(timeline, seconds + seconds)
    assert timeline.dropped == 16
    assert len(result.numbers) == 84
    assert result.numbers[50] == 50 + 16
    assert timeline.end_s == pytest.approx(8.5, abs=0.11)


def test_continues_after_a_seek_relative_to_the_first_frame() -> None:
    timeline = Timeline(0.1)
    given(timeline, [5.0, 5.1])
    assert given(timeline, [20.0, 20.1]).seconds == [15.0, 15.1]
    assert timeline.interval_s == pytest.approx(0.1)


def test_nothing_decoded() -> None:
    timeline = Timeline(0.1)
    assert list(timeline.in_order([])) == []
    assert timeline.zero_s is None
