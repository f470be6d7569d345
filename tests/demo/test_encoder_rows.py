import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clep.demo.encoder_rows import presence, row_start_frames


@pytest.mark.parametrize(
    ("frames", "starts"),
    [(1, [0]), (31, [0]), (32, [0]), (33, [0, 1]), (39, [0, 7]), (48, [0, 16]), (49, [0, 16, 17]), (64, [0, 16, 32])],
)
def test_rows_start_where_the_documentation_of_ego4d_says(frames, starts):
    assert row_start_frames(frames).tolist() == starts


@given(st.integers(1, 5000))
def test_rows_against_walking_through_the_video(frames):
    starts, at = [0], 0
    while at + 32 < frames:
        at += 16
        starts.append(min(at, frames - 32))
    assert row_start_frames(frames).tolist() == starts


def test_rows_agree_with_the_clock_of_the_bank():
    clock = pytest.importorskip("clep.bank").Clock()
    for frames in (20, 32, 39, 48, 301, 9000):
        starts = row_start_frames(frames)
        theirs = np.asarray(clock.row_starts(len(starts), duration_s=frames / 30), dtype=np.float64)
        np.testing.assert_allclose(theirs, starts / 30, atol=1e-6)


@given(st.floats(0.0, 12.0), st.floats(0.2, 6.0), st.sampled_from([0.2, 0.6, 1.0]))
def test_presence_against_numeric_integration(start, length, blend):
    row_s, end = np.arange(20) * 16 / 30, start + length
    share = presence(row_s, np.array([start]), np.array([end]), blend)[:, 0]
    second = row_s[:, None] + np.linspace(0, 32 / 30, 4001)
    ramp = np.clip((second - start) / blend + 0.5, 0, 1) - np.clip((second - end) / blend + 0.5, 0, 1)
    np.testing.assert_allclose(share, ramp.mean(axis=1), atol=2e-3)
    assert np.abs(np.diff(share)).max() <= 16 / 32 + 1e-9, "half of a row's window is shared with the next"
