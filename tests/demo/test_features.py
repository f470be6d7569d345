import json
import re
from collections import Counter

import pytest
import torch

from clep.demo import EncoderSettings, SyntheticFeatures
from clep.demo.grammar import NOUNS, PLACES, VERBS, read_action, word_key
from clep.errors import InputError

_DEFAULT = SyntheticFeatures()
_TINY = SyntheticFeatures(
    training_videos=3,
    other_videos=5,
    shortest_s=20.0,
    longest_s=30.0,
    unseen_per_verb=1,
    kinetics_clips=1,
    charades_classes=12,
    charades_scripts=3,
    encoder=EncoderSettings(dim=32, hidden=16),
)


@pytest.fixture(scope="module")
def videos():
    return _DEFAULT.videos(seed=0)


def _passes(video):
    entry = video.narration or {}
    return [entry[name]["narrations"] for name in ("narration_pass_1", "narration_pass_2") if name in entry]


def _kept_out(video):
    splits = {video.metadata[key] for key in ("split_em", "split_fho", "split_av")}
    return video.narration is None or video.narration["status"] == "redacted" or bool(splits & {"val", "test", "multi"})


def test_never_narrated_pairs_are_in_no_narration_and_no_video(videos):
    unseen = _DEFAULT.held_out_pairs(0)
    assert len(set(unseen)) >= 200
    assert not any(video.pairs & set(unseen) for video in videos)
    forbidden = {(VERBS[verb].key, word_key(NOUNS[noun])) for verb, noun in unseen}
    for video in videos:
        for span in video.spans:
            assert (span.action.verb, span.action.nouns[0]) not in forbidden
        for narration in (narration for one in _passes(video) for narration in one):
            action = read_action(narration["narration_text"])
            assert (action.verb, *action.nouns[:1]) not in forbidden
            # Words are looked for in the raw text too, so that a fault of read_action cannot hide a leak.
            words = set(re.findall(r"[a-z]+", narration["narration_text"].lower()))
            for verb, noun in unseen:
                assert not (set(VERBS[verb].third.split()) <= words and NOUNS[noun] in words)


def test_every_word_and_form_occurs_in_training(videos):
    text = "\n".join(
        narration["narration_text"]
        for video in videos
        if not _kept_out(video)
        for one in _passes(video)
        for narration in one
    )
    words = Counter(re.findall(r"[a-z]+", text.lower()))
    for verb in VERBS:
        assert re.search(rf"\b{verb.third}\b", text), verb
    for noun in NOUNS:
        assert words[noun] > 50, noun
    for place in PLACES:
        assert words[place.name] > 0, place
        assert words[place.surface] > 0, place


def test_sizes_of_the_default_dataset(videos):
    training = [video for video in videos if not _kept_out(video)]
    assert len(training) == 120
    assert len(videos) == 141
    assert len({video.uid for video in videos}) == 141
    assert all(210 <= video.duration_s <= 330 for video in videos)
    gaps = [b.start_s - a.start_s for v in videos for a, b in zip(v.spans, v.spans[1:], strict=False)]
    assert 3.0 < sum(gaps) / len(gaps) < 5.0
    assert len(set().union(*(video.pairs for video in training))) > 950


def test_the_irregularities_of_ego4d_occur(videos):
    metadata = [video.metadata for video in videos]
    assert {item["split_em"] for item in metadata} >= {None, "train", "val"}
    assert {item["split_fho"] for item in metadata} >= {None, "train", "test", "multi"}
    assert {item["split_av"] for item in metadata} >= {None, "train", "val"}
    assert 0 < sum(item["is_stereo"] for item in metadata) < 20
    assert videos[-1].narration is None
    entries = [video.narration for video in videos[:-1]]
    assert Counter(entry["status"] for entry in entries) == {"complete": 136, "redacted": 4}
    assert {"status": "redacted"} in entries
    complete = [entry for entry in entries if entry["status"] == "complete"]
    assert any("narration_pass_1" not in entry for entry in complete)
    assert any("narration_pass_2" not in entry for entry in complete)
    assert all("narration_pass_1" in entry or "narration_pass_2" in entry for entry in complete)
    passes = [one for video in videos for one in _passes(video)]
    seconds = [[narration["timestamp_sec"] for narration in one] for one in passes]
    assert 0.1 < sum(values != sorted(values) for values in seconds) / len(seconds) < 0.5
    texts = [narration["narration_text"] for one in passes for narration in one]
    assert 0.4 < len(set(texts)) / len(texts) < 0.7
    assert 0.02 < sum("#unsure" in text for text in texts) / len(texts) < 0.04
    assert 0.06 < sum(text.startswith("#O") for text in texts) / len(texts) < 0.10
    assert all(0 <= s <= v.duration_s for v in videos for one in _passes(v) for s in (n["timestamp_sec"] for n in one))


