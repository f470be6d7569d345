import re
from collections import Counter

import pytest

from clep.demo.action import read_action, word_key
from clep.demo.ego_videos import ego_videos, never_narrated
from clep.demo.grammar import NOUNS, PLACES, VERBS
from clep.demo.settings import WorldSettings

_SETTINGS = WorldSettings()


@pytest.fixture(scope="module")
def videos():
    return ego_videos(_SETTINGS, seed=0)


def _passes(video):
    entry = video.narration or {}
    return [entry[name]["narrations"] for name in ("narration_pass_1", "narration_pass_2") if name in entry]


def _kept_out(video):
    splits = {video.metadata[key] for key in ("split_em", "split_fho", "split_av")}
    return video.narration is None or video.narration["status"] == "redacted" or bool(splits & {"val", "test", "multi"})


def test_never_narrated_pairs_are_in_no_narration_and_no_video(videos):
    unseen = never_narrated(_SETTINGS, 0)
    assert len(set(unseen)) >= 200
    assert not any(video.pairs & set(unseen) for video in videos)
    forbidden = {(VERBS[verb].key, word_key(NOUNS[noun])) for verb, noun in unseen}
    for video in videos:
        for performance in video.performances:
            assert (performance.action.verb, performance.action.nouns[0]) not in forbidden
        for narration in (narration for one in _passes(video) for narration in one):
            action = read_action(narration["narration_text"])
            assert (action.verb, *action.nouns[:1]) not in forbidden
            # Words are looked for in the raw text too, so that a fault of read_action cannot hide a leak.
            words = set(re.findall(r"[a-z]+", narration["narration_text"].lower()))
            for verb, noun in unseen:
                assert not (set(VERBS[verb].third.split()) <= words and NOUNS[noun] in words)


def test_every_word_and_form_is_met_in_training(videos):
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


def test_the_bulk_is_as_promised(videos):
    training = [video for video in videos if not _kept_out(video)]
    assert len(training) == 120
    assert len(videos) == 141
    assert len({video.uid for video in videos}) == 141
    assert all(210 <= video.duration_s <= 330 for video in videos)
    gaps = [b.start_s - a.start_s for v in videos for a, b in zip(v.performances, v.performances[1:], strict=False)]
    assert 3.0 < sum(gaps) / len(gaps) < 5.0
    assert len(set().union(*(video.pairs for video in training))) > 950


def test_the_oddities_of_ego4d_are_there(videos):
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
    said = [(narration["narration_text"], narration["timestamp_sec"]) for narration in first]
    repeats = sum(
        any(text == narration["narration_text"] and abs(at - narration["timestamp_sec"]) < 1 for text, at in said)
        for narration in second
    )
    assert 0.1 < repeats / len(second) < 0.6


def test_seeds_make_other_worlds_and_one_seed_the_same(videos):
    small = WorldSettings(training_videos=2, other_videos=1)
    assert ego_videos(small, 5) == ego_videos(small, 5)
    assert never_narrated(small, 5) != never_narrated(small, 6)
    assert ego_videos(_SETTINGS, 0)[3] == videos[3]
