"""Drawn videos: shapes, motions, frames, and recordings."""

from fractions import Fraction

import numpy as np
import pytest

from clep.demo.drawing.motions import MOTIONS, Variation, draw_hand, ease
from clep.demo.drawing.scene import DrawnAction, Scene
from clep.demo.drawing.shapes import OBJECTS, half, placed, polygon, rectangle, tinted
from clep.demo.drawing.video_file import Recording, Renderer, write_video
from clep.demo.grammar import NOUNS, VERBS
from clep.demo.videos import DRAWN_NOUNS, DRAWN_VERBS

av = pytest.importorskip("av")
pytest.importorskip("PIL")

_SQUARE = rectangle((10, 20, 30), -1, -1, 1, 1)


def _scene(verb="move", noun="cup", seed=5, place=2):
    action = DrawnAction([v.base for v in VERBS].index(verb), NOUNS.index(noun), 0.5, 2.5)
    return Scene(seed, (NOUNS.index(noun), NOUNS.index("book"), NOUNS.index("hat")), (action,), place)


def test_shapes_are_moved_rotated_mirrored_and_cut():
    (moved,) = placed([polygon((0, 0, 0), (1, 0), (0, 0), (0, 2))], 10, 20, 3, degrees=90)
    np.testing.assert_allclose(moved.points, [[10, 23], [10, 20], [4, 20]], atol=1e-12)
    (mirrored,) = placed([polygon((0, 0, 0), (1, 0), (0, 0), (0, 2))], 10, 20, 3, mirrored=True)
    np.testing.assert_allclose(mirrored.points, [[7, 20], [10, 20], [10, 26]], atol=1e-12)
    (right,) = half([_SQUARE], 1)
    assert {tuple(point) for point in right.points.tolist()} == {(0, -1), (1, -1), (1, 1), (0, 1)}
    assert half([rectangle((0, 0, 0), 1, 0, 2, 1)], -1) == []
    assert placed([], 0, 0, 1) == []


def test_tints_stay_colours():
    assert tinted([_SQUARE], (-20, 0, 240))[0].colour == (0, 20, 255)
    assert tinted([_SQUARE], (0, 0, 0), 128)[0].colour == (10, 20, 30, 128)


def test_drawn_verbs_and_nouns_are_in_the_grammar():
    assert {VERBS[verb].base for verb in DRAWN_VERBS} == set(MOTIONS)
    assert {NOUNS[noun] for noun in DRAWN_NOUNS} == set(OBJECTS)
    for name, patches in OBJECTS.items():
        points = np.concatenate([patch.points for patch in patches])
        assert np.abs(points).max() < 0.75 < np.ptp(points, 0).max(), name


@pytest.mark.parametrize("verb", MOTIONS)
def test_motions_are_smooth_and_use_hands_that_exist(verb):
    variation = Variation(1.0, 3.0, 0.3, (90, 90, 90))
    steps = [MOTIONS[verb](k / 200, variation) for k in range(201)]
    where = np.array([(step.x, step.y - step.lift) for step in steps])
    assert np.abs(np.diff(where, axis=0)).max() < 0.15  # a jump would be larger
    assert max(len(step.hands) for step in steps) in (1, 2)
    for hand in steps[100].hands:
        assert draw_hand(hand.pose, (200, 150, 120), (10, 10, 10))
        assert abs(hand.x) < 1.8
        assert abs(hand.y) < 1.8


def test_the_object_is_invisible_before_it_is_put_down():
    variation = Variation(1.0, 3.0, 0.3, (90, 90, 90))
    assert not MOTIONS["put down"](0.0, variation).visible
    assert MOTIONS["put down"](0.6, variation).x == pytest.approx(0)
    assert MOTIONS["pick up"](1.0, variation).y > 2
    assert [ease(x, 1, 3) for x in (0.0, 2.0, 4.0)] == [0, 0.5, 1]


