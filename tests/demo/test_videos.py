import csv
import json
from fractions import Fraction
from itertools import pairwise

import pytest

from clep.demo import SyntheticVideos, videos
from clep.demo.annotation_files import KINETICS_COLUMNS
from clep.demo.grammar import NOUNS, VERBS, kinetics_label, read_action, word_key
from clep.demo.videos import DRAWN_NOUNS, DRAWN_VERBS, RECORDINGS, kinetics_videos
from clep.errors import InputError

av = pytest.importorskip("av")
pytest.importorskip("PIL")

_TINY = SyntheticVideos(
    training_videos=2,
    other_videos=1,
    shortest_s=3.0,
    longest_s=3.5,
    unseen_per_verb=1,
    kinetics_clips=1,
    kinetics_clip_s=1,
    width=96,
    height=64,
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    out = tmp_path_factory.mktemp("videos")
    return out, _TINY.make(out, seed=1, progress=False)


def _files(out):
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def _opened(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        assert stream.codec_context.name == "h264"
    return stream, frames


def test_files_of_the_dataset(dataset):
    out, counts = dataset
    described = json.loads((out / "ego4d" / "ego4d.json").read_text())["videos"]
    with (out / "kinetics" / "val.csv").open() as file:
        lines = list(csv.DictReader(file))
    clips = {f"{x['youtube_id']}_{int(x['time_start']):06d}_{int(x['time_end']):06d}" for x in lines}
    assert tuple(lines[0]) == KINETICS_COLUMNS
    assert set(_files(out)) == {
        *(".dataset.json.lock", "dataset.json", "ego4d/narration.json", "ego4d/ego4d.json", "kinetics/val.csv"),
        *(f"ego4d/videos/{video['video_uid']}.mp4" for video in described),
        *(f"kinetics/videos/{clip}.mp4" for clip in clips),
    }
    assert counts["videos"] == len(described) == 4
    assert counts["kinetics_clips"] == counts["kinetics_classes"] == counts["held_out_pairs"] == 8
    assert SyntheticVideos.read(out)["counts"] == {name: value for name, value in counts.items() if name != "folder"}
    assert [video["split_em"] for video in described] == ["train", "train", "val", "train"]


def test_videos_have_the_duration_rate_and_size_of_their_metadata(dataset):
    out, _ = dataset
    for video in json.loads((out / "ego4d" / "ego4d.json").read_text())["videos"]:
        stream, frames = _opened(out / "ego4d" / "videos" / f"{video['video_uid']}.mp4")
        metadata = video["video_metadata"]
        assert float(stream.duration * stream.time_base) == pytest.approx(video["duration_sec"], abs=1e-4)
        assert len(frames) == metadata["num_frames"]
        if video["origin_video_id"] != "simulated_00003":  # that one has a variable rate
            assert float(stream.average_rate) == pytest.approx(metadata["fps"], abs=1e-3)
        assert (frames[0].width, frames[0].height) == (metadata["display_resolution_width"], 64)
    for path in (out / "kinetics" / "videos").glob("*.mp4"):
        assert len(_opened(path)[1]) == 30


def test_narrations_describe_the_actions_of_their_video(dataset):
    out, counts = dataset
    narrated = json.loads((out / "ego4d" / "narration.json").read_text())
    plans = {plan.video.name: plan.video for plan in _TINY.videos(1)}
    assert len(plans) == len(narrated) + 1
    unseen = {(VERBS[verb].key, word_key(NOUNS[noun])) for verb, noun in _TINY.held_out_pairs(1)}
    seen = 0
    for uid, entry in narrated.items():
        shown = {(VERBS[action.verb].key, word_key(NOUNS[action.noun])) for action in plans[uid].scene.actions}
        assert not shown & unseen
        for one in (entry.get("narration_pass_1"), entry.get("narration_pass_2")):
            for narration in (one or {}).get("narrations", []):
                assert 0 <= narration["timestamp_sec"] <= plans[uid].duration_s
                action = read_action(narration["narration_text"])
                if "unsure" not in narration["narration_text"]:
                    assert any((action.verb, noun) in shown for noun in action.nouns), narration
                seen += 1
    assert seen == counts["narrations"] > 0


def test_kinetics_classes_are_the_held_out_pairs(dataset):
    out, _ = dataset
    with (out / "kinetics" / "val.csv").open() as file:
        labels = {line["label"] for line in csv.DictReader(file)}
    assert labels == {kinetics_label(verb, noun) for verb, noun in _TINY.held_out_pairs(1)}
    for plan in kinetics_videos(out / "kinetics" / "val.csv", 1):
        (action,) = plan.scene.actions
        assert (action.verb, action.noun) in _TINY.held_out_pairs(1)
        assert 0 <= action.start_s < action.end_s <= plan.duration_s
        assert len(set(plan.scene.nouns)) == 5


@pytest.mark.parametrize("per_verb", [1, 3, 5])
def test_training_has_every_word_and_no_held_out_pair(per_verb):
    settings = SyntheticVideos(unseen_per_verb=per_verb, shortest_s=60, longest_s=60)
    absent = set(settings.held_out_pairs(3))
    assert len(absent) == 8 * per_verb
    shown = set()
    for plan in settings.videos(3):
        actions = plan.video.scene.actions
        assert all(a.end_s < b.start_s for a, b in pairwise(actions))
        assert actions[-1].end_s <= plan.video.duration_s
        assert {action.noun for action in actions} <= set(plan.video.scene.nouns)
        shown |= {(action.verb, action.noun) for action in actions}
    assert not shown & absent
    assert shown | absent == {(verb, noun) for verb in DRAWN_VERBS for noun in DRAWN_NOUNS}


def test_the_first_videos_have_different_recordings():
    plans = SyntheticVideos().videos(0)
    assert [plan.video.recording for plan in plans[:6]] == list(RECORDINGS)
    assert all(plan.video.recording == RECORDINGS[0] for plan in plans[6:])
    assert {recording.rate for recording in RECORDINGS} == {Fraction(30), Fraction(30000, 1001), Fraction(25)}
    assert [plan.metadata["is_stereo"] for plan in plans].count(True) == 1
    stereo = plans[5].metadata["video_metadata"]
    assert (stereo["display_resolution_width"], stereo["display_resolution_height"]) == (
        2 * SyntheticVideos().width,
        SyntheticVideos().height,
    )
    variable = plans[3].metadata["video_metadata"]
    assert 0.6 < variable["num_frames"] / (30 * variable["mp4_duration_sec"]) < 0.9
    assert plans[-1].narration is None


def test_a_stopped_call_is_continued_with_equal_bytes(dataset, tmp_path, monkeypatch):
    out, _ = dataset
    real, made = videos.write_video, []

    def stopped(path, *rest):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(path)
        return real(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(videos, "write_video", stopped)
        with pytest.raises(KeyboardInterrupt):
            _TINY.make(tmp_path, seed=1, progress=False)
    with pytest.raises(InputError, match=r"dataset\.json"):
        SyntheticVideos.read(tmp_path)
    kept = {path: path.stat().st_mtime_ns for path in made}
    _TINY.make(tmp_path, seed=1, progress=False)
    assert {path: path.stat().st_mtime_ns for path in made} == kept
    assert _files(tmp_path) == _files(out)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"training_videos": 0}, "training_videos must be at least 1"),
        ({"kinetics_clip_s": 0}, "kinetics_clip_s must be at least 1"),
        ({"shortest_s": 2}, "3 <= shortest_s"),
        ({"shortest_s": 9.0, "longest_s": 8.0}, "shortest_s <= longest_s"),
        ({"unseen_per_verb": 12}, "unseen_per_verb must be in 1 … 11"),
        ({"objects_per_video": 13}, "objects_per_video must be in 1 … 12"),
        ({"objects_per_video": 3, "unseen_per_verb": 3}, "more than unseen_per_verb"),
        ({"width": 321}, "width must be even"),
        ({"height": 32}, "height must be even and at least 64"),
    ],
)
def test_wrong_settings_are_named(wrong, message):
    with pytest.raises(InputError, match=message):
        SyntheticVideos(**wrong)
