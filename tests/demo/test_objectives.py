import json
import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from clep.datasets.choice_questions import read_questions
from clep.demo import EncoderSettings, FrozenEncoder, SyntheticObjectives
from clep.demo.__main__ import main
from clep.demo.objectives import ACTIONS, INVERSE_VERBS, OBJECTS
from clep.errors import InputError
from clep.text import Taxonomy, substitute_tags

_SMALL = {"shortest_s": 60.0, "longest_s": 70.0, "encoder": EncoderSettings(dim=16, hidden=8)}
_TINY = SyntheticObjectives(training_videos=2, test_videos=1, **_SMALL)


@pytest.fixture(scope="module")
def scripts():
    rng = np.random.default_rng(0)
    return [SyntheticObjectives().script(rng, 200.0, place=3) for _ in range(20)]


def test_inverse_verbs_show_the_same_poses_in_opposite_order(scripts):
    poses = {}
    for event in (event for script in scripts for event in script):
        first, second = event.spans
        assert first.end_s == second.start_s == pytest.approx(event.middle_s)
        assert (first.start_s, second.end_s) == (event.start_s, event.end_s)
        poses[event.action] = (first.action, second.action)
    for action in poses:
        assert poses.get(action.inverse, poses[action][::-1]) == poses[action][::-1]
        assert poses[action][0] != poses[action][1]


def test_mean_rows_of_inverse_verbs_differ_by_noise_only():
    quiet = EncoderSettings(dim=32, hidden=16, jitter=0.0, bias=0.0, drift=0.0, row_noise=0.0)
    encoder, rng = FrozenEncoder(0, quiet), np.random.default_rng(1)
    dataset = SyntheticObjectives(objects_per_video=1)
    found = {}
    while len(found) < 2:
        for event in dataset.script(rng, 40.0, 0)[:1]:
            if event.action.pair == 0:
                shift_s = 10.0 - event.middle_s
                moved = [
                    span._replace(start_s=span.start_s + shift_s, end_s=span.end_s + shift_s) for span in event.spans
                ]
                rows = encoder.encode("video", 20.0, moved, "kitchen")
                found.setdefault(event.action.side, (event.action.object, rows))
        if len({noun for noun, _ in found.values()}) == 2:
            found.clear()
    forward, backward = found[0][1], found[1][1]
    assert (forward - backward).abs().max() > 0.5
    # A row is not symmetric in time, so that the two are mirrored up to the grid of the rows.
    assert (forward.mean(0) - backward.mean(0)).abs().max() < 0.05 * (forward - backward).abs().max()


def test_an_action_has_many_sentences_and_the_next_action_is_mostly_on_the_same_object(scripts):
    texts = {}
    for event in (event for script in scripts for event in script):
        texts.setdefault(event.action, set()).add(event.text)
    total = sum(len(script) for script in scripts)
    assert sum(len(of) for of in texts.values()) > 0.6 * total
    same = [a.action.object == b.action.object for script in scripts for a, b in pairwise(script)]
    assert 0.7 < np.mean(same) < 0.85
    assert all(len({event.action.object for event in script}) <= 4 for script in scripts)


def test_questions_of_order_neighbours_and_all_actions():
    videos, asked = SyntheticObjectives(training_videos=1, test_videos=4).videos(seed=2)
    sentences = {action.sentence for action in ACTIONS}
    assert len(sentences) == 2 * len(INVERSE_VERBS) * len(OBJECTS)
    tested = {video.uid: video for video in videos[1:]}
    assert {question.video for question in asked} == set(tested)
    counts = Counter(question.group for question in asked)
    assert counts["order"] == counts["action"] == sum(len(video.events) for video in tested.values())
    for question in asked:
        right = question.choices[question.answer]
        assert set(question.choices) <= sentences
        middle_s = (question.start_s + question.end_s) / 2
        events = {
            event.middle_s: event.spans
            for event in tested[question.video].events
            if abs(event.middle_s - middle_s) < 0.01
        }
        (spans,) = events.values()
        verb = right.removeprefix("#C C ").split(" the ")[0]
        assert spans[0].action.nouns[0] in right or right.endswith(("box", "bottle"))
        side = next(side for pair in INVERSE_VERBS for side in range(2) if pair[side][0].third == verb)
        if question.group == "order":
            assert question.answer == side
        assert spans[0].action.verb.startswith(f"pose {side}")
    assert 2 <= min(len(q.choices) for q in asked if q.group == "neighbours") <= 5


def test_the_taxonomy_finds_verb_and_noun_of_every_narration(tmp_path):
    _TINY.make(tmp_path, seed=1, progress=False)
    files = [tmp_path / "taxonomy" / f"narration_{kind}_taxonomy.csv" for kind in ("verb", "noun")]
    narrated = json.loads((tmp_path / "ego4d" / "narration.json").read_text())
    texts = [
        substitute_tags(one["narration_text"])
        for entry in narrated.values()
        for one in entry["narration_pass_1"]["narrations"]
    ]
    verbs, nouns = Taxonomy(*files).match(texts)
    synonyms = [[verb.third for verb in of] for pair in INVERSE_VERBS for of in pair]
    for i, text in enumerate(texts):
        verb = [k for k, of in enumerate(synonyms) if any(re.search(rf"\b{third}\b", text) for third in of)]
        noun = [k for k, object_noun in enumerate(OBJECTS) if re.search(rf"\b{object_noun}\b", text)]
        assert (verbs[i], nouns[i]) == (verb, noun), text
        assert (len(verb), len(noun)) == (1, 1)
    assert len(texts) > 30


def test_a_complete_folder_is_reused_and_another_seed_refused(tmp_path):
    counts = _TINY.make(tmp_path, seed=1, progress=False)
    assert counts["questions"] == Counter(one.group for one in read_questions(tmp_path / "ego4d" / "questions.json"))
    assert counts["actions"] == 144
    assert _TINY.make(tmp_path, seed=1, progress=False) == counts
    with pytest.raises(InputError, match="requested 2"):
        _TINY.make(tmp_path, seed=2, progress=False)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("objects_per_video=0", "objects_per_video must be in 1 … 12, got 0"),
        ("objects_per_video=13", "objects_per_video must be in 1 … 12, got 13"),
        ("longest_s=5", "need 20 <= shortest_s"),
        ("feature_dtype=int8", "feature_dtype must be one of"),
    ],
)
def test_invalid_settings(tmp_path, caplog, option, message):
    assert main(["objectives_dataset", f"out={tmp_path / 'data'}", option]) == 1
    assert message in caplog.text
    assert not (tmp_path / "data").exists()
