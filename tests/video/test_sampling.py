import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clep.errors import InputError
from clep.video.sampling import DenseWindows, Segments


def test_ego4d_39_frames_have_rows_at_0_and_7() -> None:
    assert DenseWindows().starts(39) == [0, 7]
    assert DenseWindows().canonical_frames(39 / 30) == 39


@pytest.mark.parametrize(
    ("frames", "starts"), [(1, [0]), (31, [0]), (32, [0]), (33, [0, 1]), (48, [0, 16]), (49, [0, 16, 17])]
)
def test_last_window_ends_with_the_video(frames: int, starts: list[int]) -> None:
    assert DenseWindows().starts(frames) == starts


def test_clock_of_ego4d() -> None:
    assert DenseWindows().rows_per_second == 1.875
    assert DenseWindows().row_seconds == pytest.approx(1.0667, abs=1e-4)


@given(window=st.integers(1, 200), frames=st.integers(1, 64))
def test_positions_are_the_middles_of_equal_parts(window: int, frames: int) -> None:
    positions = DenseWindows(window, 1).positions(frames)
    assert len(positions) == frames
    assert all(0 <= at < window for at in positions)
    for part, at in enumerate(positions):
        assert at <= (part + 0.5) * window / frames < at + 1 + 1e-9


@given(frames=st.integers(1, 500), window=st.integers(1, 60), stride=st.integers(1, 60))
def test_starts_cover_the_end(frames: int, window: int, stride: int) -> None:
    starts = DenseWindows(window, stride).starts(frames)
    assert starts == sorted(set(starts))
    assert starts[-1] == max(0, frames - window) or starts[-1] + window == frames
    assert all(start % stride == 0 for start in starts[:-1])


def test_video_shorter_than_half_a_frame_has_one() -> None:
    assert DenseWindows().canonical_frames(0.001) == 1


def test_segments_by_hand() -> None:
    segments = Segments(2)
    assert segments.instants(0, 2, 8.0) == (1.0, 3.0)
    assert segments.instants(1, 2, 8.0) == (5.0, 7.0)
    assert segments.rows_per_second is None
    assert segments.row_seconds == 0.0


@pytest.mark.parametrize("wrong", [{"window": 0}, {"stride": 0}, {"rate": 0}, {"rate": math.nan}, {"rate": math.inf}])
def test_refuses_windows_without_frames(wrong: dict) -> None:
    with pytest.raises(InputError):
        DenseWindows(**wrong)


def test_refuses_no_segments() -> None:
    with pytest.raises(InputError, match="at least one segment"):
        Segments(0)