def test_frames_depend_on_scene_and_time_only():
    renderer = Renderer(_scene(), 160, 120)
    first = renderer.frame(1.2)
    assert (first.shape, first.dtype) == ((120, 160, 3), np.uint8)
    renderer.frame(0.1)
    np.testing.assert_array_equal(renderer.frame(1.2), first)
    np.testing.assert_array_equal(Renderer(_scene(), 160, 120).frame(1.2), first)
    for other in (_scene(seed=6), _scene(place=3), _scene(verb="cut"), _scene(noun="tomato")):
        assert np.abs(Renderer(other, 160, 120).frame(1.2).astype(int) - first).mean() > 0.5


def test_noise_does_not_wrap_round():
    clean, noisy = (Renderer(_scene(), 160, 120, noise).frame(1.0).astype(int) for noise in (0.0, 3.0))
    difference = noisy - clean
    assert 2.5 < difference.std() < 3.5
    assert np.abs(difference).max() <= 7


def _decoded(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        return stream, frames, float(stream.duration * stream.time_base)


@pytest.mark.parametrize("rate", [Fraction(30), Fraction(30000, 1001), Fraction(25)])
def test_constant_rates(tmp_path, rate):
    recording = Recording(rate=rate)
    duration = recording.whole_frames(1.0)
    assert write_video(tmp_path / "a.mp4", _scene(), duration, recording, 96, 64) == round(duration * rate)
    stream, frames, seconds = _decoded(tmp_path / "a.mp4")
    assert stream.average_rate == rate
    assert seconds == pytest.approx(float(duration), abs=1e-4)
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(len(frames)) / float(rate), atol=2e-5)


def test_a_variable_rate_shows_the_same_instants(tmp_path):
    recording = Recording(variable=True)
    ticks = recording.ticks(Fraction(2), 5)
    assert write_video(tmp_path / "a.mp4", _scene(), Fraction(2), recording, 96, 64) == len(ticks)
    _, frames, seconds = _decoded(tmp_path / "a.mp4")
    np.testing.assert_allclose([frame.time for frame in frames], ticks / 90_000, atol=1e-6)
    assert len(set(np.diff(ticks))) > 1
    assert 40 <= len(ticks) < 55
    assert seconds == pytest.approx(2.0, abs=1e-4)
    assert ticks[-1] == 90_000 * 59 // 30
    drawn = Renderer(_scene(), 96, 64).frame(ticks[-1] / 90_000).astype(int)
    assert np.abs(frames[-1].to_ndarray(format="rgb24") - drawn).mean() < 8


def test_a_rotated_video_is_upright_after_its_display_rotation(tmp_path):
    write_video(tmp_path / "a.mp4", _scene(), Fraction(1, 2), Recording(rotated=True), 96, 64)
    _, frames, _ = _decoded(tmp_path / "a.mp4")
    frame = frames[3]
    assert (frame.width, frame.height, frame.rotation % 360) == (64, 96, 90)
    upright = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)  # both count to the left
    drawn = Renderer(_scene(), 96, 64).frame(3 / 30).astype(int)
    assert np.abs(upright - drawn).mean() < 8
    assert np.abs(upright[::-1] - drawn).mean() > 12


def test_stereo_is_two_views_side_by_side(tmp_path):
    write_video(tmp_path / "a.mp4", _scene(), Fraction(1, 5), Recording(stereo=True), 96, 64)
    _, frames, _ = _decoded(tmp_path / "a.mp4")
    both = frames[2].to_ndarray(format="rgb24").astype(int)
    assert both.shape == (64, 192, 3)
    renderer = Renderer(_scene(), 96, 64)
    left, right = renderer.frame(2 / 30).astype(int), renderer.frame(2 / 30, 0.02).astype(int)
    assert np.abs(both[:, :96] - left).mean() < 8
    assert np.abs(both[:, 96:] - right).mean() < 8
    assert (left != right).any()


def test_a_failed_video_leaves_no_file(tmp_path, monkeypatch):
    real, calls = Renderer.frame, []

    def frame(self, *arguments):
        calls.append(1)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return real(self, *arguments)

    monkeypatch.setattr(Renderer, "frame", frame)
    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / "a.mp4", _scene(), Fraction(1), Recording(), 96, 64)
    assert list(tmp_path.iterdir()) == []
