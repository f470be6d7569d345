import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clep.bank import Clock
from clep.demo.encoder import ActionSpan, EncoderSettings, FrozenEncoder, presence, random_of, row_start_frames
from clep.demo.grammar import Action, action_of, read_action

_QUIET = EncoderSettings(jitter=0.0, bias=0.0, drift=0.0, row_noise=0.0)
_SCRIPT = """
from clep.demo.encoder import FrozenEncoder, ActionSpan
from clep.demo.grammar import read_action
rows = FrozenEncoder(3).encode("abc", 12.0, [ActionSpan(2.0, 9.0, read_action("#C C opens the fridge"))], "kitchen")
import sys; sys.stdout.buffer.write(rows.numpy().tobytes())
"""


def _both() -> list[ActionSpan]:
    return [ActionSpan(1.0, 9.0, action_of(0, 1)), ActionSpan(11.0, 19.0, action_of(2, 3))]


@pytest.mark.slow
def test_equal_in_every_process_whatever_the_hash_seed():
    run = [sys.executable, "-c", _SCRIPT]
    there = subprocess.run(run, env={**os.environ, "PYTHONHASHSEED": "1"}, capture_output=True, check=True).stdout
    action = read_action("#C C opens the fridge")
    here = FrozenEncoder(3).encode("abc", 12.0, [ActionSpan(2.0, 9.0, action)], "kitchen").numpy()
    # Not to the last bit, since another number of threads may add up in another order.
    np.testing.assert_allclose(np.frombuffer(there, np.float32).reshape(here.shape), here, rtol=0, atol=1e-5)


def test_shape_clock_and_seed():
    rows = FrozenEncoder(0).encode("v", 39 / 30, [], "kitchen")
    assert rows.shape == (2, 1536)
    assert rows.dtype == torch.float32
    assert torch.isfinite(rows).all()
    torch.testing.assert_close(rows, FrozenEncoder(0).encode("v", 39 / 30, [], "kitchen"), rtol=0, atol=0)
    assert not torch.equal(rows, FrozenEncoder(1).encode("v", 39 / 30, [], "kitchen"))
    assert not torch.equal(rows, FrozenEncoder(0).encode("w", 39 / 30, [], "kitchen"))


def test_order_of_the_actions_does_not_matter():
    encoder = FrozenEncoder(0)
    there, back = _both(), _both()[::-1]
    torch.testing.assert_close(encoder.encode("v", 20.0, there, "barn"), encoder.encode("v", 20.0, back, "barn"))


def test_rows_change_smoothly_and_show_the_action_of_their_time():
    encoder = FrozenEncoder(0, _QUIET)
    rows = encoder.encode("v", 20.0, _both(), "barn")
    first, second = rows[5], rows[30]
    step = (rows[1:] - rows[:-1]).norm(dim=1)
    assert step.max() < 0.75 * (first - second).norm(), "no jump from one action to the next in a single row"
    torch.testing.assert_close(rows[5], rows[8])
    assert not torch.allclose(rows[5], rows[30], atol=0.1)
    idle = encoder.encode("v", 20.0, [], "barn")
    torch.testing.assert_close(rows[18], idle[18])
    assert not torch.allclose(rows[5], idle[5], atol=0.1)


def test_the_same_action_elsewhere_is_nearer_than_another_action():
    encoder = FrozenEncoder(0)
    same = [encoder.encode(key, 10.0, [ActionSpan(0, 10, action_of(0, 1))], "barn").mean(0) for key in "ab"]
    other = encoder.encode("c", 10.0, [ActionSpan(0, 10, action_of(9, 30))], "barn").mean(0)
    assert (same[0] - same[1]).norm() < (same[0] - other).norm()


def test_long_videos_are_the_same_in_blocks(monkeypatch):
    encoder, many = FrozenEncoder(0, _QUIET), [ActionSpan(t, t + 3.0, action_of(t % 30, 4)) for t in range(0, 90, 4)]
    whole = encoder.encode("v", 100.0, many, "barn")
    monkeypatch.setattr("clep.demo.encoder._BLOCK_ROWS", 17)
    torch.testing.assert_close(encoder.encode("v", 100.0, many, "barn"), whole)


def test_the_view_from_outside_is_a_rotation_of_the_action():
    encoder = FrozenEncoder(0, _QUIET)
    mine, theirs = (encoder._action_vectors(random_of(0), [action_of(3, 3, other)])[0] for other in (False, True))
    assert np.linalg.norm(mine) == pytest.approx(np.linalg.norm(theirs))
    angle = np.degrees(np.arccos(mine @ theirs / (mine @ mine)))
    assert angle == pytest.approx(40.0, abs=1e-6)


def test_words_of_any_action():
    encoder = FrozenEncoder(0)
    assert not encoder.words(Action("", ())).any()
    mixed, first = encoder.words(Action("open", ("jar", "lid"))), encoder.words(Action("open", ("jar",)))
    second = encoder.words(Action("open", ("lid",)))
    np.testing.assert_allclose(mixed[:12], first[:12])
    np.testing.assert_allclose(mixed[12:], (first[12:] + 0.5 * second[12:]) / np.sqrt(1.25))


def test_random_of_depends_on_its_whole_key():
    draws = [random_of(*key).integers(2**60) for key in ((0, "a"), (0, "b"), (1, "a"), (0, "a", 0), (0, "a"))]
    assert draws[0] == draws[4]
    assert len(set(draws)) == 4


@pytest.mark.parametrize(
    ("frames", "starts"),
    [(1, [0]), (31, [0]), (32, [0]), (33, [0, 1]), (39, [0, 7]), (48, [0, 16]), (49, [0, 16, 17]), (64, [0, 16, 32])],
)
def test_row_starts_of_ego4d_documentation(frames, starts):
    assert row_start_frames(frames).tolist() == starts


@given(st.integers(1, 5000))
def test_row_starts_equal_a_loop_over_the_video(frames):
    starts, at = [0], 0
    while at + 32 < frames:
        at += 16
        starts.append(min(at, frames - 32))
    assert row_start_frames(frames).tolist() == starts


def test_row_starts_equal_the_clock_of_the_bank():
    clock = Clock()
    for frames in (20, 32, 39, 48, 301, 9000):
        starts = row_start_frames(frames)
        theirs = np.asarray(clock.row_starts(len(starts), duration_s=frames / 30), dtype=np.float64)
        np.testing.assert_allclose(theirs, starts / 30, atol=1e-6)


@given(st.floats(0.0, 12.0), st.floats(0.2, 6.0), st.sampled_from([0.2, 0.6, 1.0]))
def test_presence_equals_numeric_integration(start, length, blend):
    row_s, end = np.arange(20) * 16 / 30, start + length
    share = presence(row_s, np.array([start]), np.array([end]), blend)[:, 0]
    second = row_s[:, None] + np.linspace(0, 32 / 30, 4001)
    ramp = np.clip((second - start) / blend + 0.5, 0, 1) - np.clip((second - end) / blend + 0.5, 0, 1)
    np.testing.assert_allclose(share, ramp.mean(axis=1), atol=2e-3)
    assert np.abs(np.diff(share)).max() <= 16 / 32 + 1e-9, "half of a row's window is shared with the next"
