import csv
import json
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest

from clep.demo import VideoWorldSettings, make_video_world, read_video_world
from clep.demo.__main__ import main
from clep.demo.action import read_action
from clep.demo.grammar import NOUNS, VERBS, kinetics_label, word_key
from clep.demo.video_script import DRAWN_NOUNS, DRAWN_VERBS, RECORDINGS, ego_films, kinetics_films, never_shown
from clep.demo.zeroshot_files import KINETICS_COLUMNS
from clep.errors import InputError

av = pytest.importorskip("av")
pytest.importorskip("PIL")

_TINY = VideoWorldSettings(
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
def world(tmp_path_factory):
    out = tmp_path_factory.mktemp("world")
    return out, make_video_world(out, _TINY, seed=1, progress=False)


def _files(out):
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def _opened(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        assert stream.codec_context.name == "h264"
    return stream, frames


def test_the_folder_is_laid_out_in_the_official_formats(world):
    out, figures = world
    described = json.loads((out / "ego4d" / "ego4d.json").read_text())["videos"]
    with (out / "kinetics" / "val.csv").open() as file:
        lines = list(csv.DictReader(file))
    clips = {f"{x['youtube_id']}_{int(x['time_start']):06d}_{int(x['time_end']):06d}" for x in lines}
    assert tuple(lines[0]) == KINETICS_COLUMNS
    assert set(_files(out)) == {
        *(".world.json.lock", "world.json", "ego4d/narration.json", "ego4d/ego4d.json", "kinetics/val.csv"),
        *(f"ego4d/videos/{video['video_uid']}.mp4" for video in described),
        *(f"kinetics/videos/{clip}.mp4" for clip in clips),
    }
    assert figures["videos"] == len(described) == 4
    assert figures["kinetics_clips"] == figures["kinetics_classes"] == figures["never_shown_pairs"] == 8
    assert read_video_world(out)["figures"] == {name: value for name, value in figures.items() if name != "folder"}
    assert [video["split_em"] for video in described] == ["train", "train", "val", "train"]


def test_videos_have_the_length_rate_and_size_that_is_said(world):
    out, _ = world
    for video in json.loads((out / "ego4d" / "ego4d.json").read_text())["videos"]:
        stream, frames = _opened(out / "ego4d" / "videos" / f"{video['video_uid']}.mp4")
        said = video["video_metadata"]
        assert float(stream.duration * stream.time_base) == pytest.approx(video["duration_sec"], abs=1e-4)
        assert len(frames) == said["num_frames"]
        if video["origin_video_id"] != "simulated_00003":  # that one has a variable rate
            assert float(stream.average_rate) == pytest.approx(said["fps"], abs=1e-3)
        assert (frames[0].width, frames[0].height) == (said["display_resolution_width"], 64)
    for path in (out / "kinetics" / "videos").glob("*.mp4"):
        assert len(_opened(path)[1]) == 30


def test_narrations_lie_in_their_videos_and_say_what_is_shown(world):
    out, figures = world
    narrated = json.loads((out / "ego4d" / "narration.json").read_text())
    films = {ego.film.name: ego.film for ego in ego_films(_TINY, 1)}
    assert len(films) == len(narrated) + 1
    unseen = {(VERBS[verb].key, word_key(NOUNS[noun])) for verb, noun in never_shown(_TINY, 1)}
    seen = 0
    for uid, entry in narrated.items():
        shown = {(VERBS[deed.verb].key, word_key(NOUNS[deed.noun])) for deed in films[uid].scene.deeds}
        assert not shown & unseen
        for one in (entry.get("narration_pass_1"), entry.get("narration_pass_2")):
            for narration in (one or {}).get("narrations", []):
                assert 0 <= narration["timestamp_sec"] <= films[uid].duration_s
                action = read_action(narration["narration_text"])
                if "unsure" not in narration["narration_text"]:
                    assert any((action.verb, noun) in shown for noun in action.nouns), narration
                seen += 1
    assert seen == figures["narrations"] > 0


def test_kinetics_classes_are_the_pairs_never_shown(world):
    out, _ = world
    with (out / "kinetics" / "val.csv").open() as file:
        labels = {line["label"] for line in csv.DictReader(file)}
    assert labels == {kinetics_label(verb, noun) for verb, noun in never_shown(_TINY, 1)}
    for film in kinetics_films(out / "kinetics" / "val.csv", 1):
        (deed,) = film.scene.deeds
        assert (deed.verb, deed.noun) in never_shown(_TINY, 1)
        assert 0 <= deed.start_s < deed.end_s <= film.duration_s
        assert len(set(film.scene.nouns)) == 5


@pytest.mark.parametrize("per_verb", [1, 3, 5])
def test_every_word_is_met_in_training_and_no_held_out_pair_is(per_verb):
    settings = VideoWorldSettings(unseen_per_verb=per_verb, shortest_s=60, longest_s=60)
    absent = set(never_shown(settings, 3))
    assert len(absent) == 8 * per_verb
    shown = set()
    for ego in ego_films(settings, 3):
        deeds = ego.film.scene.deeds
        assert all(a.end_s < b.start_s for a, b in pairwise(deeds))
        assert deeds[-1].end_s <= ego.film.duration_s
        assert {deed.noun for deed in deeds} <= set(ego.film.scene.nouns)
        shown |= {(deed.verb, deed.noun) for deed in deeds}
    assert not shown & absent
    assert shown | absent == {(verb, noun) for verb in DRAWN_VERBS for noun in DRAWN_NOUNS}


def test_the_first_videos_are_recorded_in_many_ways():
    films = ego_films(VideoWorldSettings(), 0)
    assert [ego.film.recording for ego in films[:6]] == list(RECORDINGS)
    assert all(ego.film.recording == RECORDINGS[0] for ego in films[6:])
    assert {recording.rate for recording in RECORDINGS} == {Fraction(30), Fraction(30000, 1001), Fraction(25)}
    assert [ego.metadata["is_stereo"] for ego in films].count(True) == 1
    stereo = films[5].metadata["video_metadata"]
    assert (stereo["display_resolution_width"], stereo["display_resolution_height"]) == (
        2 * VideoWorldSettings().width,
        VideoWorldSettings().height,
    )
    variable = films[3].metadata["video_metadata"]
    assert 0.6 < variable["num_frames"] / (30 * variable["mp4_duration_sec"]) < 0.9
    assert films[-1].narration is None


def test_a_whole_world_is_reused_and_one_of_other_settings_refused(world):
    out, figures = world
    before = _files(out)
    assert make_video_world(out, _TINY, seed=1, progress=False) == figures
    with pytest.raises(InputError, match=r"world\.json.*seed 1.*asked for 2"):
        make_video_world(out, _TINY, seed=2, progress=False)
    with pytest.raises(InputError, match="other settings"):
        make_video_world(out, replace(_TINY, kinetics_clips=2), seed=1, progress=False)
    assert _files(out) == before


def test_a_world_stopped_half_way_is_made_whole_and_equal(world, tmp_path, monkeypatch):
    out, _ = world
    from clep.demo import video_world

    real, made = video_world.film, []

    def stopped(path, *rest):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(path)
        return real(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(video_world, "film", stopped)
        with pytest.raises(KeyboardInterrupt):
            make_video_world(tmp_path, _TINY, seed=1, progress=False)
    with pytest.raises(InputError, match=r"world\.json"):
        read_video_world(tmp_path)
    kept = {path: path.stat().st_mtime_ns for path in made}
    make_video_world(tmp_path, _TINY, seed=1, progress=False)
    assert {path: path.stat().st_mtime_ns for path in made} == kept
    assert _files(tmp_path) == _files(out)


def test_data_of_others_and_worlds_of_another_kind_are_not_touched(tmp_path, world):
    (tmp_path / "kinetics").mkdir()
    (tmp_path / "kinetics" / "val.csv").write_text("mine")
    with pytest.raises(InputError, match="no demo world made"):
        make_video_world(tmp_path, _TINY, progress=False)
    assert _files(tmp_path) == {".world.json.lock": b"", "kinetics/val.csv": b"mine"}
    from clep.demo import make_world, read_world

    with pytest.raises(InputError, match="not a clep-demo-world"):
        read_world(world[0])
    with pytest.raises(InputError, match="not a clep-demo-world"):
        make_world(world[0], progress=False)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"training_videos": 0}, "training_videos must be at least 1"),
        ({"kinetics_clip_s": 0}, "kinetics_clip_s must be at least 1"),
        ({"shortest_s": 2}, "3 <= shortest_s"),
        ({"shortest_s": 9.0, "longest_s": 8.0}, "shortest_s <= longest_s"),
        ({"unseen_per_verb": 12}, "unseen_per_verb must be in 1 … 11"),
        ({"things_in_sight": 13}, "things_in_sight must be in 1 … 12"),
        ({"things_in_sight": 3, "unseen_per_verb": 3}, "more than unseen_per_verb"),
        ({"width": 321}, "width must be even"),
        ({"height": 32}, "height must be even and at least 64"),
    ],
)
def test_wrong_settings_are_named(wrong, said):
    with pytest.raises(InputError, match=said):
        VideoWorldSettings(**wrong)


def test_equal_settings_are_one_world():
    assert VideoWorldSettings(shortest_s=20).as_dict() == VideoWorldSettings(shortest_s=20.0).as_dict()


def test_the_command_makes_and_refuses(tmp_path, capsys):
    small = "settings.training_videos=1 settings.other_videos=0 settings.shortest_s=3 settings.longest_s=3"
    small += " settings.unseen_per_verb=1 settings.kinetics_clips=1 settings.kinetics_clip_s=1"
    options = [f"out={tmp_path}", "progress=false", *small.split(), "settings.width=64", "settings.height=64"]
    assert main(["video_world", *options]) == 0
    assert "'kinetics_clips': 8" in capsys.readouterr().out
    assert main(["video_world", f"out={tmp_path}", "settings.widht=64"]) == 1
    assert "width" in capsys.readouterr().err
