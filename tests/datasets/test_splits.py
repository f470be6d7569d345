"""Held-out videos: the side of a video depends on its id only."""

import hashlib

import numpy as np
import pytest

from clep.datasets.splits import hash_fraction, held_out_videos


@pytest.mark.parametrize("name", ["", "kitchen", "küche", "9c8e7d5f-0001"])
def test_the_fraction_is_the_first_64_bits_of_the_sha_256(name: str) -> None:
    bits = int(hashlib.sha256(name.encode()).hexdigest()[:16], 16)
    assert hash_fraction(name) == bits / 2**64
    assert 0 <= hash_fraction(name) < 1


def test_a_value_that_must_never_change() -> None:
    """A later version that hashed in another way would train on what an earlier one held out."""
    assert hash_fraction("kitchen") == pytest.approx(0.19314340381244643, abs=1e-12)


def test_the_choice_of_held_out_videos_does_not_depend_on_the_others() -> None:
    videos = [f"video{i}" for i in range(1000)]
    everything = held_out_videos(videos, 0.1, np.arange(1000))
    some = np.arange(0, 1000, 3)
    assert 70 < everything.sum() < 130
    assert np.array_equal(held_out_videos(videos, 0.1, some)[some], everything[some])
    assert not held_out_videos(videos, 0.0, np.arange(1000)).any()
    assert held_out_videos(videos, 1e-9, np.arange(1000)).sum() == 1
    assert held_out_videos(videos[:2], 0.999, np.arange(2)).sum() == 1
    assert not held_out_videos(videos, 0.5, np.array([3])).any()


@pytest.mark.parametrize("fraction", [0.0, 1e-9, 0.2, 0.7, 1.0])
def test_neither_side_is_empty_and_each_video_has_the_side_of_its_hash(fraction: float) -> None:
    drawn = np.random.default_rng(0)
    for count in (1, 2, 3, 10, 40):
        videos = [f"video{i}" for i in drawn.integers(0, 10**9, count)]
        for moments in (0, 1, 2, count, 3 * count):
            used = drawn.integers(0, count, moments)
            held_out = held_out_videos(videos, fraction, used)
            candidates = sorted(set(used.tolist()), key=lambda index: hash_fraction(videos[index]))
            assert set(np.flatnonzero(held_out).tolist()) <= set(candidates)
            if fraction == 0 or len(candidates) < 2:
                assert not held_out.any()
                continue
            lowest, *others, highest = candidates
            assert held_out[lowest]
            assert not held_out[highest]
            assert all(held_out[index] == (hash_fraction(videos[index]) < fraction) for index in others)