def test_the_second_pass_repeats_some_of_the_first_within_a_second(videos):
    first, second = _passes(videos[0])
    texts = [(narration["narration_text"], narration["timestamp_sec"]) for narration in first]
    repeats = sum(
        any(text == narration["narration_text"] and abs(at - narration["timestamp_sec"]) < 1 for text, at in texts)
        for narration in second
    )
    assert 0.1 < repeats / len(second) < 0.6


def test_videos_depend_on_the_seed_only(videos):
    small = SyntheticFeatures(training_videos=2, other_videos=1)
    assert small.videos(5) == small.videos(5)
    assert small.held_out_pairs(5) != small.held_out_pairs(6)
    assert _DEFAULT.videos(0)[3] == videos[3]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    out = tmp_path_factory.mktemp("features")
    return out, _TINY.make(out, seed=1, progress=False)


def _files(out):
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_files_of_the_dataset(dataset):
    out, counts = dataset
    names = {name for name in _files(out) if not name.endswith(".pt")}
    assert names == {
        ".dataset.json.lock",
        "dataset.json",
        "ego4d/narration.json",
        "ego4d/ego4d.json",
        "ego4d/features/simulated.json",
        "kinetics/val.csv",
        "kinetics/features/simulated.json",
        "ego_charades/CharadesEgo_v1_test.csv",
        "ego_charades/CharadesEgo_v1_train.csv",
        "ego_charades/Charades_v1_classes.txt",
        "ego_charades/features/simulated.json",
    }
    assert {path.stem for path in (out / "ego4d" / "features").glob("*.pt")} == {
        video["video_uid"] for video in json.loads((out / "ego4d" / "ego4d.json").read_text())["videos"]
    }
    assert counts["held_out_pairs"] == counts["kinetics_classes"] == counts["kinetics_clips"] == 30
    assert counts["videos"] == 9
    assert counts["ego_charades_videos"] == len(list((out / "ego_charades" / "features").glob("*.pt"))) == 6
    assert SyntheticFeatures.read(out)["counts"] == {name: value for name, value in counts.items() if name != "folder"}


def test_rows_are_on_the_clock_and_some_have_an_extra_axis(dataset):
    out, _ = dataset
    shapes = set()
    for video in json.loads((out / "ego4d" / "ego4d.json").read_text())["videos"]:
        rows = torch.load(out / "ego4d" / "features" / f"{video['video_uid']}.pt", weights_only=True)
        assert len(rows) == 1 + -(-(video["video_metadata"]["num_frames"] - 32) // 16)
        assert rows.dtype == torch.float16
        shapes.add(tuple(rows.shape[1:]))
    assert shapes == {(32,), (1, 32)}


@pytest.mark.parametrize(
    "wrong",
    [
        {"training_videos": 0},
        {"kinetics_clips": 0},
        {"shortest_s": 5.0},
        {"shortest_s": 50.0, "longest_s": 40.0},
        {"unseen_per_verb": 40},
        {"unseen_per_verb": 1, "charades_classes": 157},
        {"feature_dtype": "int8"},
    ],
)
def test_a_value_out_of_range_is_named(wrong):
    with pytest.raises(InputError, match=next(reversed(wrong))):
        SyntheticFeatures(**wrong)


def test_a_stopped_call_is_continued_with_equal_bytes(dataset, tmp_path, monkeypatch):
    out, _ = dataset

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("clep.demo.features.write_charades_classes", stop)
        with pytest.raises(KeyboardInterrupt):
            _TINY.make(tmp_path, seed=1, progress=False)
    kept = next((tmp_path / "kinetics" / "features").glob("*.pt")).stat().st_mtime_ns
    _TINY.make(tmp_path, seed=1, progress=False)
    assert next((tmp_path / "kinetics" / "features").glob("*.pt")).stat().st_mtime_ns == kept
    assert _files(tmp_path) == _files(out)
