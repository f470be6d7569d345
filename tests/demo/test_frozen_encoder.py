import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from clep.demo.action import Action, read_action
from clep.demo.frozen_encoder import EncoderSettings, FrozenEncoder, Performance, random_of
from clep.demo.grammar import action_of

_QUIET = EncoderSettings(jitter=0.0, bias=0.0, drift=0.0, row_noise=0.0)
_SCRIPT = """
from clep.demo.frozen_encoder import FrozenEncoder, Performance
from clep.demo.action import read_action
rows = FrozenEncoder(3).encode("abc", 12.0, [Performance(2.0, 9.0, read_action("#C C opens the fridge"))], "kitchen")
import sys; sys.stdout.buffer.write(rows.numpy().tobytes())
"""


def _both() -> list[Performance]:
    return [Performance(1.0, 9.0, action_of(0, 1)), Performance(11.0, 19.0, action_of(2, 3))]


def test_equal_in_every_process_whatever_the_hash_seed():
    run = [sys.executable, "-c", _SCRIPT]
    there = subprocess.run(run, env={**os.environ, "PYTHONHASHSEED": "1"}, capture_output=True, check=True).stdout
    action = read_action("#C C opens the fridge")
    here = FrozenEncoder(3).encode("abc", 12.0, [Performance(2.0, 9.0, action)], "kitchen").numpy()
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
    same = [encoder.encode(key, 10.0, [Performance(0, 10, action_of(0, 1))], "barn").mean(0) for key in "ab"]
    other = encoder.encode("c", 10.0, [Performance(0, 10, action_of(9, 30))], "barn").mean(0)
    assert (same[0] - same[1]).norm() < (same[0] - other).norm()


def test_long_videos_are_the_same_in_blocks(monkeypatch):
    encoder, many = FrozenEncoder(0, _QUIET), [Performance(t, t + 3.0, action_of(t % 30, 4)) for t in range(0, 90, 4)]
    whole = encoder.encode("v", 100.0, many, "barn")
    monkeypatch.setattr("clep.demo.frozen_encoder._BLOCK_ROWS", 17)
    torch.testing.assert_close(encoder.encode("v", 100.0, many, "barn"), whole)


def test_the_view_from_outside_is_a_rotation_of_the_action():
    encoder = FrozenEncoder(0, _QUIET)
    mine, theirs = (encoder._seen(random_of(0), [action_of(3, 3, other)])[0] for other in (False, True))
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
