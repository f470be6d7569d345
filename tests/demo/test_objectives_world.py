import json
import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from clep.demo import EncoderSettings, FrozenEncoder, ObjectivesWorldSettings, make_objectives_world
from clep.demo.__main__ import main
from clep.demo.objectives_script import THINGS, TWINS, Deed, deeds, happenings
from clep.demo.objectives_world import objectives_videos
from clep.errors import InputError
from clep.evaluation.multiple_choice import read_questions
from clep.text import Taxonomy, substitute_tags

_SMALL = {"shortest_s": 60.0, "longest_s": 70.0, "encoder": EncoderSettings(dim=16, hidden=8)}
_TINY = ObjectivesWorldSettings(training_videos=2, test_videos=1, **_SMALL)


@pytest.fixture(scope="module")
def happens():
    rng = np.random.default_rng(0)
    return [happenings(rng, 200.0, place=3, in_sight=4) for _ in range(20)]


def test_twins_show_the_same_poses_in_the_opposite_order(happens):
    told = {}
    for deed, one in (pair for video in happens for pair in video):
        first, second = one.seen
        assert first.end_s == second.start_s == pytest.approx((one.start_s + one.end_s) / 2)
        assert (first.start_s, second.end_s) == (one.start_s, one.end_s)
        told[deed] = (first.action, second.action)
    for deed in told:
        twin = Deed(deed.pair, 1 - deed.side, deed.thing)
        assert told.get(twin, told[deed][::-1]) == told[deed][::-1]
        assert told[deed][0] != told[deed][1]


def test_their_mean_row_is_the_same_but_for_what_is_random():
    quiet = EncoderSettings(dim=32, hidden=16, jitter=0.0, bias=0.0, drift=0.0, row_noise=0.0)
    encoder, rng = FrozenEncoder(0, quiet), np.random.default_rng(1)
    shown = {}
    while len(shown) < 2:
        for deed, one in happenings(rng, 40.0, 0, 1)[:1]:
            if deed.pair == 0:
                start_s = 10.0 - (one.end_s - one.start_s) / 2
                moved = [
                    performance._replace(
                        start_s=performance.start_s - one.start_s + start_s,
                        end_s=performance.end_s - one.start_s + start_s,
                    )
                    for performance in one.seen
                ]
                shown.setdefault(deed.side, (deed.thing, encoder.encode("video", 20.0, moved, "kitchen")))
        things = {thing for thing, _ in shown.values()}
        if len(things) == 2:
            shown.clear()
    forward, backward = shown[0][1], shown[1][1]
    assert (forward - backward).abs().max() > 0.5
    # A row is not symmetric in time, so that the two are mirrored up to the grid of the rows.
    assert (forward.mean(0) - backward.mean(0)).abs().max() < 0.05 * (forward - backward).abs().max()


def test_an_action_is_told_in_many_words_and_what_is_next_is_mostly_done_to_the_same_thing(happens):
    texts = {}
    for deed, one in (pair for video in happens for pair in video):
        texts.setdefault(deed, set()).add(one.text)
    told = sum(len(video) for video in happens)
    assert sum(len(of) for of in texts.values()) > 0.6 * told
    same = [a[0].thing == b[0].thing for video in happens for a, b in pairwise(video)]
    assert 0.7 < np.mean(same) < 0.85
    assert all(len({deed.thing for deed, _ in video}) <= 4 for video in happens)


def test_questions_ask_for_order_for_neighbours_and_for_everything():
    videos, asked = objectives_videos(ObjectivesWorldSettings(training_videos=1, test_videos=4), seed=2)
    everything = {deed.plainly() for deed in deeds()}
    assert len(everything) == 2 * len(TWINS) * len(THINGS)
    tested = {video.uid: video for video in videos[1:]}
    assert {question.video for question in asked} == set(tested)
    counts = Counter(question.group for question in asked)
    assert counts["order"] == counts["action"] == sum(len(video.happens) for video in tested.values())
    for question in asked:
        right = question.choices[question.answer]
        assert set(question.choices) <= everything
        middle_s = (question.start_s + question.end_s) / 2
        told = {one.middle_s: one.seen for one in tested[question.video].happens if abs(one.middle_s - middle_s) < 0.01}
        (seen,) = told.values()
        verb = right.removeprefix("#C C ").split(" the ")[0]
        assert seen[0].action.nouns[0] in right or right.endswith(("box", "bottle"))
        side = next(side for pair in TWINS for side in range(2) if pair[side][0].third == verb)
        if question.group == "order":
            assert question.answer == side
        assert seen[0].action.verb.startswith(f"pose {side}")
    assert 2 <= min(len(q.choices) for q in asked if q.group == "neighbours") <= 5


def test_the_taxonomy_finds_verb_and_noun_of_every_narration(tmp_path):
    make_objectives_world(tmp_path, _TINY, seed=1, progress=False)
    files = [tmp_path / "taxonomy" / f"narration_{kind}_taxonomy.csv" for kind in ("verb", "noun")]
    narrated = json.loads((tmp_path / "ego4d" / "narration.json").read_text())
    texts = [
        substitute_tags(one["narration_text"])
        for entry in narrated.values()
        for one in entry["narration_pass_1"]["narrations"]
    ]
    verbs, nouns = Taxonomy(*files).match(texts)
    names = [[name.third for name in of] for pair in TWINS for of in pair]
    for place, text in enumerate(texts):
        verb = [i for i, of in enumerate(names) if any(re.search(rf"\b{third}\b", text) for third in of)]
        noun = [i for i, thing in enumerate(THINGS) if re.search(rf"\b{thing}\b", text)]
        assert (verbs[place], nouns[place]) == (verb, noun), text
        assert (len(verb), len(noun)) == (1, 1)
    assert len(texts) > 30


def test_the_folder_is_reused_and_one_of_other_settings_refused(tmp_path):
    figures = make_objectives_world(tmp_path, _TINY, seed=1, progress=False)
    assert figures["questions"] == Counter(one.group for one in read_questions(tmp_path / "ego4d" / "questions.json"))
    assert figures["actions"] == 144
    assert make_objectives_world(tmp_path, _TINY, seed=1, progress=False) == figures
    with pytest.raises(InputError, match="asked for 2"):
        make_objectives_world(tmp_path, _TINY, seed=2, progress=False)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("settings.in_sight=0", "in_sight must be in 1 … 12, got 0"),
        ("settings.in_sight=13", "in_sight must be in 1 … 12, got 13"),
        ("settings.longest_s=5", "need 20 <= shortest_s"),
        ("settings.feature_dtype=int8", "feature_dtype must be one of"),
    ],
)
def test_settings_that_make_no_world(tmp_path, capsys, option, message):
    assert main(["objectives_world", f"out={tmp_path / 'world'}", option]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "world").exists()
