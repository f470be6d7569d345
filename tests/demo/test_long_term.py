import json
from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest

from clep.datasets.choice_questions import read_questions
from clep.demo import EncoderSettings, SyntheticLongTerm
from clep.demo.__main__ import main
from clep.demo.long_term import KINDS, LONGEST_DELAY_S, SHORTEST_DELAY_S
from clep.errors import InputError

_SMALL = {"shortest_s": 120.0, "longest_s": 150.0, "encoder": EncoderSettings(dim=16, hidden=8)}
_TINY = SyntheticLongTerm(training_videos=2, test_videos=1, **_SMALL)


@pytest.fixture(scope="module")
def videos():
    return SyntheticLongTerm(training_videos=20, test_videos=40).videos(seed=3)


def _causes_and_moments(video):
    """Read from the texts, not from the plan, what was narrated of each object, as (kind, second, cause)."""
    narrated_events = defaultdict(list)
    kind_of_noun = {noun: kind for kind in KINDS for noun in kind.nouns}
    for one in video.events:
        noun = one.text.split()[-1] if one.text.split()[-1] in kind_of_noun else None
        noun = noun or next((word for word in one.text.split() if word in kind_of_noun), None)
        if noun is None:
            continue
        words = one.text.split()
        by_other = words[0] == "#O"
        if "picks up" in one.text and "puts" not in words and "washes" not in words:
            narrated_events[noun].append(("cause", one.middle_s, int(by_other)))
        elif words[2] in ("opens", "closes"):
            narrated_events[noun].append(("cause", one.middle_s, int(words[2] == "closes")))
        else:
            other = any(word in one.text for word in ("another person", "the man", "closed"))
            narrated_events[noun].append(("moment", one.middle_s, int(other)))
    return narrated_events


def test_the_narration_of_a_moment_follows_from_the_cause_of_its_object(videos):
    checked = 0
    for video in videos[0]:
        for events in _causes_and_moments(video).values():
            assert [kind for kind, *_ in events] == (["cause", "moment"] * len(events))[: len(events)]
            for (_, cause_s, cause), (_, moment_s, narrated) in zip(events[::2], events[1::2], strict=False):
                assert SHORTEST_DELAY_S <= moment_s - cause_s <= LONGEST_DELAY_S
                assert narrated == cause
                checked += 1
            for (_, moment_s, _), (_, again_s, _) in zip(events[1::2], events[2::2], strict=False):
                assert again_s - moment_s >= 30.0
    assert checked > 1000


def test_features_of_a_moment_do_not_depend_on_the_cause(videos):
    seen = defaultdict(set)
    for video in videos[0]:
        for one in video.events:
            (span,) = one.spans
            assert (span.start_s, span.end_s) == (one.start_s, one.end_s)
            if not any(word in one.text for word in ("opens", "closes", "#O")) and "C picks up" not in one.text:
                seen[span.action].add(one.text)
    for kind in KINDS:
        for actions in (seen[action] for action in seen if action.nouns[0] == kind.nouns[1]):
            assert len(actions) == 4  # two causes in two phrases each


def test_causes_are_balanced_and_choices_differ_in_them_only(videos):
    training, asked = videos
    test = {video.uid for video in training if video.metadata["split_em"] == "val"}
    assert {question.video for question in asked} <= test
    assert len(test) == 40
    for kind in KINDS:
        mine = [question for question in asked if question.group == kind.group]
        share = np.mean([question.answer for question in mine])
        assert abs(share - 0.5) < 4 * 0.5 / len(mine) ** 0.5
        assert all(len(question.choices) == 2 for question in mine)
    narrated = {one.text for video in training for one in video.events}
    by_past = [question for question in asked if question.group != "now"]
    assert all(set(question.choices) <= narrated for question in by_past)
    now = [question for question in asked if question.group == "now"]
    assert set(Counter(question.answer for question in now)) == {0, 1, 2, 3}
    assert len(now) == len(by_past)


def test_causes_of_neighbours_are_independent(videos):
    causes = defaultdict(list)
    for question in videos[1]:
        if question.group != "now":
            causes[question.video].append(question.answer)
    pairs = [(a, b) for of in causes.values() for a, b in pairwise(of)]
    first, second = np.array(pairs).T
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / len(pairs) ** 0.5


def test_files_of_the_dataset_and_reuse(tmp_path):
    counts = _TINY.make(tmp_path, seed=1, progress=False)
    described = json.loads((tmp_path / "ego4d" / "ego4d.json").read_text())["videos"]
    narrated = json.loads((tmp_path / "ego4d" / "narration.json").read_text())
    assert [video["split_em"] for video in described] == ["train", "train", "val"]
    assert set(narrated) == {video["video_uid"] for video in described}
    assert {path.stem for path in (tmp_path / "ego4d" / "features").glob("*.pt")} == set(narrated)
    questions = read_questions(tmp_path / "ego4d" / "questions.json")
    assert {question.video for question in questions} == {described[2]["video_uid"]}
    assert counts["questions"] == Counter(question.group for question in questions)
    assert counts["narrations"] == sum(len(one["narration_pass_1"]["narrations"]) for one in narrated.values())
    before = (tmp_path / "dataset.json").read_bytes()
    assert _TINY.make(tmp_path, seed=1, progress=False) == counts
    assert (tmp_path / "dataset.json").read_bytes() == before
    with pytest.raises(InputError, match="other settings"):
        SyntheticLongTerm().make(tmp_path, seed=1, progress=False)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("max_pending=0", "max_pending must be in 1 … 6, got 0"),
        ("max_pending=7", "max_pending must be in 1 … 6, got 7"),
        ("test_videos=0", "test_videos must be in 1"),
        ("shortest_s=30", "need 60 <= shortest_s"),
        ("feature_dtype=int8", "feature_dtype must be one of"),
        ("maxpending=3", "Did you mean 'max_pending'"),
    ],
)
def test_invalid_settings(tmp_path, caplog, option, message):
    assert main(["long_term_dataset", f"out={tmp_path / 'data'}", option]) == 1
    assert message in caplog.text
    assert not (tmp_path / "data").exists()


def test_six_pending_objects_never_run_out():
    videos, _ = SyntheticLongTerm(training_videos=30, test_videos=1, max_pending=6).videos(seed=0)
    assert min(len(video.events) for video in videos) > 40
