"""Frame indices by hand, from the published descriptions of each rule."""

import numpy as np
import pytest

from clep.errors import InputError
from clep.video.spans import chunk_of, frame_indices, span_in_frames


@pytest.mark.parametrize(
    ("rule", "start", "end", "frames", "expected"),
    [
        # seg = 99 / 4 = 24.75: borders 0, 25, 50 (49.5 half to even), 74, 99
        ("lavila", 0, 100, 4, [12, 37, 62, 86]),
        # seg = 9 / 4 = 2.25: borders 0, 2, 4 (4.5 half to even), 7, 9, all + 30
        ("lavila", 30, 40, 4, [31, 33, 35, 38]),
        ("avion", 0, 100, 4, [12, 37, 62, 87]),
        ("avion", 30, 41, 4, [31, 34, 36, 39]),
        ("egovlp", 0, 100, 4, [12, 37, 62, 87]),
        # borders 30, 32.75, 35.5, 38.25, 41 truncated
        ("egovlp", 30, 41, 4, [30, 33, 36, 39]),
        ("pe", 0, 100, 4, [0, 33, 66, 99]),
        ("pe", 10, 11, 3, [10, 10, 10]),
        ("middle", 0, 8, 4, [1, 3, 5, 7]),
    ],
)
def test_frames_by_hand(rule: str, start: int, end: int, frames: int, expected: list[int]) -> None:
    assert frame_indices(rule, start, end, frames).tolist() == expected


@pytest.mark.parametrize("rule", ["lavila", "avion", "egovlp", "middle", "pe"])
def test_frames_are_ordered_and_within_the_span(rule: str) -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        start, length, frames = (
            int(v) for v in (random.integers(100), random.integers(20, 500), random.integers(1, 17))
        )
        found = frame_indices(rule, start, start + length, frames)
        assert (np.diff(found) >= 0).all()
        assert start <= found[0] <= found[-1] < start + length


def test_seconds_to_frames_as_each_code_rounds() -> None:
    assert span_in_frames("egovlp", 1.99, 3.99, 30, 4) == (59, 119)
    assert span_in_frames("lavila", 1.99, 3.99, 30, 4) == (60, 120)
    assert span_in_frames("lavila", 1.0, 1.05, 30, 4) == (30, 34)  # at least as long as the clip
    assert span_in_frames("lavila", 1.0, 2.01, 50, 4, "epic") == (50, 101)
    assert span_in_frames("avion", 1.0, 2.01, 30, 4) == (30, 60)
    with pytest.raises(InputError, match="0 <= start <= end"):
        span_in_frames("avion", 2.0, 1.0, 30, 4)


def test_frames_of_chunked_videos() -> None:
    assert chunk_of(0, 30, 300) == (0, 0)
    assert chunk_of(8999, 30, 300) == (0, 8999)
    assert chunk_of(9000, 30, 300) == (300, 0)
    assert chunk_of(1800, 29.97, 15) == (60, 2)  # 60 s are 1,798.2 frames
    with pytest.raises(InputError, match="must be positive"):
        chunk_of(3, 0, 15)


def test_spans_without_frames_are_refused() -> None:
    with pytest.raises(InputError, match="must be at least 1, and the span"):
        frame_indices("avion", 3, 2, 4)
